"""JAX's persistent compilation cache, kept in the user's cache folder: a second start is quick."""

import os
import pathlib

import jax
from jax.experimental.compilation_cache import compilation_cache


def use_compilation_cache() -> pathlib.Path | None:
    """Keep compiled programs between runs, unless JAX_COMPILATION_CACHE_DIR says where or "off".

    Returns:
      The folder, or None where it cannot be written or is switched off.
    """
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(named or pathlib.Path(base) / "jaxpose" / "compilation")
    try:
        if named.lower() == "off":
            folder = None
        else:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = None
    # None too: JAX reads the variable itself, and would make a folder called "off".
    jax.config.update("jax_compilation_cache_dir", folder and str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    compilation_cache.reset_cache()  # else JAX goes on as it was when it first compiled
    return folder
