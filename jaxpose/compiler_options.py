"""Options of XLA's compiler for the network's programs on CPUs."""

import functools

import jax

_FUSIONS, _SUMS_ALONE = "xla_cpu_experimental_ynn_fusion_type", "LIBRARY_FUSION_TYPE_REDUCE"
_TESTED = (0, 10)  # the first JAX that these were tried with


@functools.cache
def compiler_options() -> dict[str, str] | None:
    """What to compile a network with, here: `jax.jit(function, compiler_options=...)`.

    On CPUs XLA leaves products and convolutions to YNNPACK, where Eigen, which it has too, takes a
    fifth less time for those of this network; sums stay with YNNPACK.

    Returns:
      Options by name, or None where there are none to give: on another platform than a CPU, in a
      JAX older than 0.10, and in one that does not know them.
    """
    if jax.default_backend() != "cpu" or jax.__version_info__ < _TESTED:
        return None
    options = {_FUSIONS: _SUMS_ALONE}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except (RuntimeError, ValueError):
        return None
    return options
