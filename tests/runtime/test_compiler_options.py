"""The options of XLA's compiler: who gets them, and that a JAX without them works."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose import layers
from jaxpose.runtime import compilation as module
from jaxpose.runtime.compilation import compiler_options


@pytest.fixture(autouse=True)
def asked_anew():
    compiler_options.cache_clear()
    yield
    compiler_options.cache_clear()


@pytest.mark.parametrize(
    ("function", "shapes"),
    [(jnp.dot, ((64, 64), (64, 64))), (layers.conv2d, ((2, 16, 16, 32), (3, 3, 32, 32)))],
)
def test_programs_compiled_with_them_give_the_same(function, shapes):
    x, y = (np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in shapes)
    tuned = jax.jit(function, compiler_options=compiler_options())
    np.testing.assert_allclose(tuned(x, y), jax.jit(function)(x, y), atol=1e-4)


def test_a_jax_that_does_not_know_them_gets_none(monkeypatch):
    monkeypatch.setattr(module, "_FUSIONS", "xla_cpu_no_such_option")
    assert compiler_options() is None


@pytest.mark.parametrize(
    ("name", "value"), [("default_backend", lambda: "gpu"), ("__version_info__", (0, 9, 2))]
)
def test_other_platforms_and_older_versions_get_none(monkeypatch, name, value):
    monkeypatch.setattr(jax, name, value)
    assert compiler_options() is None
