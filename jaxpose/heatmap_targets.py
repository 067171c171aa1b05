"""Training targets for heat maps: Gaussians at the keypoints, over maps or over single axes.

Needs JAX and ``jaxpose/heatmaps.py`` and nothing else: copy the two files, or import the functions
from ``jaxpose``. Coordinates as in ``jaxpose.heatmaps``: (x, y) or (x, y, z) in [0, 1].
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxpose.heatmaps import Grid, check_positive, common_dtype, convert_grid

FARTHEST = 1e9  # cells; the square of a larger distance overflows in float32


def gaussian_heatmap(
    keypoints: ArrayLike,
    shape: tuple[int, ...],
    sigma: ArrayLike,
    *,
    norm: Literal["peak", "sum"] = "peak",
    grid: Grid = "half_pixel",
) -> jax.Array:
    """Draw a Gaussian around each keypoint, sampled at the centers of a map's cells.

    The Gaussian is centered at the keypoint itself, not at the cell that contains it, so a decoder
    that refines the maximum (``hard_argmax``) recovers the position.

    Args:
      keypoints: [..., N], normalized (x,), (x, y) or (x, y, z); values outside [0, 1] are allowed,
        and unlabeled keypoints may hold any finite value.
      shape: shape of one map: (W,), (H, W) or (D, H, W).
      sigma: standard deviation in cells; a scalar, or an array that broadcasts to ``keypoints``:
        (sigma_x, sigma_y) for one per axis, [..., 1] for one per keypoint.
      norm: "peak": value 1 at the keypoint (so at most 1 in a cell); "sum": each map sums to 1,
        even if the keypoint lies outside it.
      grid: where the cells lie, as in ``soft_argmax``.

    Returns:
      ``[..., *shape]``; float32, or float64 for float64 keypoints.

    Raises:
      ValueError: a shape that does not match the keypoints, an unknown grid or norm, or a concrete
        sigma that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from jaxpose import gaussian_heatmap
      >>> center = jnp.array([0.5, 0.5])  # between the two middle columns, in the middle row
      >>> print(np.asarray(gaussian_heatmap(center, (3, 4), 1.0)).round(2))
      [[0.2  0.54 0.54 0.2 ]
       [0.32 0.88 0.88 0.32]
       [0.2  0.54 0.54 0.2 ]]
      >>> print(gaussian_heatmap(center, (3, 4), 1.0, norm="sum").sum().round(3))
      1.0
    """
    if norm not in ("peak", "sum"):
        raise ValueError(f"norm={norm!r} is unknown; give peak or sum")
    if norm == "sum":
        return jnp.exp(gaussian_log_density(keypoints, shape, sigma, grid=grid))
    return jnp.exp(_outer_sum(_exponents(keypoints, shape, sigma, grid)))


def gaussian_log_density(
    keypoints: ArrayLike,
    shape: tuple[int, ...],
    sigma: ArrayLike,
    *,
    grid: Grid = "half_pixel",
) -> jax.Array:
    """Compute the logarithm of a Gaussian that sums to 1 over the cells of a map.

    It is finite even for keypoints far outside the map.

    Args:
      keypoints: [..., N], as in ``gaussian_heatmap``.
      shape: shape of one map, as in ``gaussian_heatmap``.
      sigma: standard deviation in cells; a scalar or an array, as in ``gaussian_heatmap``.
      grid: where the cells lie, as in ``soft_argmax``.

    Returns:
      ``[..., *shape]``; float32, or float64 for float64 keypoints.

    Raises:
      ValueError: a shape that does not match the keypoints, an unknown grid, or a concrete sigma
        that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> print(jnp.exp(gaussian_log_density(jnp.array([0.5]), (2,), 1.0)))
      [0.5 0.5]
    """
    exponents = _exponents(keypoints, shape, sigma, grid)
    return _outer_sum([jax.nn.log_softmax(exponent, axis=-1) for exponent in exponents])


def simcc_targets(
    keypoints: ArrayLike, shape: tuple[int, ...], sigma: ArrayLike, *, splits: int = 2
) -> tuple[jax.Array, ...]:
    """Make SimCC's 1-D targets: one Gaussian-smoothed distribution per coordinate.

    Li et al., "SimCC: a Simple Coordinate Classification Perspective for Human Pose Estimation",
    2022. The bins of an axis follow the half-pixel grid, so that ``soft_argmax(logits,
    spatial_ndim=1)`` decodes logits trained on these targets.

    Args:
      keypoints: [..., N], normalized (x, y) or (x, y, z).
      shape: shape of the input image in pixels: (H, W), or (D, H, W) for (x, y, z).
      sigma: standard deviation in bins; a scalar, or an array that broadcasts to ``keypoints``.
      splits: bins per pixel.

    Returns:
      N arrays: [..., W * splits] for x, [..., H * splits] for y, and so on. Each distribution sums
      to 1.

    Raises:
      ValueError: a shape that does not match the keypoints, ``splits`` below 1, or a concrete sigma
        that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from jaxpose import simcc_targets, soft_argmax
      >>> x, y = simcc_targets(jnp.array([0.3, 0.6]), (32, 24), 2.0)
      >>> print(x.shape, y.shape)
      (48,) (64,)
      >>> print(np.asarray(soft_argmax(jnp.log(y), spatial_ndim=1)).round(3))
      [0.6]
    """
    if not isinstance(splits, int | np.integer) or splits < 1:
        raise ValueError(f"splits={splits!r} is not a positive integer; give 1 or more")
    bins = tuple(size * splits for size in shape)
    exponents = _exponents(keypoints, bins, sigma, "half_pixel")
    return tuple(jax.nn.softmax(exponent, axis=-1) for exponent in exponents)


def _exponents(keypoints, shape, sigma, grid):
    """-(i - cell)^2 / (2 sigma^2) along x [..., W], along y [..., H] and so on."""
    cell = convert_grid(keypoints, tuple(shape), source=grid, target="index")
    (cell,) = common_dtype(cell)
    cell = jnp.clip(cell, -FARTHEST, FARTHEST)
    check_positive("sigma", sigma, cell.dtype)
    sigma = jnp.broadcast_to(jnp.asarray(sigma).astype(cell.dtype), cell.shape)
    exponents = []
    for axis, size in enumerate(shape[::-1]):
        index = jnp.arange(size, dtype=cell.dtype).reshape((1,) * (cell.ndim - 1) + (size,))
        scaled = (index - cell[..., axis, None]) / sigma[..., axis, None]
        exponents.append(-0.5 * jnp.square(scaled))
    return exponents


def _outer_sum(lines):
    """Sum of lines along x [..., W], y [..., H] and so on over every cell [..., H, W]."""
    ndim = len(lines)
    leading = lines[0].shape[:-1]
    total = None
    for axis, line in enumerate(lines):
        sides = [1] * ndim
        sides[ndim - 1 - axis] = line.shape[-1]
        line = line.reshape((*leading, *sides))
        total = line if total is None else total + line
    return total
