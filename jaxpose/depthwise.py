"""Depthwise convolution: each channel has its own small kernel; fast forward and backward on CPUs.

``lax.conv_general_dilated(feature_group_count=C)`` computes the same values, but is tens of times
slower on a CPU. Here, CPUs compute a sum of shifted slices of the padded array, which XLA fuses
into one loop. The gradient of the input is the same sum with the kernel flipped; the gradient of
the kernel is one scan over the images.

This file imports only JAX and jaxlib and can be copied into another project as it is.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import jaxlib.version
from jax import lax
from jax.sharding import AxisType

IMPLEMENTATIONS = ("shift", "conv")

# Columns summed per iteration of the kernel gradient. With more columns, the accumulator is read
# and written less often, but compiling takes longer.
_COLUMNS = 16

# Before jaxlib 0.12, XLA generates slow code for fewer columns, so one iteration processes several
# narrow images.
_NARROW_IS_SLOW = jaxlib.version.__version_info__ < (0, 12)


def depthwise_conv(
    x: jax.Array, kernel: jax.Array, *, implementation: str | None = None
) -> jax.Array:
    """Convolve each channel of x with its own kernel: stride 1, zero padding to the same size.

    Equals ``lax.conv_general_dilated(x, kernel[:, :, None], (1, 1), "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=C)`` and its gradients. Sums are
    accumulated in at least float32, whatever the dtype. It works under jit, grad, vmap, pmap and
    shard_map, and on meshes with Auto or Explicit axes (see ``docs/depthwise_conv.md``).

    Args:
      x: [B, H, W, C].
      kernel: [kh, kw, C], same dtype as x; odd kh and kw. Not flipped (cross-correlation).
      implementation: "shift" (a sum of shifted slices, on any platform), "conv" (XLA's grouped
        convolution), or None. None selects "shift" on CPUs and "conv" elsewhere, when the program
        is lowered for its platform. "conv" supports forward mode and derivatives of any order;
        "shift" and None support first-order reverse mode only.

    Returns:
      [B, H, W, C], same dtype as x.

    Raises:
      ValueError: shapes or dtypes do not match, or the implementation is unknown.
      TypeError: forward-mode differentiation of an implementation other than "conv".

    >>> x = jnp.ones((1, 3, 3, 1))
    >>> depthwise_conv(x, jnp.ones((3, 3, 1)))[0, :, :, 0]
    Array([[4., 6., 4.],
           [6., 9., 6.],
           [4., 6., 4.]], dtype=float32)
    """
    _check(x, kernel, implementation)
    if x.size == 0:
        return x
    if implementation == "conv" or (implementation is None and _has_explicit_space(x)):
        return _grouped(x, kernel)
    try:
        return _depthwise(implementation, *_vary_alike(x, kernel))
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        raise TypeError(
            "depthwise_conv has no forward-mode derivative with implementation="
            f"{implementation!r}; use implementation='conv'"
        ) from error


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
        raise ValueError(
            f"kernel is {kernel.shape[0]}x{kernel.shape[1]}; its height and width must be odd"
        )
    if x.dtype != kernel.dtype:
        raise ValueError(
            f"x is {x.dtype} and kernel is {kernel.dtype}; cast one to the other's dtype"
        )


def explicit_axes(x: jax.Array) -> Sequence:
    """Return, for each dimension of x [...], the Explicit mesh axes that shard it, or None."""
    return jax.typeof(x).sharding.spec


def _has_explicit_space(x):
    """Whether rows or columns are sharded over Explicit axes; slices cannot cross shards."""
    return any(axes is not None for axes in explicit_axes(x)[1:3])


def _vary_alike(x, kernel):
    """Make both arrays vary over the same axes of a shard_map, as custom gradients require.

    Only the array that lacks an axis is changed. The change does not use the other array:
    otherwise, a vmap over x would also map the kernel.
    """
    axes = [varying_axes(each) for each in (x, kernel)]
    missing = [tuple(sorted(other - own)) for own, other in (axes, axes[::-1])]
    return tuple(
        # The condition is never True (an axis index is not negative), but varies over the axes.
        jnp.where(lax.axis_index(names) < 0, jnp.zeros_like(each), each) if names else each
        for each, names in zip((x, kernel), missing, strict=True)
    )


def varying_axes(x: jax.Array) -> frozenset:
    """Return the names of the shard_map axes over which x [...] varies."""
    type_ = jax.typeof(x)
    return type_.vma if hasattr(type_, "vma") else type_.mat.varying  # JAX 0.10 renamed it


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _depthwise(implementation, x, kernel):
    if implementation == "shift":
        return _shifted_sum(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=_shifted_sum, default=_grouped)


def _depthwise_forward(implementation, x, kernel):
    return _depthwise(implementation, x, kernel), (x, kernel)


def _depthwise_backward(implementation, residuals, cotangent):
    def gradients(x, kernel, cotangent):
        arguments = x, kernel, cotangent
        if implementation == "shift":
            return _shift_gradients(*arguments)
        return lax.platform_dependent(*arguments, cpu=_shift_gradients, default=_grouped_gradients)

    def mapped_gradients(_, in_batched, *arguments):
        axes = [0 if batched else None for batched in in_batched]
        return jax.vmap(_simple_gradients, axes)(*arguments), (True, True)

    if AxisType.Explicit in jax.typeof(residuals[0]).sharding.mesh.axis_types:
        # Inside a vmap, types do not show the sharding of the mapped axis, and neither scan nor the
        # gradient of XLA's convolution supports a sharded axis.
        gradients = jax.custom_batching.custom_vmap(gradients)
        gradients.def_vmap(mapped_gradients)
    return gradients(*residuals, cotangent)


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
    wide = jnp.issubdtype(x.dtype, jnp.inexact) and x.dtype.itemsize >= 4
    return x.dtype if wide else jnp.float32


def _padded(x, kernel_shape):
    """Pad x with a border of zeros, stored as an array in memory.

    Without the optimization barrier, XLA recomputes the padding and its input for every tap, which
    takes twice as long on a CPU.
    """
    rows, columns = (size // 2 for size in kernel_shape[:2])
    x = jnp.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    return lax.optimization_barrier(x)


# jit, so that layers of the same shape are traced and lowered only once.


@jax.jit
def _shifted_sum(x, kernel):
    rows, columns, _ = kernel.shape
    height, width = x.shape[1:3]
    padded = _padded(x, kernel.shape)
    wide = kernel.astype(_sum_dtype(x))[:, :, None, None, None]
    taps = [
        padded[:, i : i + height, j : j + width].astype(wide.dtype) * wide[i, j]
        for i in range(rows)
        for j in range(columns)
    ]
    return sum(taps[1:], taps[0]).astype(x.dtype)


def _shift_gradients(x, kernel, cotangent):
    symbolic = not isinstance(x.shape[2], int)  # in exports
    if symbolic or any(axes is not None for axes in explicit_axes(x)):
        return _simple_gradients(x, kernel, cotangent)
    return _input_gradient(kernel, cotangent), _kernel_gradient(x, kernel, cotangent)


def _input_gradient(kernel, cotangent):
    return _shifted_sum(cotangent, jnp.flip(kernel, (0, 1)))


def _simple_gradients(x, kernel, cotangent):
    """Gradients for any sharding and symbolic sizes, with one reduction per tap of the kernel."""
    rows, columns, _ = kernel.shape
    height, width = x.shape[1:3]
    padded = _padded(x, kernel.shape)
    dtype = _sum_dtype(x)
    wide = cotangent.astype(dtype)
    taps = [
        [
            jnp.sum(padded[:, i : i + height, j : j + width].astype(dtype) * wide, (0, 1, 2))
            for j in range(columns)
        ]
        for i in range(rows)
    ]
    of_kernel = jnp.stack([jnp.stack(row) for row in taps]).astype(kernel.dtype)
    return _input_gradient(kernel, cotangent), of_kernel


@jax.jit
def _kernel_gradient(x, kernel, cotangent):
    """Gradient of the kernel: for each tap, the sum of shifted x times the cotangent.

    Implemented as one scan over blocks of columns (of one image, or of several narrow ones). For
    each kernel row, an iteration sums the products over its columns, separately for every image row
    and every tap of that kernel row. Its data then stay in the cache. The sum over image rows comes
    last, as a product with ones. Two alternatives were measured. One reduction of the whole arrays
    per tap (25 for a 5 x 5 kernel) takes ten times as long. Accumulating all kernel rows in one
    array, which XLA compiles to one loop with a branch, takes 1.5 times as long.
    """
    rows, columns, channels = kernel.shape
    batch, height, width, _ = x.shape
    blocks = -(-width // _COLUMNS)
    block = -(-width // blocks)
    images = _images_together(batch, block)
    excess = ((0, 0), (0, 0), (0, blocks * block - width), (0, 0))
    padded = _padded(jnp.pad(x, excess), kernel.shape)
    cotangent = jnp.pad(cotangent, excess)
    dtype = _sum_dtype(x)

    def add(totals, index):
        start = (index // blocks * images, 0, index % blocks * block, 0)
        size = (images, height + rows - 1, block + columns - 1, channels)
        values = lax.dynamic_slice(padded, start, size).astype(dtype)
        factors = lax.dynamic_slice(cotangent, start, (images, height, block, channels))
        factors = factors.astype(dtype)
        products = [
            [
                values[image, i : i + height, w : w + columns] * factors[image, :, w, None]
                for image in range(images)
                for w in range(block)
            ]
            for i in range(rows)
        ]
        return [sum(row, total) for total, row in zip(totals, products, strict=True)], None

    # One total [H, kw, C] per kernel row; the zeros vary over the same shard_map axes as x and the
    # kernel.
    zero = jnp.broadcast_to(jnp.zeros_like(kernel[:1], dtype), (height, columns, channels))
    totals, _ = lax.scan(add, [zero] * rows, jnp.arange(batch // images * blocks))
    flat = jnp.stack(totals).reshape(rows, height, columns * channels)
    sums = jnp.einsum("h,ihc->ic", jnp.ones(height, dtype), flat)
    return sums.reshape(kernel.shape).astype(kernel.dtype)


def _images_together(batch, block):
    """Images per iteration: the smallest divisor of the batch that gives at least _COLUMNS columns.

    The result is 1 if that divisor gives more than 3 * _COLUMNS columns.
    """
    if not _NARROW_IS_SLOW or not isinstance(batch, int):  # symbolic in exports
        return 1
    fits = (n for n in range(1, batch + 1) if batch % n == 0 and n * block >= _COLUMNS)
    fewest = next(fits, 1)
    return fewest if fewest * block <= 3 * _COLUMNS else 1
