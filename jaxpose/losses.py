"""The paper's losses, unreduced, and the one masked mean that reduces them (section 3.2).

Every block of the network has both; `train_step` sums them over the blocks.
"""

import jax
import jax.numpy as jnp


def coordinate_loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Elastic-net distance of eq. 7: |d|_1 + |d|_2^2 of every joint.

    Args:
      prediction: [..., J, 2], (x, y) normalised to the crop.
      target: broadcastable to it; anything finite where there is no label.

    Returns:
      [..., J], to be averaged over the labelled joints (`masked_mean`).

    Example:
      >>> round(float(coordinate_loss(jnp.array([0.5, 0.5]), jnp.array([0.4, 0.7]))), 3)
      0.35
    """
    prediction, target = _alike(prediction, target)
    difference = prediction - target
    return jnp.sum(jnp.abs(difference) + jnp.square(difference), axis=-1)


def probability_loss(logit: jax.Array, labelled: jax.Array) -> jax.Array:
    """Binary cross entropy of eq. 8, from the logit: finite for any finite logit.

    Args:
      logit: [...], of a joint's probability.
      labelled: broadcastable to it, bool or in [0, 1]: whether the joint is in the crop.

    Returns:
      [...], to be averaged over the known joints (`masked_mean`).

    Example:
      >>> round(float(probability_loss(jnp.array(0.0), True)), 4)
      0.6931
    """
    target = jnp.broadcast_to(jnp.asarray(labelled, logit.dtype), logit.shape)
    return jax.nn.softplus(logit) - logit * target


def masked_mean(
    values: jax.Array,
    mask: jax.Array,
    *,
    count: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Sum of the values under the mask over the number of them; 0 where there are none.

    Args:
      values: [...], such as [K, B, J].
      mask: bool, of the values' last axes, such as [B, J]; leading axes are summed.
      count: the number to divide by, such as that of a whole batch of which this is a part; by
        default that of `mask`.
      axis_name: the number is summed over the devices of this axis. The values are not: the
        results of the devices add up to the mean over all, and so do their gradients.

    Returns:
      Scalar.

    Example:
      >>> float(masked_mean(jnp.array([1.0, 2.0, jnp.nan]), jnp.array([True, True, False])))
      1.5
    """
    if count is None:
        count = masked_count(mask, axis_name=axis_name)
    # where, not a product: a masked NaN or infinity must not come through.
    total = jnp.sum(jnp.where(jnp.broadcast_to(mask, values.shape), values, 0))
    return total / jnp.asarray(count).astype(total.dtype)


def masked_count(mask: jax.Array, *, axis_name: str | None = None) -> jax.Array:
    """How many are under the mask, at least 1; with `axis_name` over all its devices."""
    count = jnp.sum(mask)
    if axis_name is not None:
        count = jax.lax.psum(count, axis_name)
    return jnp.maximum(count, 1)


def _alike(prediction, target):
    """Both in the wider of their floating types and in the prediction's shape.

    Explicit, since projects switch implicit promotion off.
    """
    target = jnp.asarray(target)
    floating = jnp.issubdtype(target.dtype, jnp.floating)
    wider = floating and target.dtype.itemsize > prediction.dtype.itemsize
    dtype = target.dtype if wider else prediction.dtype
    return prediction.astype(dtype), jnp.broadcast_to(target.astype(dtype), prediction.shape)
