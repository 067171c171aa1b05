"""Soft-argmax, joint probability and aggregation of context maps: section 3.2 of the paper.

Luvizon, Tabia, Picard, "Human Pose Regression by Combining Indirect Part Detection and Contextual
Information", 2019, equations 1 to 6. This file needs JAX and nothing else: copy it, or write
``from jaxpose import soft_argmax``, which loads no other part of the package.

Heat maps are logits, any real numbers; positions are (x, y) in [0, 1], x to the right, y down:

    (0, 0)                        (1, 0)
       +------+------+------+------+      one map of H = 3 rows and W = 4 columns;
       |  *   |  *   |  *   |  *   |      a cell is 1/W wide and 1/H high, and with
       +------+------+------+------+      grid="half_pixel" its position is its centre:
       |  *   |  *   |  *   |  *   |      column i, row j at ((i + 0.5) / W, (j + 0.5) / H)
       +------+------+------+------+
       |  *   |  *   |  *   |  *   |
       +------+------+------+------+
    (0, 1)                        (1, 1)
"""

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

# In derivatives, logits over temperature are not let below this: they stay finite where a logit is
# -inf, and the weight exp(-1000) is 0 in float32 and float64.
_LOWEST_LOGIT = -1e3


def soft_argmax(
    heatmap: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    grid: Grid = "half_pixel",
) -> jax.Array:
    """Expected position of a heat map's softmax: the differentiable argmax (eqs. 1 to 4).

    With p = softmax(heatmap / temperature) over all H * W cells of one map::

        x = sum_ij p[j, i] * X[i],   y = sum_ij p[j, i] * Y[j]
        dx / dheatmap[j, i] = p[j, i] * (X[i] - x) / temperature

    Args:
      heatmap: logits [..., H, W], of any floating or integer type and any size, ±1e4 included; -inf
        excludes a cell. Any nesting of ``jax.vmap`` with any ``in_axes`` is one fused operation
        over all maps, without a loop, and keeps the position of a batch axis: maps [B, H, W, M] are
        decoded without a transposed copy by ``jax.vmap(soft_argmax, in_axes=-1, out_axes=1)``,
        giving [B, M, 2].
      temperature: positive; a scalar, or an array that broadcasts to the leading axes. It divides
        the logits: below 1 the result moves toward the highest cell, above 1 toward the mean of
        the grid. It may be traced and learned; only concrete values are checked.
      grid: where the cells lie. Over W columns, i = 0 to W - 1: "half_pixel" (i + 0.5) / W, the
        centres of the cells; "align_corners" i / (W - 1), the first and last cell on the edges,
        which the authors' weights need; "paper" (i + 1) / W, equation 3 to the letter.

    Returns:
      [..., 2] (x, y), normalised by the map's size; float32, or float64 for a float64 map.
      Multiply by (width, height) of the picture that the map covers to have pixels.

    Raises:
      ValueError: fewer than two axes, a map without cells, an unknown grid, or a temperature that
        is not traced and not positive in the type of the result.

    It works under jit, vmap, grad, jvp, jacfwd, jacrev, hessian, checkpoint, scan, pmap and
    shard_map, and needs no communication while H and W lie on one device.

    Three things to know:

    - It takes logits. Numbers that are already probabilities lie between 0 and 1, their softmax is
      almost flat, and the answer is the middle of the map. Take their logarithm first.
    - Every cell pulls. A peak of height h over a background at 0 holds e^h of e^h + H * W - 1
      parts, and the answer lies between peak and middle accordingly: on a 32 x 32 map h = 7 leaves
      half of the way. A network that is trained through it learns maps that are high enough; maps
      made otherwise want a lower temperature.
    - Two equal peaks give the point between them.

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
      >>> print(cell(soft_argmax(probability)))  # wrong, probabilities: the middle of the map
      [15.5 15.5]
      >>> print(cell(soft_argmax(jnp.log(probability))))
      [24.  8.]
      >>> print(cell(soft_argmax(heatmap / 4)))  # a low peak is pulled to the middle
      [20.9 10.7]
      >>> print(cell(soft_argmax(heatmap / 4, temperature=0.25)))
      [24.  8.]
    """
    heatmap = _maps(heatmap)
    if 0 in heatmap.shape[-2:]:
        raise ValueError(f"heatmap of shape {heatmap.shape} has no cells; give [..., H, W]")
    if grid not in _GRIDS:
        raise ValueError(f"grid={grid!r} is unknown; give one of {', '.join(_GRIDS)}")
    _check_temperature(temperature, heatmap.dtype)
    return _soft_argmax(heatmap, temperature, grid)


def joint_logit(heatmap: ArrayLike) -> jax.Array:
    """Logit of a joint's probability: its map's maximum (section 3.2.2).

    Args:
      heatmap: logits [..., H, W].

    Returns:
      [...], at least float32. Compute losses from it: the cross entropy of a logit is stable where
      that of a probability is not.

    Raises:
      ValueError: fewer than two axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxpose import joint_logit
      >>> print(joint_logit(jnp.array([[-3.0, 2.0], [0.5, 1.0]])))
      2.0
    """
    # Were this maximum the one that soft_argmax subtracts, XLA would compute it first and read the
    # maps once more; the barrier lets it take the other along with the exponential (CPU: -0.2 ms
    # of 0.7 for [16, 48, 32, 32]).
    return jnp.max(lax.optimization_barrier(_maps(heatmap)), axis=(-2, -1))


def joint_probability(heatmap: ArrayLike) -> jax.Array:
    """Probability that a joint is in the picture: sigmoid of its map's maximum (section 3.2.2).

    Args:
      heatmap: logits [..., H, W].

    Returns:
      [...] in [0, 1], at least float32.

    Raises:
      ValueError: fewer than two axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxpose import joint_probability
      >>> print(joint_probability(jnp.array([[-9.0, 0.0], [-5.0, -1.0]])))
      0.5
    """
    return jax.nn.sigmoid(joint_logit(heatmap))


def aggregate_context(
    part: ArrayLike,
    context: ArrayLike,
    context_logits: ArrayLike,
    *,
    alpha: ArrayLike = 0.8,
) -> jax.Array:
    """Position of each joint from its part map and its context maps (eq. 6).

    With p = sigmoid(context_logits)::

        y = alpha * part + (1 - alpha) * sum_c p[c] * context[c] / sum_c p[c]

    The weights p[c] / sum p are computed as the softmax of log p. That is the same number without
    a division by zero: where every probability is 0, the maps count by their logits' differences,
    and result and gradients are finite.

    Args:
      part: [..., J, 2] (x, y), what ``soft_argmax`` reads in the J part maps.
      context: [..., J, C, 2] (x, y), what it reads in the C context maps of each joint.
      context_logits: [..., J, C], ``joint_logit`` of the context maps.
      alpha: share of the part map, in [0, 1]; 0.8 in the paper.

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
    part, context, logits, alpha = _common_dtype(part, context, context_logits, alpha)
    if context.shape[-2] == 0:
        return part
    # A logit of -inf would leave a joint whose maps all have it without weights.
    logits = jnp.maximum(logits, jnp.finfo(logits.dtype).min)
    weights = jax.nn.softmax(jax.nn.log_sigmoid(logits), axis=-1)
    mean = jnp.sum(jnp.multiply(*_same_rank(weights[..., None], context)), axis=-2)
    part, mean, alpha = _same_rank(part, mean, alpha)
    return alpha * part + (1 - alpha) * mean


@partial(jax.jit, static_argnames="grid")
def _soft_argmax(heatmap: jax.Array, temperature: ArrayLike, grid: str) -> jax.Array:
    # The maximum goes before the division, which would round away what counts among logits of 1e4.
    logits = heatmap - _over_map(_of_map(jnp.max, lax.stop_gradient(heatmap)), heatmap)
    temperature = jnp.asarray(temperature, logits.dtype)
    if temperature.ndim:  # a scalar stays one, since an array of maps' size would be kept for it
        logits, temperature = _same_rank(logits, temperature[..., None, None])
    return _expectation(grid, _scaled(logits, temperature))[-1]


@jax.custom_jvp
def _scaled(logits, temperature):
    """Logits / temperature.

    It has its own rule, since that of the division, x / temperature**2, is not finite for logits of
    -inf and temperatures below 1e-19.
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


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _expectation(grid, logits):
    """Weights exp(logits) [..., H, W], their sum [...] and mean position [..., 2]; logits <= 0.

    The inner custom vmap alone has no reverse mode; the outer custom jvp gives it one, of every
    order, since its rule calls this function again.
    """
    weight = jnp.exp(logits)
    moments = _moments(grid)
    for _ in logits.shape[:-2]:
        moments = jax.vmap(moments)
    return weight, *moments(weight)


@_expectation.defjvp
def _tangent(grid, primals, tangents):
    (logits,), (step,) = primals, tangents
    weight, total, position = _expectation(grid, logits)
    x, y = _ramps(grid, logits)
    flow = weight * step
    # Rows and columns are summed first, so that the reverse mode is one pass over the maps.
    columns, rows = jnp.sum(flow, axis=-2), jnp.sum(flow, axis=-1)
    change = [
        jnp.sum(line * jnp.subtract(*_same_rank(ramp, position[..., i, None])), axis=-1) / total
        for i, (line, ramp) in enumerate(((columns, x), (rows, y)))
    ]
    return (weight, total, position), (flow, jnp.sum(columns, axis=-1), jnp.stack(change, axis=-1))


def _moments(grid):
    """The function from one map of weights [H, W] to their sum and their mean position [2].

    Its batching rule is the same function on more axes, so that any nesting of vmap stays two sums
    over all maps. Columns and rows are added up before the ramps weight them: nothing as large as
    the maps is written, and no float32 sum is longer than H or W. The barrier keeps XLA from
    merging the two steps into one sum over H * W cells, which is 2e-5 off on a 32 x 32 map.
    """

    def moments(weight):
        positions = []
        for axis, ramp in zip((-2, -1), _ramps(grid, weight), strict=True):
            line = lax.optimization_barrier(jnp.sum(weight, axis=axis))
            total = jnp.sum(line, axis=-1)
            positions.append(jnp.sum(jnp.multiply(*_same_rank(line, ramp)), axis=-1) / total)
        return total, jnp.stack(positions, axis=-1)

    one_map = jax.custom_batching.custom_vmap(moments)
    one_map.def_vmap(lambda axis_size, in_batched, weight: (moments(weight), (True, True)))
    return one_map


# vmap moves the batch axis of whatever it broadcasts to the front, and the maps with it: a copy of
# [B, H, W, M] that takes longer than all the rest. From JAX 0.10 on it leaves the axis of a stack
# and of a tile where it is, so these two do what keepdims=True and broadcasting do, and the maps
# stay put.


def _of_map(reduce, array):
    """reduce(array, axis=(-2, -1), keepdims=True): [..., H, W] to [..., 1, 1]."""
    rows = jnp.stack([reduce(array, axis=-1)], axis=-1)
    return jnp.stack([reduce(rows, axis=-2)], axis=-1)


def _over_map(value, array):
    """Copy value [..., 1, 1] to every cell of array [..., H, W]."""
    return jnp.tile(value, (1,) * (array.ndim - 2) + array.shape[-2:])


def _ramps(grid, array):
    """X [W] and Y [H] of the cells of array [..., H, W], in its type."""
    return [_ramp(grid, size, array.dtype) for size in array.shape[:-3:-1]]


def _ramp(grid, size, dtype):
    if isinstance(size, int):
        index, cells = np.arange(size), np.int64(size)
    else:  # symbolic, in an export
        index, cells = jnp.arange(size, dtype=dtype), jnp.asarray(size).astype(dtype)
    return _GRIDS[grid](index, cells).astype(dtype)


def _check_temperature(temperature, dtype):
    """Raise a ValueError unless a temperature that is not traced is positive."""
    try:
        values = np.asarray(jax.device_get(temperature), dtype)
    except (jax.errors.TracerArrayConversionError, RuntimeError):
        return  # traced, or spread over several processes
    if not (values >= jnp.finfo(dtype).tiny).all():
        raise ValueError(
            f"temperature={temperature!r} is not positive in {dtype}; give 1.0 or a number above 0"
        )


def _maps(heatmap: ArrayLike) -> jax.Array:
    (maps,) = _common_dtype(heatmap)
    if maps.ndim < 2:
        raise ValueError(f"heatmap has shape {maps.shape}; give [..., H, W]")
    return maps


# Explicit types and ranks, so that the functions work under JAX's "strict" dtype promotion and with
# rank promotion switched off.


def _common_dtype(*arrays: ArrayLike) -> list[jax.Array]:
    """The arrays as float64 where one of them is, else as float32."""
    given = [jnp.asarray(array) for array in arrays]
    wide = any(array.dtype == jnp.float64 and not array.weak_type for array in given)
    return [array.astype(jnp.float64 if wide else jnp.float32) for array in given]


def _same_rank(*arrays: jax.Array) -> list[jax.Array]:
    """The arrays with axes of size one in front of those that have fewer."""
    rank = max(array.ndim for array in arrays)
    return [
        array if array.ndim == rank else array.reshape((1,) * (rank - array.ndim) + array.shape)
        for array in arrays
    ]
