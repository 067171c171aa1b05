"""The options of XLA's compiler: who gets them, and that a JAX without them works."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose import compiler_options as module
from jaxpose.compiler_options import compiler_options
from jaxpose.layers import conv2d


@pytest.fixture(autouse=True)
def asked_anew():
    compiler_options.cache_clear()
    yield
    compiler_options.cache_clear()


@pytest.mark.parametrize("gradients", [False, True])
def test_a_product_compiles_with_them_and_is_the_same(gradients):
    options = compiler_options(gradients=gradients)
    assert options  # a JAX that no longer knows them wants another look
    x, y = (np.random.default_rng(i).normal(size=(64, 64)).astype(np.float32) for i in (0, 1))
    product = jax.jit(jnp.dot, compiler_options=options)
    np.testing.assert_allclose(product(x, y), x @ y, atol=1e-4)
    assert "ynn_fusion" not in product.lower(x, y).compile().as_text()


@pytest.mark.parametrize("gradients", [False, True])
def test_convolutions_stay_with_ynnpack_beside_gradients_alone(gradients):
    x, kernel = jnp.zeros((2, 16, 16, 32)), jnp.zeros((3, 3, 32, 32))
    options = compiler_options(gradients=gradients)
    program = jax.jit(functools.partial(conv2d, strides=1), compiler_options=options)
    assert ("ynn_fusion" in program.lower(x, kernel).compile().as_text()) == gradients


def test_a_jax_that_does_not_know_them_gets_none(monkeypatch):
    monkeypatch.setattr(module, "_FUSIONS", "xla_cpu_no_such_option")
    assert compiler_options(gradients=True) is None


@pytest.mark.parametrize(
    ("name", "value"), [("default_backend", lambda: "gpu"), ("__version_info__", (0, 9, 2))]
)
def test_other_platforms_and_older_versions_get_none(monkeypatch, name, value):
    monkeypatch.setattr(jax, name, value)
    assert compiler_options(gradients=True) is None
