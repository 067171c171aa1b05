"""Programs on some of this process's devices, as if there were no others."""

import contextlib
import functools

import jax
import pytest


@contextlib.contextmanager
def on_devices(count: int):
    """Within, JAX has the first `count` devices only, for what asks it and for `jax.pmap`."""
    chosen = jax.local_devices()[:count]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "pmap", functools.partial(jax.pmap, devices=chosen))
        patch.setattr(jax, "local_devices", lambda: chosen)
        for name in ("local_device_count", "device_count"):
            patch.setattr(jax, name, lambda: count)
        yield chosen
