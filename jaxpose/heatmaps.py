"""Soft-argmax, joint probability and the aggregation of context maps (section 3.2, eqs. 1-6)."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Grid = Literal["half_pixel", "align_corners", "paper"]


def soft_argmax(heatmap, *, temperature=1.0, grid: Grid = "half_pixel"):
    """Expected position of heat maps: [..., H, W] logits to [..., 2] (x, y)."""
    if grid not in get_args(Grid):
        raise ValueError(f"grid={grid!r} is unknown; give one of {', '.join(get_args(Grid))}")
    return _soft_argmax(jnp.asarray(heatmap), temperature, grid)


def joint_logit(heatmap):
    """Maximum of each map, the logit of its joint's probability: [..., H, W] to [...]."""
    heatmap = jnp.asarray(heatmap)
    return jnp.max(heatmap.astype(_at_least_float32(heatmap)), axis=(-2, -1))


def joint_probability(heatmap):
    """Probability that a joint is in the picture: sigmoid of its map's maximum."""
    return jax.nn.sigmoid(joint_logit(heatmap))


def aggregate_context(part, context, context_logits, *, alpha=0.8):
    """Position of each joint from its part map and its context maps (eq. 6)."""
    weights = jax.nn.softmax(jax.nn.log_sigmoid(context_logits), axis=-1)
    return alpha * part + (1 - alpha) * jnp.sum(weights[..., None] * context, axis=-2)


@partial(jax.jit, static_argnames="grid")
def _soft_argmax(heatmap, temperature, grid):
    logits = heatmap.astype(_at_least_float32(heatmap))
    # The maximum goes first: dividing logits of 1e4 would round away what matters.
    logits = logits - lax.stop_gradient(jnp.max(logits, axis=(-2, -1), keepdims=True))
    temperature = jnp.asarray(temperature, logits.dtype)
    return _softmax_and_expectation(grid, logits / temperature[..., None, None])[1]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _softmax_and_expectation(grid, logits):
    return _fused(grid)(logits)


@_softmax_and_expectation.defjvp
def _tangent(grid, primals, tangents):
    (logits,), (step,) = primals, tangents
    probability, position = _softmax_and_expectation(grid, logits)
    y, x = _ramps(grid, logits.shape, logits.dtype)
    flow = probability * step
    mean = jnp.sum(flow, axis=(-2, -1), keepdims=True)
    change = [
        jnp.sum(flow * (x - position[..., 0, None, None]), axis=(-2, -1)),
        jnp.sum(flow * (y - position[..., 1, None, None]), axis=(-2, -1)),
    ]
    return (probability, position), (flow - probability * mean, jnp.stack(change, axis=-1))


def _fused(grid):
    @jax.custom_batching.custom_vmap
    def fused(logits):
        weight = jnp.exp(logits)
        y, x = _ramps(grid, logits.shape, logits.dtype)
        moments = np.stack(np.broadcast_arrays(np.ones_like(x), x, y), axis=-1)
        total, *position = jnp.moveaxis(
            jnp.einsum("...hw,hwk->...k", weight, moments, precision="highest"), -1, 0
        )
        position = jnp.stack([p / total for p in position], axis=-1)
        return weight / total[..., None, None], position

    @fused.def_vmap
    def batched(axis_size, in_batched, logits):
        return fused(logits), (True, True)

    return fused


def _ramps(grid, shape, dtype):
    """Columns' x [1, W] and rows' y [H, 1]."""
    height, width = shape[-2:]
    return _ramp(grid, height, dtype)[:, None], _ramp(grid, width, dtype)[None]


def _ramp(grid, size, dtype):
    index = np.arange(size)
    if grid == "half_pixel":
        return ((index + 0.5) / size).astype(dtype)
    if grid == "paper":
        return ((index + 1) / size).astype(dtype)
    return (index / max(size - 1, 1)).astype(dtype)


def _at_least_float32(array):
    return jnp.promote_types(array.dtype, jnp.float32)
