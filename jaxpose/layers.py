"""The network's layers as functions of arrays [B, H, W, C]: convolutions, pooling, batch norm."""

import jax
import jax.numpy as jnp
from jax import lax


def conv2d(x: jax.Array, kernel: jax.Array, *, strides: int = 1) -> jax.Array:
    """Convolve x [B, H, W, I] with kernel [kh, kw, I, O]; TensorFlow's "same" padding."""
    return lax.conv_general_dilated(
        x, kernel, (strides, strides), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def pointwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiply x [..., I] by kernel [I, O] at every position."""
    return jnp.dot(x, kernel)


def max_pool(x: jax.Array, *, window: int, strides: int) -> jax.Array:
    """Maximum over windows of x [B, H, W, C]; TensorFlow's "same" padding."""
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, window, window, 1), (1, strides, strides, 1), "SAME"
    )


def upsample(x: jax.Array) -> jax.Array:
    """Repeat rows and columns of x [B, H, W, C] twice: [B, 2H, 2W, C]."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


def batch_norm(x: jax.Array, beta: jax.Array, *, epsilon: float, axis_name: str | None = None):
    """Normalise x [..., C] by its own mean and variance over all axes but the last, add beta.

    Returns y (x's dtype), mean [C] and variance [C] (float32).
    """
    axes = tuple(range(x.ndim - 1))
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, axes)
    square = jnp.mean(jnp.square(wide), axes)
    if axis_name is not None:
        mean, square = lax.pmean((mean, square), axis_name)
    variance = jnp.maximum(square - jnp.square(mean), 0.0)
    y = (wide - mean) * lax.rsqrt(variance + epsilon) + beta
    return y.astype(x.dtype), mean, variance
