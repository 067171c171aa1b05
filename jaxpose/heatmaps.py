"""Soft-argmax, joint probability and aggregation of context maps: section 3.2 of the paper.

Luvizon, Tabia, Picard, "Human Pose Regression by Combining Indirect Part Detection and Contextual
Information", 2019, equations 1 to 6, and related functions, for maps of one to three dimensions.
This file needs JAX and nothing else: copy it, or write ``from jaxpose import soft_argmax``, which
loads no other part of the package. Contents, in file order:

- positions: ``soft_argmax``, ``soft_argmax_with_covariance``, ``local_soft_argmax``;
- the softmax and the expectation on their own: ``spatial_softmax``, ``spatial_log_softmax``,
  ``spatial_expectation``; conversion between the coordinate conventions of libraries:
  ``convert_grid``;
- a joint's probability, and its position from several maps: ``joint_logit``,
  ``joint_probability``, ``aggregate_context``;
- private functions that compute positions and their derivatives: scaled logits, weights with their
  derivative rule, moments as sums over rows and columns.

Heat maps are logits, any real numbers; positions are (x, y) in [0, 1], x to the right, y down::

    (0, 0)                        (1, 0)
       +------+------+------+------+      one map of H = 3 rows and W = 4 columns;
       |  *   |  *   |  *   |  *   |      a cell is 1/W wide and 1/H high, and with
       +------+------+------+------+      grid="half_pixel" its position is its center:
       |  *   |  *   |  *   |  *   |      column i, row j at ((i + 0.5) / W, (j + 0.5) / H)
       +------+------+------+------+
       |  *   |  *   |  *   |  *   |
       +------+------+------+------+
    (0, 1)                        (1, 1)
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

Grid = Literal["half_pixel", "align_corners", "paper"]

_GRIDS = {  # position of index i among n cells
    "half_pixel": lambda i, n: (i + 0.5) / n,
    "align_corners": lambda i, n: i / (n - 1).clip(1),
    "paper": lambda i, n: (i + 1) / n,
}
_FOREIGN_GRIDS = {  # additional conventions that `convert_grid` accepts
    "index": lambda i, n: 1.0 * i,
    "dsntnn": lambda i, n: (2 * i + 1) / n - 1,
    "integral_regression": lambda i, n: i / n - 0.5,
    "kornia": lambda i, n: 2 * i / (n - 1).clip(1) - 1,
    "torch_align_corners": lambda i, n: 2 * i / (n - 1).clip(1) - 1,
    "torch": lambda i, n: (2 * i + 1) / n - 1,
}

# Lower bound of logits / temperature in derivatives, so that derivatives stay finite where a logit
# is -inf. The weight exp(-1000) is 0 in float32 and float64.
_LOWEST_LOGIT = -1e3

_AXES = {1: "[..., W]", 2: "[..., H, W]", 3: "[..., D, H, W]"}


def soft_argmax(
    heatmap: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    grid: Grid = "half_pixel",
    spatial_ndim: int = 2,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Compute the expected position under a heat map's softmax (eqs. 1 to 4).

    This is a differentiable argmax.

    With p = softmax(heatmap / temperature) over all H * W cells of one map::

        x = sum_ij p[j, i] * X[i],   y = sum_ij p[j, i] * Y[j]
        dx / dheatmap[j, i] = p[j, i] * (X[i] - x) / temperature

    Args:
      heatmap: logits [..., H, W], of any floating or integer type and any magnitude, such as
        ±1e4; -inf excludes a cell. ``jax.vmap``, nested to any depth and with any ``in_axes``,
        compiles to one fused operation over all maps, without a loop or a transposed copy:
        ``jax.vmap(soft_argmax, in_axes=-1, out_axes=1)`` decodes maps [B, H, W, M] into [B, M, 2].
      temperature: positive; a scalar, or an array that broadcasts with the leading axes. It divides
        the logits: below 1 the result moves toward the highest cell, above 1 toward the mean
        position of all cells. It may be traced, for example to learn it; only concrete values are
        checked.
      grid: position of column i = 0 to W - 1 (likewise for rows and slices). "half_pixel":
        (i + 0.5) / W, the center of the cell. "align_corners": i / (W - 1), with the first and last
        cells on the edges of the map; the authors' weights need this one. "paper": (i + 1) / W, as
        in equation 3. ``convert_grid`` converts to the conventions of other libraries.
      spatial_ndim: number N of trailing axes that belong to one map: 1 for [..., W], 2 for
        [..., H, W], 3 for volumes [..., D, H, W].
      where: booleans that broadcast to ``heatmap``; cells where it is False are ignored. A map
        without any True cell gives the mean position of all cells, with gradient 0.

    Returns:
      [..., N]: (x,), (x, y) or (x, y, z), x along the last axis of the map, normalized by the map's
      size; float32, or float64 for a float64 map. To get pixels, multiply by the (width, height) of
      the image that the map covers.

    Raises:
      ValueError: too few axes, a map without cells, an unknown grid, a ``where`` that is not
        boolean or does not broadcast, or a temperature that does not broadcast or is concrete and
        not positive in the dtype of the result.

    ``soft_argmax`` works under jit, vmap, grad, jvp, jacfwd, jacrev, hessian, checkpoint, scan,
    pmap and shard_map, and needs no communication if each map is on one device.

    Three things to know:

    - It takes logits. Probabilities lie between 0 and 1, so their softmax is almost flat, and the
      result is close to the center of the map. Use ``spatial_expectation`` for probabilities, or
      take their logarithm first.
    - Every cell counts. A peak of height h on a background of 0 gets the fraction
      e^h / (e^h + H * W - 1) of the probability, and the result lies about that fraction of the way
      from the center of the map to the peak. On a 32 x 32 map with h = 7, it lies halfway. A
      network trained through the soft-argmax learns sufficiently high peaks; other maps need a
      lower temperature, or ``local_soft_argmax``.
    - For two equal peaks, the result is the point between them; ``find_peaks`` finds both.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxpose import soft_argmax
      >>> heatmap = jnp.zeros((32, 32)).at[8, 24].set(30.0)  # row 8, column 24
      >>> print(soft_argmax(heatmap))
      [0.765625 0.265625]
      >>> def cell(position):
      ...     return (32 * position - 0.5).round(1)  # (column, row)
      >>> print(cell(soft_argmax(heatmap)))
      [24.  8.]
      >>> probability = jnp.exp(heatmap) / jnp.exp(heatmap).sum()
      >>> print(cell(soft_argmax(probability)))  # wrong, probabilities: the center of the map
      [15.5 15.5]
      >>> print(cell(soft_argmax(jnp.log(probability))))
      [24.  8.]
      >>> print(cell(soft_argmax(heatmap / 4)))  # a low peak is pulled to the center
      [20.9 10.7]
      >>> print(cell(soft_argmax(heatmap / 4, temperature=0.25)))
      [24.  8.]
      >>> volume = jnp.zeros((4, 8, 8)).at[3, 0, 6].set(30.0)
      >>> print(soft_argmax(volume, spatial_ndim=3))  # (x, y, z)
      [0.8125 0.0625 0.875 ]
    """
    heatmap, where = _checked(heatmap, temperature, grid, spatial_ndim, where)
    return _soft_argmax(heatmap, temperature, where, grid=grid, ndim=spatial_ndim)


def soft_argmax_with_covariance(
    heatmap: ArrayLike,
    *,
    size: ArrayLike | Sequence[float] | None = None,
    temperature: ArrayLike = 1.0,
    grid: Grid = "half_pixel",
    spatial_ndim: int = 2,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Compute the mean and covariance of the position under a heat map's softmax.

    The entries of the covariance are the map's second central moments; the one of x and y is
    sum_ij p[j, i] (X[i] - x)(Y[j] - y). The covariance is a differentiable measure of how spread
    out the map is, and in which direction. Both results come from one pass over the map.

    Args:
      heatmap: logits [..., H, W], as in ``soft_argmax``.
      size: (width, height), or (width, height, depth), of the image that the map covers, in pixels:
        [N], or [..., N] for one size per map. If given, both results are in pixels; to get cells,
        give the size of the map. If None, both results are normalized.
      temperature: positive; a scalar, or an array that broadcasts with the leading axes.
      grid: where the cells lie, as in ``soft_argmax``.
      spatial_ndim: number N of trailing axes that belong to one map: 1, 2 or 3.
      where: booleans that broadcast to ``heatmap``; cells where it is False are ignored.

    Returns:
      The mean position [..., N], equal to that of ``soft_argmax``, in the order (x, y, z), and the
      symmetric covariance [..., N, N] in the same order, in squared units of the mean; float32, or
      float64 for a float64 map.

    Raises:
      ValueError: for the same reasons as ``soft_argmax``, or if the last axis of ``size`` is not N
        or the others do not broadcast with the leading axes.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from jaxpose import soft_argmax_with_covariance
      >>> heatmap = jnp.zeros((4, 8)).at[1, 2:4].set(50.0)  # two equal cells side by side
      >>> mean, covariance = soft_argmax_with_covariance(heatmap)
      >>> print(mean)
      [0.375 0.375]
      >>> mean, covariance = soft_argmax_with_covariance(heatmap, size=(640, 320))
      >>> print(mean)
      [240. 120.]
      >>> print(np.asarray(covariance).round(1))  # 40 pixels to each side, only along x
      [[1600.    0.]
       [   0.    0.]]
    """
    heatmap, where = _checked(heatmap, temperature, grid, spatial_ndim, where)
    mean, covariance = _soft_argmax(
        heatmap, temperature, where, grid=grid, ndim=spatial_ndim, second=True
    )
    if size is None:
        return mean, covariance
    size = jnp.asarray(size).astype(mean.dtype)
    if size.shape[-1:] != (spatial_ndim,):
        raise ValueError(f"size has shape {size.shape}; give {spatial_ndim} numbers, width first")
    _check_leading("size[..., 0]", size.shape[:-1], mean.shape[:-1])
    area = size[..., :, None] * size[..., None, :]
    return jnp.multiply(*same_rank(mean, size)), jnp.multiply(*same_rank(covariance, area))


def local_soft_argmax(
    heatmap: ArrayLike,
    *,
    window: int = 5,
    temperature: ArrayLike = 1.0,
    grid: Grid = "half_pixel",
    spatial_ndim: int = 2,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Apply the soft-argmax to a window around each map's highest cell.

    A second peak or a wide background outside the window has no influence. The window is centered
    at the maximum. Derivatives treat the window's position as constant; within the window, they are
    those of ``soft_argmax``.

    Args:
      heatmap: logits [..., H, W], as in ``soft_argmax``.
      window: side of the window in cells, odd; it is clipped at the edges of the map.
      temperature: positive; a scalar, or an array that broadcasts with the leading axes.
      grid: where the cells lie, as in ``soft_argmax``.
      spatial_ndim: number N of trailing axes that belong to one map: 1, 2 or 3.
      where: booleans that broadcast to ``heatmap``; cells where it is False are ignored.

    Returns:
      [..., N] (x, y, z), normalized; float32, or float64 for a float64 map. If several cells share
      the maximum, the window is around the first of them in row-major order.

    Raises:
      ValueError: for the same reasons as ``soft_argmax``, or if ``window`` is not a positive odd
        number.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxpose import local_soft_argmax, soft_argmax
      >>> heatmap = jnp.zeros((32, 32)).at[8, 24].set(9.0).at[20, 4].set(8.9)
      >>> print((32 * soft_argmax(heatmap) - 0.5).round(1))  # between the peaks
      [14.6 13.8]
      >>> print((32 * local_soft_argmax(heatmap) - 0.5).round(1))
      [24.  8.]
    """
    heatmap, where = _checked(heatmap, temperature, grid, spatial_ndim, where)
    if not isinstance(window, int | np.integer) or window < 1 or window % 2 == 0:
        raise ValueError(f"window={window!r} is not a positive odd number; use one such as 3 or 5")
    near = _near_maximum(heatmap, where, int(window) // 2, spatial_ndim)
    return _soft_argmax(heatmap, temperature, near, grid=grid, ndim=spatial_ndim)


@partial(jax.jit, static_argnames=("radius", "ndim"))
def _near_maximum(heatmap, where, radius, ndim):
    """Mask of the cells that are at most `radius` cells from the first maximum along every axis."""
    heatmap = lax.stop_gradient(heatmap)
    if where is not None:
        heatmap = jnp.where(where, heatmap, -jnp.inf)
    mask = jnp.ones_like(heatmap, bool) if where is None else where
    for axis, highest in enumerate(_maximum_index(heatmap, ndim), start=1):
        index = lax.broadcasted_iota(jnp.int32, heatmap.shape, heatmap.ndim - axis)
        center = highest.reshape(highest.shape + (1,) * ndim)
        mask &= jnp.abs(index - _over_map(center, heatmap, ndim)) <= radius
    return mask


def argmax_index(heatmap: jax.Array, spatial_ndim: int = 2) -> jax.Array:
    """Return the index of each map's maximum, in the order (x, y, z).

    Args:
      heatmap: [..., H, W].
      spatial_ndim: number N of trailing axes that belong to one map.

    Returns:
      [..., N] int32: (column, row) for two axes.

    Example:
      >>> import jax.numpy as jnp
      >>> print(argmax_index(jnp.array([[0.0, 1.0, 7.0], [2.0, 3.0, 4.0]])))
      [2 0]
    """
    return jnp.stack(_maximum_index(heatmap, spatial_ndim), axis=-1)


def _maximum_index(heatmap, ndim):
    """Column, row, ... of each map's first maximum: N arrays [...] of int32."""
    sizes = heatmap.shape[-ndim:]
    cells = heatmap.reshape(heatmap.shape[:-ndim] + (math.prod(sizes),))
    # jax2onnx 0.17.1 cannot convert jnp.unravel_index (a remainder and a gather) with a symbolic
    # batch size, and its jnp.argmax reduces the wrong axis under vmap.
    flat = lax.argmax(cells, cells.ndim - 1, jnp.int32)
    index = []
    for size in sizes[::-1]:
        line = lax.div(flat, jnp.int32(size))
        index.append(flat - size * line)
        flat = line
    return index


def spatial_softmax(
    heatmap: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    spatial_ndim: int = 2,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Compute the softmax over all cells of each map.

    Args:
      heatmap: logits [..., H, W], as in ``soft_argmax``.
      temperature: positive; a scalar, or an array that broadcasts with the leading axes.
      spatial_ndim: number of trailing axes that belong to one map: 1, 2 or 3.
      where: booleans that broadcast to ``heatmap``; cells where it is False get 0. A map without
        any True cell gets equal probabilities.

    Returns:
      Probabilities [..., H, W] that sum to 1 over each map; float32, or float64 for a float64 map.

    Raises:
      ValueError: for the same reasons as ``soft_argmax``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxpose import spatial_softmax
      >>> print(spatial_softmax(jnp.log(jnp.array([[1.0, 2.0], [3.0, 4.0]]))))
      [[0.1 0.2]
       [0.3 0.4]]
    """
    heatmap, where = _checked(heatmap, temperature, "half_pixel", spatial_ndim, where)
    return _spatial_softmax(heatmap, temperature, where, ndim=spatial_ndim, log=False)


def spatial_log_softmax(
    heatmap: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    spatial_ndim: int = 2,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Compute the log of ``spatial_softmax``, accurate even where the probability underflows.

    Args:
      heatmap: logits [..., H, W], as in ``soft_argmax``.
      temperature: positive; a scalar, or an array that broadcasts with the leading axes.
      spatial_ndim: number of trailing axes that belong to one map: 1, 2 or 3.
      where: booleans that broadcast to ``heatmap``; cells where it is False get -inf, except in a
        map without any other cell, which gets the log of equal probabilities.

    Returns:
      [..., H, W]; float32, or float64 for a float64 map.

    Raises:
      ValueError: for the same reasons as ``soft_argmax``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxpose import spatial_log_softmax
      >>> print(spatial_log_softmax(jnp.array([[0.0, -500.0]])))
      [[   0. -500.]]
    """
    heatmap, where = _checked(heatmap, temperature, "half_pixel", spatial_ndim, where)
    return _spatial_softmax(heatmap, temperature, where, ndim=spatial_ndim, log=True)


@partial(jax.jit, static_argnames=("ndim", "log"))
def _spatial_softmax(heatmap, temperature, where, *, ndim, log):
    logits = _scaled_logits(heatmap, temperature, where, ndim)
    weight = jnp.exp(logits)
    total = _of_map(jnp.sum, weight, ndim)
    if log:
        return logits - _over_map(jnp.log(total), logits, ndim)
    return weight / _over_map(total, weight, ndim)


def spatial_expectation(
    probability: ArrayLike,
    *,
    grid: Grid = "half_pixel",
    spatial_ndim: int = 2,
) -> jax.Array:
    """Compute the expected position under maps that are already probabilities.

    ``spatial_expectation(spatial_softmax(heatmap))`` equals ``soft_argmax(heatmap)``, which is
    faster.

    Args:
      probability: [..., H, W], each map with sum 1. The function does not normalize the maps:
        the result is linear in the map, so a map with sum s gives s times the expected position.
      grid: where the cells lie, as in ``soft_argmax``.
      spatial_ndim: number N of trailing axes that belong to one map: 1, 2 or 3.

    Returns:
      [..., N] (x, y, z), normalized; float32, or float64 for a float64 map.

    Raises:
      ValueError: too few axes, a map without cells or an unknown grid.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxpose import spatial_expectation
      >>> print(spatial_expectation(jnp.array([[0.0, 0.5], [0.0, 0.5]])))
      [0.75 0.5 ]
    """
    probability, _ = _checked(probability, 1.0, grid, spatial_ndim, None)
    return _spatial_expectation(probability, grid=grid, ndim=spatial_ndim)


@partial(jax.jit, static_argnames=("grid", "ndim"))
def _spatial_expectation(probability, *, grid, ndim):
    lines = _lines(probability, ndim, keep=lax.optimization_barrier)
    return jnp.stack(_first_moments(lines, _ramps(grid, probability, ndim)), axis=-1)


def convert_grid(
    position: ArrayLike, shape: tuple[int, ...], *, source: str, target: str
) -> jax.Array:
    """Convert positions between the heat-map coordinate conventions of different libraries.

    Position of cell i of n = W columns (likewise for rows and slices) in each convention:

    ===================== ===================== ==================================================
    name                  position              used by
    ===================== ===================== ==================================================
    half_pixel            (i + 1/2) / n         this package
    align_corners         i / (n - 1)           the authors' code of the paper
    paper                 (i + 1) / n           equation 3 of the paper
    index                 i                     kornia with ``normalized_coordinates=False``, COCO
    kornia                2 i / (n - 1) - 1     kornia with ``normalized_coordinates=True``
    dsntnn                (2 i + 1) / n - 1     dsntnn
    integral_regression   i / n - 1/2           integral regression (Sun et al., 2018)
    torch_align_corners   2 i / (n - 1) - 1     ``grid_sample`` with ``align_corners=True``
    torch                 (2 i + 1) / n - 1     ``grid_sample`` with ``align_corners=False``
    ===================== ===================== ==================================================

    Args:
      position: [..., N] in the order (x, y, z).
      shape: shape of the map: (W,), (H, W) or (D, H, W).
      source: name of the convention that the positions are in.
      target: name of the convention of the result.

    Returns:
      [..., N], at least float32.

    Raises:
      ValueError: an unknown name, or a shape that does not fit the positions.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxpose import convert_grid
      >>> center_of_first_cell = jnp.array([0.125, 0.0625])  # on a map of 8 rows, 4 columns
      >>> print(convert_grid(center_of_first_cell, (8, 4), source="half_pixel", target="index"))
      [0. 0.]
      >>> print(convert_grid(center_of_first_cell, (8, 4), source="half_pixel", target="dsntnn"))
      [-0.75  -0.875]
    """
    grids = _GRIDS | _FOREIGN_GRIDS
    for name in (source, target):
        if name not in grids:
            raise ValueError(f"grid {name!r} is unknown; give one of {', '.join(grids)}")
    (position,) = common_dtype(position)
    if position.shape[-1:] != (len(shape),) or min(shape, default=0) < 1:
        raise ValueError(
            f"positions {position.shape} do not fit a map of shape {tuple(shape)}; give positions "
            "[..., N] and a shape of N sizes, each 1 or more"
        )
    if source == target:
        return position
    # Every convention is affine in the index, so two cells determine the conversion.
    cells = np.array(shape[::-1], np.int64)
    zero, one = np.zeros(len(shape)), np.ones(len(shape))
    start, end = grids[source](zero, cells), grids[target](zero, cells)
    scale = (grids[target](one, cells) - end) / (grids[source](one, cells) - start)
    scale, offset = (jnp.asarray(x, position.dtype) for x in (scale, end - start * scale))
    position, scale, offset = same_rank(position, scale, offset)
    return position * scale + offset


def joint_logit(heatmap: ArrayLike, *, spatial_ndim: int = 2) -> jax.Array:
    """Compute the logit of a joint's probability: its map's maximum (section 3.2.2).

    Args:
      heatmap: logits [..., H, W]; -inf excludes a cell.
      spatial_ndim: number of trailing axes that belong to one map: 1, 2 or 3.

    Returns:
      [...], at least float32. Compute losses from the logit: cross entropy is numerically stable
      for logits, not for probabilities.

    Raises:
      ValueError: too few axes, or a map without cells.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxpose import joint_logit
      >>> print(joint_logit(jnp.array([[-3.0, 2.0], [0.5, 1.0]])))
      2.0
    """
    # Without the barrier, XLA merges this maximum with the one that soft_argmax subtracts and reads
    # the maps an extra time. With it, XLA computes this maximum in the same pass as the exponential
    # (CPU, [16, 48, 32, 32]: 0.5 instead of 0.7 ms).
    maps = checked_maps(heatmap, spatial_ndim=spatial_ndim)
    return jnp.max(lax.optimization_barrier(maps), axis=tuple(range(-spatial_ndim, 0)))


def joint_probability(heatmap: ArrayLike, *, spatial_ndim: int = 2) -> jax.Array:
    """Compute the probability that a joint is in the image (section 3.2.2).

    It is the sigmoid of ``joint_logit``, the map's maximum.

    Args:
      heatmap: logits [..., H, W]; -inf excludes a cell.
      spatial_ndim: number of trailing axes that belong to one map: 1, 2 or 3.

    Returns:
      [...] in [0, 1], at least float32.

    Raises:
      ValueError: too few axes, or a map without cells.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxpose import joint_probability
      >>> print(joint_probability(jnp.array([[-9.0, 0.0], [-5.0, -1.0]])))
      0.5
    """
    return jax.nn.sigmoid(joint_logit(heatmap, spatial_ndim=spatial_ndim))


def aggregate_context(
    part: ArrayLike,
    context: ArrayLike,
    context_logits: ArrayLike,
    *,
    alpha: ArrayLike = 0.8,
) -> jax.Array:
    """Combine the positions from each joint's part map and context maps (eq. 6).

    With p = sigmoid(context_logits)::

        y = alpha * part + (1 - alpha) * sum_c p[c] * context[c] / sum_c p[c]

    The weights p[c] / sum p are computed as the softmax of log p. This gives the same value without
    a division by zero: if every probability underflows to 0, the weights depend on the differences
    between the logits, and the result and its gradients stay finite.

    Args:
      part: [..., J, 2] (x, y), ``soft_argmax`` of the J part maps.
      context: [..., J, C, 2] (x, y), ``soft_argmax`` of each joint's C context maps.
      context_logits: [..., J, C], ``joint_logit`` of the context maps.
      alpha: weight of the part map, in [0, 1]; 0.8 in the paper.

    Returns:
      [..., J, 2] in the unit of the positions, at least float32; ``part`` itself if C is 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxpose import aggregate_context
      >>> part = jnp.array([[0.5, 0.5]])  # one joint
      >>> context = jnp.array([[[0.6, 0.5], [0.9, 0.1]]])  # two context maps
      >>> print(aggregate_context(part, context, jnp.array([[50.0, -50.0]])))
      [[0.52 0.5 ]]
    """
    part, context, logits, alpha = common_dtype(part, context, context_logits, alpha)
    if context.shape[-2] == 0:
        return part
    # If all logits of a joint were -inf, its weights would be NaN.
    logits = jnp.maximum(logits, jnp.finfo(logits.dtype).min)
    weights = jax.nn.softmax(jax.nn.log_sigmoid(logits), axis=-1)
    mean = jnp.sum(jnp.multiply(*same_rank(weights[..., None], context)), axis=-2)
    part, mean, alpha = same_rank(part, mean, alpha)
    return alpha * part + (1 - alpha) * mean


# How positions and their derivatives are computed


@partial(jax.jit, static_argnames=("grid", "ndim", "second"))
def _soft_argmax(heatmap, temperature, where, *, grid, ndim, second=False):
    """Position [..., N], and with ``second`` the covariance [..., N, N]."""
    logits = _scaled_logits(heatmap, temperature, where, ndim)
    _, _, position, *covariance = _expectation(grid, ndim, second, logits)
    return (position, *covariance) if second else position


def _scaled_logits(heatmap, temperature, where, ndim):
    """(logits - maximum of the map) / temperature: 0 in the highest cell of each map."""
    if where is not None:
        heatmap = jnp.where(where, heatmap, -jnp.inf)
    highest = _over_map(_of_map(jnp.max, lax.stop_gradient(heatmap), ndim), heatmap, ndim)
    # Subtract the maximum before dividing: dividing first would lose the significant differences
    # between logits around 1e4.
    if where is None:
        logits = heatmap - highest
    else:  # a fully masked map is treated as flat: finite result, zero gradient
        nothing = highest == -jnp.inf
        logits = jnp.where(nothing, 0, heatmap - jnp.where(nothing, 0, highest))
    temperature = jnp.asarray(temperature, logits.dtype)
    # A scalar stays a scalar: broadcasting it would store an array of the maps' size for the
    # backward pass.
    if temperature.ndim:
        temperature = temperature.reshape(temperature.shape + (1,) * ndim)
        logits, temperature = same_rank(logits, temperature)
    return _scaled(logits, temperature)


@jax.custom_jvp
def _scaled(logits, temperature):
    """Logits / temperature.

    Has a custom derivative rule: the rule of a division contains x / temperature**2, which is not
    finite for logits of -inf or temperatures below 1e-19.
    """
    return logits / temperature


@partial(_scaled.defjvp, symbolic_zeros=True)
def _scaled_tangent(primals, tangents):
    scaled, (_, temperature) = _scaled(*primals), primals
    of_logits, of_temperature = tangents
    step = of_logits
    if not isinstance(of_temperature, SymbolicZero):
        step = -jnp.maximum(scaled, _LOWEST_LOGIT) * of_temperature
        if not isinstance(of_logits, SymbolicZero):
            step = of_logits + step
    return scaled, jnp.broadcast_to(step / temperature, scaled.shape)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _expectation(grid, ndim, second, logits):
    """Weights exp(logits) [..., H, W], their sum [...] and the mean position [..., N]; logits <= 0.

    With ``second``, also returns the covariance [..., N, N] of the position. ``custom_vmap`` does
    not support reverse mode. The ``custom_jvp`` around it adds reverse mode of any order, because
    the derivative rule calls this function again.
    """
    weight = jnp.exp(logits)
    moments = _moments(grid, ndim, second)
    for _ in logits.shape[:-ndim]:
        moments = jax.vmap(moments)
    return weight, *moments(weight)


@_expectation.defjvp
def _tangent(grid, ndim, second, primals, tangents):
    (logits,), (step,) = primals, tangents
    weight, total, position, *covariance = _expectation(grid, ndim, second, logits)
    ramps = _ramps(grid, logits, ndim)
    flow = weight * step
    # Rows and columns are summed first, so that reverse mode is one pass over the maps.
    lines, tilts = _marginals(flow, ramps) if second else (_lines(flow, ndim), {})
    inflow = jnp.sum(lines[0], axis=-1)
    apart = _apart(ramps, position)
    change = [jnp.sum(line * x, axis=-1) / total for line, x in zip(lines, apart, strict=True)]
    changes = [flow, inflow, jnp.stack(change, axis=-1)]
    if second:
        # To first order, E[(X - x)(Y - y)] does not depend on x and y. The entries are divided
        # individually, so that reverse mode divides once per map and not in every cell.
        entries = {
            (i, j): (entry - covariance[0][..., i, j] * inflow) / total
            for (i, j), entry in _central(lines, tilts, apart, position).items()
        }
        changes.append(_symmetric(entries, ndim))
    return (weight, total, position, *covariance), tuple(changes)


def _moments(grid, ndim, second):
    """Make the function that takes weights [H, W] and returns sum, mean position and covariance.

    Under vmap, the same function is applied to an array with more axes, so that nested vmaps
    compile to a few sums over all maps. Rows and columns are summed before they are weighted by the
    ramps, so no array as large as the maps is written to memory, and no float32 sum is longer than
    one side of the map. The barrier keeps XLA from merging the two steps into one sum over H * W
    cells: the position from such a sum is 2e-5 off on a 32 x 32 map.
    """

    def moments(weight):
        ramps = _ramps(grid, weight, ndim)
        if second:
            lines, tilts = _marginals(weight, ramps, in_one_pass=True)
        else:
            lines = _lines(weight, ndim, lax.optimization_barrier)
        # Divide each moment by the total of the same line: both have the same rounding errors.
        totals = [jnp.sum(line, axis=-1) for line in lines]
        means = map(jnp.divide, _first_moments(lines, ramps), totals)
        total, position = totals[-1], jnp.stack(list(means), axis=-1)
        if not second:
            return total, position
        central = _central(lines, tilts, _apart(ramps, position), position)
        return total, position, _symmetric(central, ndim) / total[..., None, None]

    one_map = jax.custom_batching.custom_vmap(moments)
    results = (True,) * (3 if second else 2)
    one_map.def_vmap(lambda axis_size, in_batched, weight: (moments(weight), results))
    return one_map


def _lines(array, ndim, keep=lambda line: line):
    """Sums of array [..., D, H, W] over all spatial axes but one: [..., W], [..., H], [..., D]."""
    lines = []
    for left in range(ndim - 1, -1, -1):
        line = array
        for _ in range(left):
            line = keep(jnp.sum(line, axis=-2))
        lines.append(line)
        if left:
            array = keep(jnp.sum(array, axis=-1))
    return lines


def _first_moments(lines, ramps):
    """For each axis, the dot product of its `_lines` [..., W] and `_ramps` [W]: N arrays [...]."""
    return [
        jnp.sum(jnp.multiply(*same_rank(line, ramp)), axis=-1)
        for line, ramp in zip(lines, ramps, strict=True)
    ]


def _apart(ramps, position):
    """Coordinates of the cells minus the position: X - x [..., W], Y - y [..., H] and so on."""
    return [jnp.subtract(*same_rank(ramp, position[..., i, None])) for i, ramp in enumerate(ramps)]


def _marginals(array, ramps, *, in_one_pass=False):
    """Return `_lines`, and for pairs (i, j) the marginal along axis j of the array times X_i - 1/2.

    The axes are summed one after the other, i before j. The weight X_i - 1/2 does not depend on the
    result of another sum, unlike X_i - x_i. ``in_one_pass`` reads the shared inputs of several sums
    only once. It starts with the outermost axis, so that the innermost loop runs over the last
    axis. This variant has no derivative. (Time of the soft-argmax with covariance, as a multiple of
    the time without it, on a CPU: for maps [16, 48, 32, 32], 1.0 in one pass and 1.25 otherwise;
    for maps [16, 32, 32, 48] under vmap, 1.6 in one pass and 1.2 otherwise.)
    """
    ndim = len(ramps)
    keep = lax.optimization_barrier if in_one_pass else lambda line: line
    lines, tilts, tilted = {}, {}, {}
    for left in range(ndim, 0, -1):  # number of axes not summed yet
        j, axis, other = (left - 1, -left, -1) if in_one_pass else (ndim - left, -1, -2)

        def line(each, left=left, other=other):
            for _ in range(left - 1):
                each = keep(jnp.sum(each, axis=other))
            return each

        lines[j] = line(array)
        tilts |= {(i, j): line(tilt) for i, tilt in tilted.items()}
        if left > 1:
            weight = ramps[j] - jnp.asarray(0.5, array.dtype)
            weight = weight.reshape((-1,) + (1,) * (-axis - 1))
            tilted[j] = jnp.multiply(*same_rank(array, weight))
            sums = _sums_in_one_pass if in_one_pass else _sums
            array, *rest = sums([array, *tilted.values()], axis)
            tilted = dict(zip(tilted, rest, strict=True))
    return [lines[j] for j in range(ndim)], tilts


def _sums(arrays, axis):
    """Sums of several arrays of one shape over an axis."""
    return [jnp.sum(array, axis=axis) for array in arrays]


def _sums_in_one_pass(arrays, axis):
    """`_sums` as a single reduction, which XLA compiles to one loop."""
    return lax.reduce(
        arrays,
        [np.zeros((), array.dtype) for array in arrays],
        lambda left, right: [a + b for a, b in zip(left, right, strict=True)],
        (arrays[0].ndim + axis,),
    )


def _central(lines, tilts, apart, position):
    """For pairs i <= j, the sum of an array times (X_i - x_i)(X_j - x_j), from its marginals.

    The difference between 1/2 and x_i is applied line by line, which avoids cancellation in the
    final sum.
    """
    found = {}
    for j, (line, x) in enumerate(zip(lines, apart, strict=True)):
        found[j, j] = jnp.sum(line * jnp.square(x), axis=-1)
    for (i, j), tilt in tilts.items():
        middle = position[..., i, None] - jnp.asarray(0.5, tilt.dtype)
        central = jnp.sum(apart[j] * (tilt - middle * lines[j]), axis=-1)
        found[min(i, j), max(i, j)] = central
    return found


def _symmetric(entries, ndim):
    """Symmetric matrices [..., N, N] from their entries [...] at (i, j) with i <= j."""
    rows = [
        jnp.stack([entries[min(i, j), max(i, j)] for j in range(ndim)], axis=-1)
        for i in range(ndim)
    ]
    return jnp.stack(rows, axis=-2)


# When an operation broadcasts, vmap moves the batch axis to the front. This makes a transposed copy
# of [B, H, W, M], which takes longer than the rest of the function. Since JAX 0.10, stack and tile
# keep the batch axis in place, so these two functions replace keepdims=True and broadcasting.


def _of_map(reduce, array, ndim):
    """Reduce over the last ndim axes with keepdims=True: [..., H, W] to [..., 1, 1]."""
    for axis in range(1, ndim + 1):
        array = jnp.stack([reduce(array, axis=-axis)], axis=-1)
    return array


def _over_map(value, array, ndim):
    """Value [..., 1, 1] in every cell of array [..., H, W]."""
    return jnp.tile(value, (1,) * (array.ndim - ndim) + array.shape[-ndim:])


def _ramps(grid, array, ndim):
    """Coordinates X [W], Y [H], ... of the cells of array [..., H, W], in its dtype."""
    return [_ramp(grid, size, array.dtype) for size in array.shape[: -ndim - 1 : -1]]


def _ramp(grid, size, dtype):
    if isinstance(size, int):
        index, cells = np.arange(size), np.int64(size)
    else:  # symbolic, in an export
        index, cells = jnp.arange(size, dtype=dtype), jnp.asarray(size).astype(dtype)
    return _GRIDS[grid](index, cells).astype(dtype)


def _checked(heatmap, temperature, grid, ndim, where):
    """Check the arguments; return the map, at least float32, and the mask in its shape."""
    heatmap = checked_maps(heatmap, grid=grid, spatial_ndim=ndim)
    check_positive("temperature", temperature, heatmap.dtype)
    _check_leading("temperature", jnp.shape(temperature), heatmap.shape[:-ndim])
    return heatmap, _mask(where, heatmap)


def _check_leading(name, shape, leading):
    """Raise a ValueError if a shape does not broadcast with the leading axes."""
    try:
        jnp.broadcast_shapes(shape, leading)  # sizes may be symbolic
    except ValueError:
        raise ValueError(
            f"{name} of shape {shape} does not broadcast with the leading axes of the heatmap, "
            f"{leading}; use axes of size 1, such as [B, 1] for one value per image"
        ) from None


def _mask(where, heatmap):
    if where is None:
        return None
    where = jnp.asarray(where)
    if where.dtype != jnp.bool_:
        raise ValueError(f"where has dtype {where.dtype}; give booleans, such as where > 0")
    try:
        return jnp.broadcast_to(where, heatmap.shape)
    except ValueError:
        raise ValueError(
            f"where of shape {where.shape} does not broadcast to the heatmap's shape, "
            f"{heatmap.shape}"
        ) from None


# The functions below are public for use by other modules of the package. Types and ranks are
# explicit, so that the functions work under JAX's "strict" dtype promotion and with rank promotion
# disabled.


def check_positive(name: str, value: ArrayLike, dtype: np.dtype) -> None:
    """Raise a ValueError if a value is concrete (not traced) and not positive.

    Args:
      name: the argument's name.
      value: scalar or array.
      dtype: the dtype in which it is used.

    Example:
      >>> check_positive("sigma", 1.5, np.dtype("float32"))
    """
    try:
        values = np.asarray(jax.device_get(value), dtype)
    except (jax.errors.TracerArrayConversionError, RuntimeError):
        return  # traced, or distributed over several processes
    if not (values >= jnp.finfo(dtype).tiny).all():
        raise ValueError(f"{name}={value!r} is not positive in {dtype}; give a number above 0")


def checked_maps(
    heatmap: ArrayLike, *, grid: str = "half_pixel", spatial_ndim: int = 2
) -> jax.Array:
    """Check the arguments that all functions share and return the maps, at least float32.

    Args:
      heatmap: [..., H, W].
      grid: name of a grid, as in ``soft_argmax``.
      spatial_ndim: number N of trailing axes that belong to one map: 1, 2 or 3.

    Returns:
      [..., H, W]; float32, or float64 for a float64 map.

    Raises:
      ValueError: too few axes, a map without cells, an unknown grid, or an unsupported
        ``spatial_ndim``.

    Example:
      >>> import jax.numpy as jnp
      >>> print(checked_maps(jnp.array([[1, 2]])))
      [[1. 2.]]
    """
    if spatial_ndim not in _AXES:
        raise ValueError(f"spatial_ndim={spatial_ndim!r} is not 1, 2 or 3")
    (heatmap,) = common_dtype(heatmap)
    axes = _AXES[spatial_ndim]
    if heatmap.ndim < spatial_ndim:
        raise ValueError(f"heatmap has shape {heatmap.shape}; give {axes}")
    if 0 in heatmap.shape[-spatial_ndim:]:
        raise ValueError(f"heatmap of shape {heatmap.shape} has no cells; give {axes}")
    if grid not in _GRIDS:
        raise ValueError(f"grid={grid!r} is unknown; give one of {', '.join(_GRIDS)}")
    return heatmap


def common_dtype(*arrays: ArrayLike) -> list[jax.Array]:
    """Cast arrays to float64 if any of them is float64, otherwise to float32.

    Args:
      *arrays: arrays of any shape and type.

    Returns:
      The same number of arrays, of one type. Python scalars never promote the result to float64.

    Example:
      >>> import jax.numpy as jnp
      >>> [array.dtype.name for array in common_dtype(jnp.int8(1), 0.5)]
      ['float32', 'float32']
    """
    given = [jnp.asarray(array) for array in arrays]
    wide = any(array.dtype == jnp.float64 and not array.weak_type for array in given)
    return [array.astype(jnp.float64 if wide else jnp.float32) for array in given]


def same_rank(*arrays: jax.Array) -> list[jax.Array]:
    """Prepend axes of size one so that all arrays have the same rank.

    Args:
      *arrays: arrays of any shapes.

    Returns:
      The same number of arrays, all with the highest rank among them.

    Example:
      >>> import jax.numpy as jnp
      >>> [array.shape for array in same_rank(jnp.zeros((2, 3)), jnp.zeros(3))]
      [(2, 3), (1, 3)]
    """
    rank = max(array.ndim for array in arrays)
    return [
        array if array.ndim == rank else array.reshape((1,) * (rank - array.ndim) + array.shape)
        for array in arrays
    ]
