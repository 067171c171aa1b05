"""JAX's settings of compiled programs on disk, changed for a while."""

import contextlib

import jax
from jax.experimental.compilation_cache import compilation_cache

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@contextlib.contextmanager
def settings_as_before():
    """Whatever happens to the settings within is undone."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


@contextlib.contextmanager
def kept_in(folder):
    """Every program that is compiled within is kept in the folder, and read from it."""
    with settings_as_before():
        for name, value in zip(SETTINGS, (str(folder), 0.0), strict=True):
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
