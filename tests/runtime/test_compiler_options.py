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


def test_a_product_compiles_with_them_and_is_the_same():
    options = compiler_options()
    assert options  # a JAX that no longer knows them wants another look
    x, y = (np.random.default_rng(i).normal(size=(64, 64)).astype(np.float32) for i in (0, 1))
    product = jax.jit(jnp.dot, compiler_options=options)
    np.testing.assert_allclose(product(x, y), x @ y, atol=1e-4)
    assert "ynn_fusion" not in product.lower(x, y).compile().as_text()


def test_they_take_convolutions_from_ynnpack_too():
    x, kernel = jnp.zeros((2, 16, 16, 32)), jnp.zeros((3, 3, 32, 32))
    program = jax.jit(layers.conv2d, compiler_options=compiler_options())
    assert "ynn_fusion" not in program.lower(x, kernel).compile().as_text()


def test_a_jax_that_does_not_know_them_gets_none(monkeypatch):
    monkeypatch.setattr(module, "_FUSIONS", "xla_cpu_no_such_option")
    assert compiler_options() is None


@pytest.mark.parametrize(
    ("name", "value"), [("default_backend", lambda: "gpu"), ("__version_info__", (0, 9, 2))]
)
def test_other_platforms_and_older_versions_get_none(monkeypatch, name, value):
    monkeypatch.setattr(jax, name, value)
    assert compiler_options() is None
