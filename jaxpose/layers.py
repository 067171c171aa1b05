"""The network's layers as functions of arrays [B, H, W, C]: convolutions, pooling, batch norm.

Written to be fast on CPUs too. ``conv2d`` and ``max_pool`` have custom gradient rules and support
reverse mode only.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxpose.depthwise import explicit_axes, varying_axes


def conv2d(x: jax.Array, kernel: jax.Array, *, strides: int = 1) -> jax.Array:
    """Convolve x [B, H, W, I] with kernel [kh, kw, I, O]; TensorFlow's "same" padding.

    For example, with kernel 3 and stride 2, even sizes are padded only at the end, by one.
    Returns [B, ceil(H / strides), ceil(W / strides), O].
    """
    sharded = any(axes is not None for axes in explicit_axes(x))
    if sharded or varying_axes(x) != varying_axes(kernel):
        return _convolution(strides, x, kernel)
    return _conv2d(strides, x, kernel)


def pointwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve x [..., I] with a 1x1 kernel [I, O]; returns [..., O]."""
    # Flattened: for a 4-d product, XLA:CPU transposes the whole cotangent to compute the kernel's
    # gradient.
    flat = jnp.dot(x.reshape(-1, x.shape[-1]), kernel)
    return flat.reshape(*x.shape[:-1], kernel.shape[-1])


def max_pool(x: jax.Array, *, window: int, strides: int) -> jax.Array:
    """Take the maximum over square windows of x [B, H, W, C]; TensorFlow's "same" padding.

    The gradient goes to the first maximum of a window in row-major order, as in XLA.
    Returns [B, ceil(H / strides), ceil(W / strides), C].
    """
    return _max_pool(window, strides, x)


def upsample(x: jax.Array) -> jax.Array:
    """Upsample x [B, H, W, C] by 2 with nearest neighbors: [B, 2H, 2W, C]."""
    batch, height, width, channels = x.shape
    # One axis at a time: on meshes with Explicit axes, JAX cannot reshape two at once.
    x = jnp.broadcast_to(x[:, :, None], (batch, height, 2, width, channels))
    x = x.reshape(batch, 2 * height, width, channels)
    x = jnp.broadcast_to(x[:, :, :, None], (batch, 2 * height, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


@functools.partial(jax.jit, static_argnames=("epsilon", "axis_name"))  # traced once per shape
def batch_norm(
    x: jax.Array, beta: jax.Array, *, epsilon: float, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalize x [..., C] by its mean and variance over all axes but the last, then add beta [C].

    With ``axis_name``, the statistics are computed over all devices of that axis. Returns y (x's
    dtype), mean [C] and variance [C] (both at least float32, variance without Bessel's correction).
    """
    axes = tuple(range(x.ndim - 1))
    wide = x.astype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)
    mean = jnp.mean(wide, axes)
    square = jnp.mean(jnp.square(wide), axes)
    if axis_name is not None and lax.psum(1, axis_name) > 1:
        mean, square = lax.pmean((mean, square), axis_name)
    variance = jnp.maximum(square - jnp.square(mean), 0.0)
    # If y is written as one product and one sum, its gradient needs two reductions, sum(g) and
    # sum(g * x). For (x - mean) * scale + beta, it needs more reductions and twice the time.
    scale = lax.rsqrt(variance + epsilon)
    y = wide * per_channel(scale, x) + per_channel(beta - mean * scale, x)
    return y.astype(x.dtype), mean, variance


def per_channel(values: jax.Array, x: jax.Array) -> jax.Array:
    """Reshape values [C] to [1, ..., 1, C], the rank of x [..., C].

    They then broadcast even with rank promotion disabled.
    """
    return values.reshape((1,) * (x.ndim - 1) + values.shape)


def _same_padding(size, window, strides):
    """Padding (before, after) of one axis as in TensorFlow; the larger half is after."""
    total = max((-(-size // strides) - 1) * strides + window - size, 0)
    return total // 2, total - total // 2


def _taps(x, window, strides, fill):
    """The slice of padded x under each tap of the window, in row order: a list of [B, h, w, C]."""
    rows, columns = window
    height, width = x.shape[1:3]
    padding = _same_padding(height, rows, strides), _same_padding(width, columns, strides)
    if any(sum(pair) for pair in padding):
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
        x = lax.optimization_barrier(x)  # otherwise every tap recomputes the input of the padding
    height = (-(-height // strides) - 1) * strides + 1
    width = (-(-width // strides) - 1) * strides + 1
    return [
        x[:, i : i + height : strides, j : j + width : strides]
        for i in range(rows)
        for j in range(columns)
    ]


def _interleave(phases, height, width):
    """Merge phases [a][b] = x[a::s, b::s], each [B, h, w, C], into x [B, height, width, C]."""
    batch, h, w, channels = phases[0][0].shape
    strides = len(phases)
    rows = [jnp.stack(row, axis=3).reshape(batch, h, w * strides, channels) for row in phases]
    x = jnp.stack(rows, axis=2).reshape(batch, h * strides, w * strides, channels)
    return x[:, :height, :width]


def _phases(size, window, strides):
    """For each phase a of an axis, the taps that cover x[a::strides], as (tap, shift) pairs.

    x[strides * u + a] lies under tap `tap` of window u - shift.
    """
    before = _same_padding(size, window, strides)[0]
    return [
        [
            (tap, (tap - a - before) // strides)
            for tap in range(window)
            if (tap - a - before) % strides == 0
        ]
        for a in range(strides)
    ]


def _shifter(x, row_phases, column_phases, fill):
    """Return shifted(down, right), which shifts x [B, h, w, C] and fills with `fill`.

    Every shift that occurs in the phases is supported.
    """
    downs, rights = (
        [shift for phase in phases for _, shift in phase] for phases in (row_phases, column_phases)
    )
    top, left = max(downs), max(rights)
    padding = ((0, 0), (top, -min(downs)), (left, -min(rights)), (0, 0))
    padding = [(max(before, 0), max(after, 0)) for before, after in padding]
    padded = jnp.pad(x, padding, constant_values=fill)
    if any(sum(pair) for pair in padding):
        padded = lax.optimization_barrier(padded)
    _, height, width, _ = x.shape

    def shifted(down, right):
        row, column = padding[1][0] - down, padding[2][0] - right
        return padded[:, row : row + height, column : column + width]

    return shifted


# Max pooling. XLA's gradient (select and scatter) takes ten times PyTorch's time on CPUs. Here the
# forward rule saves the index of the maximum's tap, and the gradient compares it with each tap.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _max_pool(window, strides, x):
    return functools.reduce(jnp.maximum, _taps(x, (window, window), strides, -jnp.inf))


def _max_pool_forward(window, strides, x):
    taps = _taps(x, (window, window), strides, -jnp.inf)
    best, choice = taps[0], jnp.zeros_like(taps[0], jnp.int8)
    for i, tap in enumerate(taps[1:], 1):
        choice = jnp.where(tap > best, jnp.int8(i), choice)
        best = jnp.maximum(best, tap)
    choice = lax.optimization_barrier(choice)  # otherwise the backward pass recomputes it
    return best, (choice, jnp.zeros_like(x, shape=(0, *x.shape[1:3])))


def _max_pool_backward(window, strides, residuals, cotangent):
    choice, (_, height, width) = residuals[0], residuals[1].shape
    rows, columns = _phases(height, window, strides), _phases(width, window, strides)
    choices = _shifter(choice, rows, columns, -1)
    cotangents = _shifter(cotangent, rows, columns, 0)

    def phase(row_taps, column_taps):
        total = jnp.zeros_like(cotangent)
        for i, down in row_taps:
            for j, right in column_taps:
                chosen = choices(down, right) == i * window + j
                total = total + jnp.where(chosen, cotangents(down, right), 0)
        return total

    return (_interleave([[phase(i, j) for j in columns] for i in rows], height, width),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)

# Convolution. XLA:CPU converts gradient convolutions to the layout of its fast routine only outside
# loops. Inside a loop (a step that accumulates gradients), they take ten times as long. Here, the
# gradients are written in that layout.

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _convolution(strides, x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (strides, strides), "SAME", dimension_numbers=_LAYOUT
    )


_conv2d = jax.custom_vjp(_convolution, nondiff_argnums=(0,))


def _conv2d_forward(strides, x, kernel):
    return _conv2d(strides, x, kernel), (x, kernel)


def _conv2d_backward(strides, residuals, cotangent):
    def default(x, kernel, cotangent):
        return jax.vjp(functools.partial(_convolution, strides), x, kernel)[1](cotangent)

    return lax.platform_dependent(
        *residuals,
        cotangent,
        cpu=functools.partial(_convolution_gradients, strides),
        default=default,
    )


_conv2d.defvjp(_conv2d_forward, _conv2d_backward)


def _convolution_gradients(strides, x, kernel, cotangent):
    of_input, of_kernel = [], []  # (before, after): padding of rows and columns
    for size, window, steps in zip(
        x.shape[1:3], kernel.shape[:2], cotangent.shape[1:3], strict=True
    ):
        before = _same_padding(size, window, strides)[0]
        spread = (steps - 1) * strides + 1  # the cotangent's size with zeros between its cells
        of_input.append((window - 1 - before, size - spread + before))
        of_kernel.append((before, spread - size + window - 1 - before))
    convolve = functools.partial(
        lax.conv_general_dilated, window_strides=(1, 1), dimension_numbers=_LAYOUT
    )
    spacing = (strides, strides)
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    dx = convolve(cotangent, flipped, padding=of_input, lhs_dilation=spacing)
    # The gradient of the kernel is a sum over the batch, so the batch takes the role of the
    # channels.
    x, cotangent = x.transpose(3, 1, 2, 0), cotangent.transpose(1, 2, 0, 3)
    dk = convolve(x, cotangent, padding=of_kernel, rhs_dilation=spacing)
    return dx, dk.transpose(1, 2, 0, 3)
