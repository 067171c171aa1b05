"""Depthwise convolution: every channel with its own small kernel, forward and backward fast.

`lax.conv_general_dilated(feature_group_count=C)` computes the same, on a CPU tens of times slower,
and its gradients are slow on GPUs too. Here a CPU gets it from oneDNN, which XLA contains, or
as a sum of shifted slices of the padded array, which one loop computes. The input's gradient is the
same with the kernel turned; the kernel's gradient is one loop over the pictures.

This file imports nothing but JAX, jaxlib and NumPy and can be lifted out as it is.
"""

import functools
import json
import platform
import warnings

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

IMPLEMENTATIONS = ("shift", "conv", "onednn")

# Columns whose products one iteration of the kernel's gradient adds up. More of them amortise the
# accumulator's traffic, and take longer to compile.
_COLUMNS = 16

# XLA made slow code of fewer columns, as narrow maps have, until jaxlib 0.12.
_NARROW_IS_SLOW = jaxlib.version.__version_info__ < (0, 12)

# XLA:CPU's own name for a convolution by oneDNN, which its compiler may choose to call. It is not a
# documented interface, and a version that describes it otherwise ends the process: so it is called
# on the system and between the versions of jaxlib (both included) that it was tried with, alone.
_ONEDNN = "__onednn$convolution"
_TRIED_ON, _TRIED = ("Linux", "x86_64"), ((0, 8, 1), (0, 12, 0))

# Numbers in a picture from which its kernel's gradient is quicker by oneDNN, and the pixels up to
# which it is as exact: oneDNN adds all of a picture's products up in one float32.
_LARGE, _MOST_PIXELS = 100_000, 128 * 128


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
      implementation: "onednn" (by oneDNN, the quickest on CPUs, where `has_onednn()`), "shift"
        (a sum of shifted slices, on any platform), "conv" (XLA's grouped convolution), or None: the
        quickest that the program can have, decided when it is first lowered for its platform. That
        is "onednn" or else "shift" on CPUs, "conv" elsewhere. A program with oneDNN can neither be
        exported, serialised, partitioned by XLA nor kept in JAX's compilation cache on disk:
        exporting, sharded arrays and having such a cache make it "shift". "conv" alone has forward
        mode and second derivatives; the others are differentiable once, in reverse.

    Returns:
      [B, H, W, C], x's dtype.

    Raises:
      ValueError: shapes, dtypes or the implementation's name do not fit, or there is no oneDNN.

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


@functools.cache
def has_onednn() -> bool:
    """Whether the default platform is a CPU whose XLA has a convolution by oneDNN that works.

    It has in jaxlib's wheels for Linux on x86, from 0.8.1 on; versions newer than those it was
    tried with do without. Asked once a process, in some 0.1 s.
    """
    first, last = _TRIED
    if jax.default_backend() != "cpu" or (platform.system(), platform.machine()) != _TRIED_ON:
        return False
    if not first <= jaxlib.version.__version_info__[:3] <= last:
        return False
    x = np.arange(2 * 4 * 5 * 16, dtype=np.float32).reshape(2, 4, 5, 16) % 7
    kernel = np.arange(3 * 5 * 16, dtype=np.float32).reshape(3, 5, 16) % 11
    try:  # compiled ahead, so that it runs within a trace too; numbers that have no rounding
        with warnings.catch_warnings(), jax.transfer_guard("allow"), jax.disable_jit(False):
            warnings.simplefilter("ignore")  # that a cache on disk cannot have it
            found, expected = (
                jax.jit(convolve).lower(x, kernel).compile()(x, kernel)
                for convolve in (_onednn, _grouped)
            )
    except (RuntimeError, ValueError):
        return False
    return np.array_equal(found, expected)


def _check(x, kernel, implementation):
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation is {implementation!r}; it must be one of {IMPLEMENTATIONS} or None"
        )
    if implementation == "onednn" and not has_onednn():
        raise ValueError("XLA has no oneDNN here (`has_onednn()` is False); give None")
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
    on_cpu = _onednn if implementation == "onednn" else _quickest
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=_grouped)


def _depthwise_forward(implementation, x, kernel):
    return _depthwise(implementation, x, kernel), (x, kernel)


def _depthwise_backward(implementation, residuals, cotangent):
    arguments = *residuals, cotangent
    if implementation == "shift":
        return _shift_gradients(*arguments)
    on_cpu = _onednn_gradients if implementation == "onednn" else _quickest_gradients
    return lax.platform_dependent(*arguments, cpu=on_cpu, default=_grouped_gradients)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _grouped(x, kernel, padding="SAME"):
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (1, 1),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _grouped_gradients(x, kernel, cotangent):
    return jax.vjp(_grouped, x, kernel)[1](cotangent)


# The quickest on CPUs: a primitive, since only its lowering knows whether the program is exported,
# sharded or kept on disk.

_lowered_choice = Primitive("depthwise_by_onednn_or_shift")
_lowered_choice.multiple_results = True


@jax.jit
def _quickest(x, kernel):
    return _lowered_choice.bind(x, kernel, onednn=_onednn, shift=_shifted_sum)[0]


@jax.jit
def _quickest_gradients(x, kernel, cotangent):
    functions = {"onednn": _onednn_gradients, "shift": _shift_gradients}
    return tuple(_lowered_choice.bind(x, kernel, cotangent, **functions))


@_lowered_choice.def_impl  # without jit
def _run_choice(*arguments, onednn, shift):
    return jax.tree.leaves(shift(*arguments))


@_lowered_choice.def_abstract_eval
def _types_of_choice(*arguments, onednn, shift):
    return jax.make_jaxpr(shift)(*arguments).out_avals


def _map_choice(arguments, axes, *, onednn, shift):
    sizes = [x.shape[axis] for x, axis in zip(arguments, axes, strict=True) if axis is not None]
    onednn = onednn if sizes[0] else shift
    onednn, shift = (jax.vmap(function, in_axes=axes) for function in (onednn, shift))
    results = _lowered_choice.bind(*arguments, onednn=onednn, shift=shift)
    return results, [0] * len(results)


def _lower_choice(context, *operands, onednn, shift):
    config = jax.config
    kept = config.jax_enable_compilation_cache and config.jax_compilation_cache_dir is not None
    function = shift
    if not kept and has_onednn():
        module = context.module_context
        sharded = getattr(module.axis_context, "num_devices", None) not in (None, 1)
        if not sharded and not module.lowering_parameters.for_export:
            function = onednn

    def as_list(*arguments):
        return jax.tree.leaves(function(*arguments))

    return mlir.lower_fun(as_list, multiple_results=True)(context, *operands)


batching.primitive_batchers[_lowered_choice] = _map_choice
mlir.register_lowering(_lowered_choice, _lower_choice)


def _sum_dtype(x):
    return jnp.promote_types(x.dtype, jnp.float32)


# oneDNN, which is given float32 alone.


@jax.jit
def _onednn(x, kernel):
    if _sum_dtype(x) != jnp.float32:
        return _shifted_sum(x, kernel)
    return _onednn_convolution(_same_size(kernel), x, kernel)


@jax.jit
def _onednn_gradients(x, kernel, cotangent):
    of_x = _onednn(cotangent, jnp.flip(kernel, (0, 1)))
    _, height, width, channels = x.shape
    pixels = height * width
    small_or_huge = pixels * channels < _LARGE or pixels > _MOST_PIXELS
    if _sum_dtype(x) != jnp.float32 or small_or_huge:
        return of_x, _kernel_gradient(x, kernel, cotangent)

    def add(total, picture):  # a picture convolved with its own cotangent
        x, cotangent = (each.astype(jnp.float32) for each in picture)
        return total + _onednn_convolution(_same_size(kernel), x[None], cotangent)[0], None

    zero = jnp.zeros_like(kernel, jnp.float32)
    return of_x, lax.scan(add, zero, (x, cotangent))[0].astype(kernel.dtype)


def _same_size(kernel):
    """What a picture is padded with to keep its size: (top, bottom), (left, right)."""
    return tuple((size // 2, size // 2) for size in kernel.shape[:2])


def _onednn_convolution(padding, x, kernel):
    """x [B, H, W, C] with kernel [kh, kw, C], x's dtype, padded as `lax.conv_general_dilated` does.

    vmap puts more pictures side by side, or more channels where each has its own kernel.
    """

    @jax.custom_batching.custom_vmap
    def convolve(x, kernel):
        call = jax.ffi.ffi_call(
            _ONEDNN,
            jax.eval_shape(functools.partial(_grouped, padding=padding), x, kernel),
            custom_call_api_version=2,
            legacy_backend_config=_onednn_config(padding, kernel.shape),
        )
        return call(x, kernel[:, :, None])

    @convolve.def_vmap
    def convolve_many(size, batched, x, kernel):
        x = x if batched[0] else jnp.broadcast_to(x, (size, *x.shape))
        if not batched[1]:
            y = convolve(x.reshape(-1, *x.shape[2:]), kernel)
            return y.reshape(size, -1, *y.shape[1:]), True
        side_by_side = [jnp.moveaxis(each, 0, -2) for each in (x, kernel)]
        y = convolve(*(each.reshape(*each.shape[:-2], -1) for each in side_by_side))
        return jnp.moveaxis(y.reshape(*y.shape[:-1], size, -1), -2, 0), True

    return convolve(x.astype(jnp.float32), kernel.astype(jnp.float32)).astype(x.dtype)


def _onednn_config(padding, kernel_shape):
    """How XLA's compiler describes such a convolution to its oneDNN."""
    picture = {"data": {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}}
    *size, channels = kernel_shape
    filter_axes = {"input_feature_dim": 2, "output_feature_dim": 3, "spatial_dims": [0, 1]}
    config = {
        "dims": 4,
        "feature_groups": channels,
        "input": picture,
        "output": picture,
        "kernel": {"filter": {**filter_axes, "shape": [*size, 1, channels]}},
        "window": {
            "pad_left": [before for before, _ in padding],
            "pad_right": [after for _, after in padding],
            "strides": [1, 1],
            "window_dilations": [1, 1],
        },
    }
    return json.dumps({"onednn_conv_config": config})


# Sums of shifted slices.


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
