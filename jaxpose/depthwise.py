"""Depthwise convolution: each channel has its own small kernel; fast forward and backward on CPUs.

`lax.conv_general_dilated(feature_group_count=C)` computes the same, tens of times slower on a CPU.
Here a CPU computes a sum of shifted slices of the padded array, which XLA fuses into one loop. The
gradient of the input is the same sum with the kernel flipped; the gradient of the kernel is one
scan over the images.

This file imports only JAX and jaxlib and can be copied into another project as it is.
"""

import functools

import jax
import jax.numpy as jnp
import jaxlib.version
from jax import lax

IMPLEMENTATIONS = ("shift", "conv")

# Columns whose products one iteration of the kernel's gradient adds up. More of them amortise the
# accumulator's traffic, and take longer to compile.
_COLUMNS = 16

# XLA made slow code of fewer columns, as narrow maps have, until jaxlib 0.12.
_NARROW_IS_SLOW = jaxlib.version.__version_info__ < (0, 12)


def depthwise_conv(
    x: jax.Array, kernel: jax.Array, *, implementation: str | None = None
) -> jax.Array:
    """Convolve each channel of x with its own kernel: stride 1, zero padding to the same size.

    Equals `lax.conv_general_dilated(x, kernel[:, :, None], (1, 1), "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=C)` and its gradients. Sums are
    taken in float32 at least, whatever the dtype. Works under jit, grad, vmap, pmap, shard_map.

    Args:
      x: [B, H, W, C].
      kernel: [kh, kw, C], x's dtype; odd kh and kw. Not turned (cross-correlation).
      implementation: "shift" (a sum of shifted slices, on any platform), "conv" (XLA's grouped
        convolution), or None: "shift" on CPUs, "conv" elsewhere, chosen when the program is lowered
        for its platform. "conv" supports forward mode and derivatives of any order; "shift" and
        None support reverse mode, once.

    Returns:
      [B, H, W, C], x's dtype.

    Raises:
      ValueError: shapes, dtypes or the implementation's name do not fit.

    >>> x = jnp.ones((1, 3, 3, 1))
    >>> depthwise_conv(x, jnp.ones((3, 3, 1)))[0, :, :, 0]
    Array([[4., 6., 4.],
           [6., 9., 6.],
           [4., 6., 4.]], dtype=float32)
    """
    _check(x, kernel, implementation)
    if implementation == "conv" or x.size == 0:
        return _grouped(x, kernel)
    return _depthwise(implementation, *_same_axes(x, kernel))


def _check(x, kernel, implementation):
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation is {implementation!r}; it must be one of {IMPLEMENTATIONS} or None"
        )
    if x.ndim != 4 or kernel.ndim != 3 or x.shape[-1] != kernel.shape[-1]:
        raise ValueError(
            f"x {x.shape} and kernel {kernel.shape} do not fit; they must be [B, H, W, C] and "
            "[kh, kw, C]"
        )
    if kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise ValueError(f"kernel is {kernel.shape[0]}x{kernel.shape[1]}; both must be odd")
    if x.dtype != kernel.dtype:
        raise ValueError(f"x is {x.dtype} and kernel {kernel.dtype}; cast one of them")


def _same_axes(x, kernel):
    """Both arrays varying over the same axes of a shard_map, so that each cotangent does too.

    Under shard_map a custom gradient must vary over devices exactly as its argument. A choice
    between the two that never takes the other makes it so, in any version of JAX, at no cost.
    """
    axes = [getattr(jax.typeof(each), "vma", None) for each in (x, kernel)]
    if axes[0] is not None and axes[0] == axes[1]:
        return x, kernel  # mixed, both would be mapped wherever a vmap maps one
    one, other = lax.stop_gradient((x[:1, :1, :1], kernel[:1, :1]))
    return jnp.where(False, other[None], x), jnp.where(False, jnp.sum(one), kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _depthwise(implementation, x, kernel):
    if implementation == "shift":
        return _shifted_sum(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=_shifted_sum, default=_grouped)


def _depthwise_forward(implementation, x, kernel):
    return _depthwise(implementation, x, kernel), (x, kernel)


def _depthwise_backward(implementation, residuals, cotangent):
    arguments = *residuals, cotangent
    if implementation == "shift":
        return _shift_gradients(*arguments)
    return lax.platform_dependent(*arguments, cpu=_shift_gradients, default=_grouped_gradients)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _grouped(x, kernel):
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _grouped_gradients(x, kernel, cotangent):
    return jax.vjp(_grouped, x, kernel)[1](cotangent)


def _sum_dtype(x):
    return jnp.promote_types(x.dtype, jnp.float32)


def _padded(x, kernel_shape):
    """x with a border of zeros, as an array in memory.

    Without the barrier XLA recomputes the padding, and whatever feeds it, at every tap: twice the
    time on a CPU.
    """
    rows, columns = (size // 2 for size in kernel_shape[:2])
    x = jnp.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    return lax.optimization_barrier(x)


# jit, so that layers of the same shape are traced and lowered once.


@jax.jit
def _shifted_sum(x, kernel):
    rows, columns, _ = kernel.shape
    height, width = x.shape[1:3]
    padded = _padded(x, kernel.shape)
    wide = kernel.astype(_sum_dtype(x))
    taps = [
        padded[:, i : i + height, j : j + width].astype(wide.dtype) * wide[i, j]
        for i in range(rows)
        for j in range(columns)
    ]
    return sum(taps[1:], taps[0]).astype(x.dtype)


def _shift_gradients(x, kernel, cotangent):
    turned = jnp.flip(kernel, (0, 1))
    return _shifted_sum(cotangent, turned), _kernel_gradient(x, kernel, cotangent)


@jax.jit
def _kernel_gradient(x, kernel, cotangent):
    """Gradient of the kernel: for each tap the sum of shifted x times the cotangent.

    One scan over blocks of columns, of one picture or of several narrow ones. For each row of the
    kernel it adds up the products of one block's columns, for every row of the picture and every
    tap of the kernel's row, so that its data stay in the cache; the picture's rows are summed last,
    as a product with ones.
    As 25 reductions of the whole arrays it takes ten times as long, and with the sums of all the
    kernel's rows in one array, which makes them one loop with a branch, half as long again.
    """
    rows, columns, channels = kernel.shape
    batch, height, width, _ = x.shape
    blocks = -(-width // _COLUMNS)
    block = -(-width // blocks)
    pictures = _pictures_together(batch, block)
    excess = ((0, 0), (0, 0), (0, blocks * block - width), (0, 0))
    padded = _padded(jnp.pad(x, excess), kernel.shape)
    cotangent = jnp.pad(cotangent, excess)
    dtype = _sum_dtype(x)

    def add(totals, index):
        start = (index // blocks * pictures, 0, index % blocks * block, 0)
        size = (pictures, height + rows - 1, block + columns - 1, channels)
        values = lax.dynamic_slice(padded, start, size).astype(dtype)
        factors = lax.dynamic_slice(cotangent, start, (pictures, height, block, channels))
        factors = factors.astype(dtype)
        products = [
            [
                values[picture, i : i + height, w : w + columns] * factors[picture, :, w, None]
                for picture in range(pictures)
                for w in range(block)
            ]
            for i in range(rows)
        ]
        return [sum(row, total) for total, row in zip(totals, products, strict=True)], None

    # rows times [H, kw, C]; zeros that vary over the axes of a shard_map as x and the kernel do.
    zero = jnp.broadcast_to(jnp.zeros_like(kernel[:1], dtype), (height, columns, channels))
    totals, _ = lax.scan(add, [zero] * rows, jnp.arange(batch // pictures * blocks))
    flat = jnp.stack(totals).reshape(rows, height, columns * channels)
    sums = jnp.einsum("h,ihc->ic", jnp.ones(height, dtype), flat)
    return sums.reshape(kernel.shape).astype(kernel.dtype)


def _pictures_together(batch, block):
    """Pictures of one iteration: the fewest that have _COLUMNS columns and divide the batch.

    One where that would be more than three times as many columns.
    """
    if not _NARROW_IS_SLOW or not isinstance(batch, int):  # symbolic in exports
        return 1
    fits = (n for n in range(1, batch + 1) if batch % n == 0 and n * block >= _COLUMNS)
    fewest = next(fits, 1)
    return fewest if fewest * block <= 3 * _COLUMNS else 1
