"""The options of XLA's compiler: who gets them, and that a JAX without them works."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose import compiler_options as module
from jaxpose import layers
from jaxpose.compiler_options import compiler_options, has_onednn
from jaxpose.depthwise import depthwise_conv


@pytest.fixture(autouse=True)
def asked_anew():
    for function in (compiler_options, has_onednn):
        function.cache_clear()
    yield
    for function in (compiler_options, has_onednn):
        function.cache_clear()


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
    assert compiler_options(onednn=True) is None and not has_onednn()


def test_onednn_takes_the_depthwise_convolution_and_its_gradients():
    if not has_onednn():
        pytest.skip("this JAX has no oneDNN for convolutions (0.12 has, on x86)")
    rng = np.random.default_rng(0)
    x, cotangent = (rng.normal(size=(2, 9, 7, 24)).astype(np.float32) for _ in range(2))
    kernel = rng.normal(size=(5, 3, 24)).astype(np.float32)

    def gradients(x, kernel, cotangent, implementation):
        convolve = functools.partial(depthwise_conv, implementation=implementation)
        y, pull = jax.vjp(convolve, x, kernel)
        return y, *pull(cotangent)

    expected = gradients(x, kernel, cotangent, "shift")
    ours = functools.partial(gradients, implementation="onednn")
    program = jax.jit(ours, compiler_options=compiler_options(onednn=True))
    program = program.lower(x, kernel, cotangent).compile()
    # The result, x's gradient, and the kernel's for each of the two pictures.
    assert program.as_text().count('custom_call_target="__onednn$convolution"') == 4
    for found, other in zip(program(x, kernel, cotangent), expected, strict=True):
        np.testing.assert_allclose(found, other, atol=1e-4)
