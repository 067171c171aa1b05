"""Peaks of heat maps: the highest cell with sub-pixel refinement, and several peaks of one map.

For maps trained on Gaussian targets (``gaussian_heatmap``) and not through the soft-argmax.
Needs JAX and ``jaxpose/heatmaps.py`` and nothing else: copy the two files, or import the functions
from ``jaxpose``. Coordinates as in ``jaxpose.heatmaps``: (x, y) or (x, y, z) in [0, 1].
"""

import itertools
import math
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxpose.heatmaps import Grid, argmax_index, checked_maps, convert_grid

Refinement = Literal["none", "quarter", "quadratic", "dark"]

_LOWEST_VALUE = 1e-10  # "dark" takes the logarithm of at least this value


class Peaks(NamedTuple):
    """Up to K peaks of each map, highest first.

    Attributes:
      position: [..., K, N] (x, y, z), normalized; 0 where ``valid`` is False.
      value: [..., K], the map at each peak's cell; -inf where ``valid`` is False.
      valid: [..., K] bool, True for the peaks that were found; these come first.
    """

    position: jax.Array
    value: jax.Array
    valid: jax.Array


def hard_argmax(
    heatmap: ArrayLike,
    *,
    refinement: Refinement = "quadratic",
    grid: Grid = "half_pixel",
    spatial_ndim: int = 2,
) -> jax.Array:
    """Find a map's highest cell and refine its position from the neighboring cells.

    Args:
      heatmap: [..., H, W]; -inf excludes a cell.
      refinement: how the position is refined. "none": not at all. "quarter": along each axis, a
        quarter of a cell toward the higher neighbor (Newell et al., 2016). "quadratic": along each
        axis, the vertex of the parabola through the cell and its two neighbors. "dark": one Taylor
        step on the logarithm of the map, with all mixed derivatives (Zhang et al.,
        "Distribution-Aware Coordinate Representation for Human Pose Estimation", 2020). This step
        is exact for a Gaussian of any orientation. Here, derivatives are differences over adjacent
        cells. "dark" expects non-negative values; smooth a noisy map first. If the highest cell
        lies at the edge of the map or next to an excluded cell along an axis, the position is not
        refined along this axis; next to one along a diagonal, the mixed derivative counts as 0.
      grid: where the cells lie, as in ``soft_argmax``.
      spatial_ndim: number N of trailing axes that belong to one map: 1, 2 or 3.

    Returns:
      [..., N] (x, y, z), normalized; float32, or float64 for a float64 map. The cell index has zero
      derivative; the offsets of "quadratic" and "dark" are differentiable.

    Raises:
      ValueError: too few axes, a map without cells, an unknown grid or refinement.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from jaxpose import gaussian_heatmap, hard_argmax
      >>> heatmap = gaussian_heatmap(jnp.array([0.41, 0.63]), (16, 16), 1.5)
      >>> for refinement in ("none", "quarter", "quadratic", "dark"):
      ...     print(np.asarray(hard_argmax(heatmap, refinement=refinement)).round(3))
      [0.406 0.656]
      [0.422 0.641]
      [0.41  0.631]
      [0.41 0.63]
    """
    heatmap = _checked(heatmap, refinement, grid, spatial_ndim)
    return _hard_argmax(heatmap, refinement, grid, spatial_ndim)


def find_peaks(
    heatmap: ArrayLike,
    count: int,
    *,
    window: int = 3,
    threshold: ArrayLike = -jnp.inf,
    refinement: Refinement = "quadratic",
    grid: Grid = "half_pixel",
    spatial_ndim: int = 2,
) -> Peaks:
    """Find the highest local maxima of each map, with non-maximum suppression.

    A cell is a peak if no cell of the window around it is higher, and none of the equally high ones
    comes before it in row-major order.

    Args:
      heatmap: [..., H, W]; -inf excludes a cell.
      count: number K of peaks to return (static); fewer may be valid.
      window: side of the window in cells, odd, at least 3. Any two peaks are at least
        (window + 1) / 2 cells apart along at least one axis.
      threshold: only cells with a value above it are peaks; a scalar, possibly traced.
      refinement: how each peak is refined, as in ``hard_argmax``.
      grid: where the cells lie, as in ``soft_argmax``.
      spatial_ndim: number N of trailing axes that belong to one map: 1, 2 or 3.

    Returns:
      ``Peaks``: positions [..., K, N], values [..., K] and which of them are valid [..., K].

    Raises:
      ValueError: for the same reasons as ``hard_argmax``, or if ``window`` is even or below 3, or
        ``count`` is below 1 or above the number of cells of a map.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxpose import find_peaks
      >>> heatmap = jnp.zeros((8, 8)).at[1, 2].set(5.0).at[1, 3].set(4.0).at[6, 5].set(3.0)
      >>> peaks = find_peaks(heatmap, 3, threshold=1.0, refinement="none")
      >>> print((8 * peaks.position - 0.5)[:2])  # (column, row); the shoulder is not a peak
      [[2. 1.]
       [5. 6.]]
      >>> print(peaks.value, peaks.valid)
      [  5.   3. -inf] [ True  True False]
    """
    maps = _checked(heatmap, refinement, grid, spatial_ndim)
    if not isinstance(window, int | np.integer) or window < 3 or window % 2 == 0:
        raise ValueError(f"window={window!r} is not an odd number above 1; use one such as 3 or 5")
    cells = int(np.prod(maps.shape[-spatial_ndim:]))
    if not isinstance(count, int | np.integer) or not 1 <= count <= cells:
        raise ValueError(f"count={count!r} is not between 1 and the {cells} cells of the map")
    return _find_peaks(maps, threshold, int(count), int(window), refinement, grid, spatial_ndim)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _hard_argmax(heatmap, refinement, grid, ndim):
    cell = argmax_index(lax.stop_gradient(heatmap), ndim)[..., None, :]
    return _positions(heatmap, cell, refinement, grid, ndim)[..., 0, :]


@partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def _find_peaks(heatmap, threshold, count, window, refinement, grid, ndim):
    threshold = jnp.asarray(threshold).astype(heatmap.dtype)
    if threshold.ndim:
        raise ValueError(f"threshold of shape {threshold.shape} is not a scalar; give one number")
    chosen = _is_peak(lax.stop_gradient(heatmap), window // 2, ndim) & (heatmap > threshold)
    flat = _flat(jnp.where(chosen, heatmap, -jnp.inf), ndim)
    value, index = lax.top_k(flat, count)
    valid = value > -jnp.inf
    cell = jnp.stack(jnp.unravel_index(index, heatmap.shape[-ndim:])[::-1], axis=-1)
    position = _positions(heatmap, cell, refinement, grid, ndim)
    return Peaks(jnp.where(valid[..., None], position, 0), value, valid)


def _flat(array, ndim):
    """Merge the last axes into one; -1 cannot be inferred beside an empty axis."""
    lead = array.shape[: array.ndim - ndim]
    return array.reshape((*lead, math.prod(array.shape[array.ndim - ndim :])))


def _is_peak(heatmap, radius, ndim):
    """Whether a cell exceeds the earlier cells of its window and no later one exceeds it."""
    lead, sizes = heatmap.ndim - ndim, heatmap.shape
    lowest = np.array(-np.inf, heatmap.dtype)
    peak = heatmap > lowest
    for axis in range(lead, heatmap.ndim):
        # Cells earlier in memory: the same index along earlier axes, a lower one along this axis,
        # and any index along later axes.
        window = [1] * axis + [radius] + [2 * radius + 1] * (heatmap.ndim - axis - 1)
        rest = [(radius, radius)] * (heatmap.ndim - axis - 1)
        for padding, start in (((radius, 0), 0), ((0, radius), 1)):
            beside = lax.reduce_window(
                heatmap, lowest, lax.max, window, [1] * heatmap.ndim,
                [(0, 0)] * axis + [padding] + rest,
            )  # fmt: skip
            beside = lax.slice_in_dim(beside, start, start + sizes[axis], axis=axis)
            peak &= (heatmap >= beside) if start else (heatmap > beside)
    return peak


def _positions(heatmap, cell, refinement, grid, ndim):
    """Normalized positions of cells [..., P, N] after refinement."""
    position = cell.astype(heatmap.dtype)
    if refinement != "none":
        around, known = _neighborhood(heatmap, cell, ndim)
        position += _OFFSETS[refinement](around, known)
    return convert_grid(position, heatmap.shape[-ndim:], source="index", target=grid)


def _neighborhood(heatmap, cell, ndim):
    """Values around each cell by offset (dx, dy, ...); whether the derivatives are known.

    Offsets are -1, 0 and 1. A neighbor outside the map gets the value of the nearest cell inside.
    An excluded neighbor gets the value of the cell itself. Entry [k][k] of the second result is
    whether both neighbors along axis k exist, entry [k][m] (m < k) whether all that the mixed
    derivative needs do.
    """
    sizes = heatmap.shape[: -ndim - 1 : -1]
    steps = list(itertools.product((-1, 0, 1), repeat=ndim))
    flat = jnp.zeros((*cell.shape[:-1], len(steps)), jnp.int32)
    for k, size in enumerate(sizes):
        along = np.array([step[k] for step in steps], np.int32)
        shifted = cell[..., k, None].astype(jnp.int32) + along.reshape(
            (1,) * (cell.ndim - 1) + (-1,)
        )
        flat += jnp.clip(shifted, 0, size - 1) * int(np.prod(sizes[:k]))
    values = jnp.take_along_axis(
        _flat(heatmap, ndim), _flat(flat, flat.ndim - heatmap.ndim + ndim), axis=-1
    ).reshape(flat.shape)
    middle = values[..., len(steps) // 2]
    present = jnp.isfinite(values)
    around = {
        step: jnp.where(present[..., i], values[..., i], jnp.where(jnp.isfinite(middle), middle, 0))
        for i, step in enumerate(steps)
    }
    known = []
    for k, size in enumerate(sizes):
        inside = (cell[..., k] > 0) & (cell[..., k] < size - 1)
        for sign in (-1, 1):
            inside &= present[..., steps.index(_step(ndim, {k: sign}))]
        mixed = [inside & row[-1] for row in known]
        for m, a, b in itertools.product(range(k), (-1, 1), (-1, 1)):
            mixed[m] &= present[..., steps.index(_step(ndim, {k: a, m: b}))]
        known.append([*mixed, inside])
    return around, known


def _step(ndim, steps):
    return tuple(steps.get(k, 0) for k in range(ndim))


def _along(around, k):
    """Values at the offsets -1, 0 and 1 along axis k."""
    ndim = len(next(iter(around)))
    return (around[_step(ndim, {k: sign})] for sign in (-1, 0, 1))


def _quarter_offset(around, known):
    offsets = []
    for k in range(len(known)):
        before, _, after = _along(around, k)
        offsets.append(jnp.where(known[k][k], jnp.sign(after - before) / 4, 0))
    return jnp.stack(offsets, axis=-1)


def _quadratic_offset(around, known):
    offsets = []
    for k in range(len(known)):
        before, at, after = _along(around, k)
        curvature = 2 * at - before - after
        curved = curvature > 0
        offset = (after - before) / (2 * jnp.where(curved, curvature, 1))
        offsets.append(jnp.where(known[k][k] & curved, jnp.clip(offset, -0.5, 0.5), 0))
    return jnp.stack(offsets, axis=-1)


def _dark_offset(around, known):
    """-H^-1 g of the log map, clipped to one cell; 0 if the Hessian is not negative definite."""
    ndim = len(known)
    around = {step: jnp.log(jnp.maximum(value, _LOWEST_VALUE)) for step, value in around.items()}
    gradient, curvature = [], [[None] * ndim for _ in range(ndim)]
    for k in range(ndim):
        before, at, after = _along(around, k)
        gradient.append(jnp.where(known[k][k], (after - before) / 2, 0))
        curvature[k][k] = jnp.where(known[k][k], 2 * at - before - after, 1)
        for m in range(k):
            mixed = sum(
                (-a * b / 4) * around[_step(ndim, {k: a, m: b})] for a in (-1, 1) for b in (-1, 1)
            )
            mixed = jnp.where(known[k][m], mixed, 0)
            curvature[k][m] = curvature[m][k] = mixed
    return jnp.clip(jnp.stack(_solved(curvature, gradient), axis=-1), -1, 1)


def _solved(matrix, vector):
    """The solution of a small symmetric linear system, as N arrays; 0 if not positive definite."""
    size, matrix, vector = len(vector), [list(row) for row in matrix], list(vector)
    definite = True
    for k in range(size):
        positive = matrix[k][k] > 0
        definite = positive & definite
        matrix[k][k] = jnp.where(positive, matrix[k][k], 1)
        for i in range(k + 1, size):
            factor = matrix[i][k] / matrix[k][k]
            vector[i] = vector[i] - factor * vector[k]
            matrix[i] = [a - factor * b for a, b in zip(matrix[i], matrix[k], strict=True)]
    for k in reversed(range(size)):
        known = sum((matrix[k][i] * vector[i] for i in range(k + 1, size)), 0)
        vector[k] = (vector[k] - known) / matrix[k][k]
    return [jnp.where(definite, entry, 0) for entry in vector]


_OFFSETS = {"quarter": _quarter_offset, "quadratic": _quadratic_offset, "dark": _dark_offset}


def _checked(heatmap, refinement, grid, ndim):
    """Check the arguments; return the map, at least float32."""
    known = get_args(Refinement)
    if refinement not in known:
        raise ValueError(f"refinement={refinement!r} is unknown; give one of {', '.join(known)}")
    return checked_maps(heatmap, grid=grid, spatial_ndim=ndim)
