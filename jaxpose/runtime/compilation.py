"""JAX's persistent compilation cache, and compiler options for CPUs."""

import contextlib
import functools
import os
import pathlib
import tempfile

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxpose.paths import is_remote

_FUSIONS, _SUMS_ALONE = "xla_cpu_experimental_ynn_fusion_type", "LIBRARY_FUSION_TYPE_REDUCE"
_TESTED = (0, 10)  # first JAX version tested with these options


def use_compilation_cache() -> str | None:
    """Enable JAX's persistent compilation cache.

    The environment variable JAX_COMPILATION_CACHE_DIR sets its folder, local or in a bucket; "off"
    disables the cache.

    Returns:
      The folder, or None if it cannot be written or the cache is disabled. A folder in a bucket is
      not tested.
    """
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    wanted = pathlib.Path(named or pathlib.Path(base) / "jaxpose" / "compilation")
    folder = None
    if is_remote(named):
        folder = named
    elif named.lower() != "off":
        with contextlib.suppress(OSError):
            wanted.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=wanted):
                folder = os.fspath(wanted)
    # Set it even to None: otherwise JAX reads the variable itself and creates a folder named "off".
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    compilation_cache.reset_cache()  # JAX reads the setting only once otherwise
    return folder


@functools.cache
def compiler_options() -> dict[str, str] | None:
    """Return the compiler options with which a network runs fastest on this platform.

    Pass them to ``jax.jit(f, compiler_options=...)``. On CPUs, XLA computes matrix products and
    convolutions with YNNPACK by default; the options select Eigen, which is faster for this
    network: those operations take a fifth less time. Reductions stay with YNNPACK.

    Returns:
      Options by name; None (also accepted by ``jax.jit``) if there are no such options: on
      platforms other than CPU, with JAX older than 0.10, or if JAX does not support them.

    Example:
      >>> import jax
      >>> from jaxpose import PoseNet, compiler_options
      >>> net = PoseNet(num_joints=2, num_blocks=1, width=18)
      >>> predict = jax.jit(net.apply, compiler_options=compiler_options())
    """
    if jax.default_backend() != "cpu" or jax.__version_info__ < _TESTED:
        return None
    options = {_FUSIONS: _SUMS_ALONE}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except (RuntimeError, ValueError):
        return None
    return options
