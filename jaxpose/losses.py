"""The paper's losses, unreduced, and the one masked mean that reduces them (section 3.2).

Every block of the network has both; `training.step` sums them over the blocks.
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


def heatmap_divergence(
    heatmaps: jax.Array,
    target: jax.Array,
    *,
    sigma: float = 1.0,
    temperature: float = 1.0,
) -> jax.Array:
    """Jensen-Shannon divergence of each map's softmax from a Gaussian at the target.

    It is 0 where the two agree and at most log 2 (0.693). As a regularizer it keeps a part map a
    localized detector whose maximum and expectation agree (Nibali et al., "Numerical Coordinate
    Regression with Convolutional Neural Networks", 2018, section 3.3.2).

    Args:
      heatmaps: logits [..., H, W, J].
      target: [..., J, 2], (x, y) in [0, 1] on the half-pixel grid, broadcastable; anything finite
        where there is no label.
      sigma: of the Gaussian, in cells of the map.
      temperature: divides the maps before the softmax.

    Returns:
      [..., J] float32, to be averaged over the labeled joints (`masked_mean`).

    Example:
      >>> flat = jnp.zeros((1, 1, 1))  # one cell holds everything, wherever the target is
      >>> float(heatmap_divergence(flat, jnp.array([[0.5, 0.5]]))[0])
      0.0
    """
    heatmaps = jnp.asarray(heatmaps, jnp.float32) / temperature
    rows, columns, _ = heatmaps.shape[-3:]
    target = jnp.asarray(target, jnp.float32)
    x = jnp.expand_dims(target[..., 0], (-3, -2)) * columns - 0.5
    y = jnp.expand_dims(target[..., 1], (-3, -2)) * rows - 0.5
    across = jnp.square(jnp.arange(columns, dtype=jnp.float32)[:, None] - x)
    down = jnp.square(jnp.arange(rows, dtype=jnp.float32)[:, None, None] - y)
    log_q = jax.nn.log_softmax(-(across + down) / (2 * sigma**2), axis=(-3, -2))
    log_p = jax.nn.log_softmax(heatmaps, axis=(-3, -2))
    log_m = jnp.logaddexp(log_p, log_q) - jnp.log(jnp.float32(2))
    terms = jnp.exp(log_p) * (log_p - log_m) + jnp.exp(log_q) * (log_q - log_m)
    return jnp.sum(terms, axis=(-3, -2)) / 2


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
      count: scalar to divide by, such as the count of a whole batch of which this is a part; by
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
    """Count the true entries of a mask, at least 1.

    Args:
      mask: bool [...].
      axis_name: the count is summed over the devices of this axis.

    Returns:
      Scalar, int32.

    Example:
      >>> int(masked_count(jnp.array([True, False, True])))
      2
    """
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
