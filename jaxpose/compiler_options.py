"""Options of XLA's compiler for the network's programs on CPUs."""

import functools

import jax
import jax.numpy as jnp

from jaxpose.depthwise import depthwise_conv

_FUSIONS, _SUMS_ALONE = "xla_cpu_experimental_ynn_fusion_type", "LIBRARY_FUSION_TYPE_REDUCE"
_ONEDNN = "xla_cpu_experimental_onednn_custom_call"
_TESTED = (0, 10)  # the first JAX that these were tried with
_WITH_ONEDNN = (0, 12)  # the first whose XLA was seen to call oneDNN


@functools.cache
def compiler_options(*, onednn: bool = False) -> dict[str, str | bool] | None:
    """What to compile a network with, here: `jax.jit(function, compiler_options=...)`.

    On CPUs XLA leaves products and convolutions to YNNPACK, where Eigen, which it has too, takes a
    fifth less time for those of this network; sums stay with YNNPACK. oneDNN is quicker still, and
    the only one with a good depthwise convolution, but slow for the gradients of the stem's kernels
    in large batches, and ten times as slow in loops (`lax.scan`): it is for programs without
    gradients, and for `depthwise_conv(..., implementation="onednn")` in float32.

    Args:
      onednn: products and convolutions by oneDNN, where `has_onednn()`.

    Returns:
      Options by name, or None where there are none to give: on another platform than a CPU, in a
      JAX older than 0.10, and in one that does not know them.
    """
    if jax.default_backend() != "cpu" or jax.__version_info__ < _TESTED:
        return None
    options = {_FUSIONS: _SUMS_ALONE}
    if onednn and has_onednn():
        options[_ONEDNN] = True
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except (RuntimeError, ValueError):
        return None
    return options


@functools.cache
def has_onednn() -> bool:
    """Whether XLA hands convolutions to oneDNN here when it is asked to: on CPUs, from JAX 0.12."""
    if jax.default_backend() != "cpu" or jax.__version_info__ < _WITH_ONEDNN:
        return False
    arrays = jnp.zeros((1, 8, 8, 16)), jnp.zeros((5, 5, 16))
    convolve = functools.partial(depthwise_conv, implementation="conv")
    try:
        program = jax.jit(convolve, compiler_options={_ONEDNN: True}).lower(*arrays).compile()
    except (RuntimeError, ValueError):
        return False
    return "__onednn$convolution" in program.as_text()
