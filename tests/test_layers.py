"""The layers with rules of their own against XLA's and against NumPy, with all gradients."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from jaxpose import layers


def normal(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def xla_conv(x, kernel, strides):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (strides,) * 2, "SAME", dimension_numbers=numbers)


def pulled(function, *arguments):
    """The result and the gradients of all arguments for one and the same cotangent."""
    y, pull = jax.vjp(function, *arguments)
    return y, *pull(normal(y.shape, 7))


def assert_alike(found, expected, tolerance=1e-5):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max(), rtol=0)


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("channels", [3, 4, 5])  # patches up to four
@pytest.mark.parametrize("size", [(3, 3), (5, 1), (1, 5)])
@pytest.mark.parametrize("picture", [(8, 6), (7, 9)])
def test_convolution_is_xlas(strides, channels, size, picture):
    x, kernel = normal((2, *picture, channels)), normal((*size, channels, 6), 1)
    expected = pulled(functools.partial(xla_conv, strides=strides), x, kernel)
    for portable in (False, True):
        conv = functools.partial(layers.conv2d, strides=strides, portable=portable)
        assert_alike(jax.jit(functools.partial(pulled, conv))(x, kernel), expected)


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("batch", [1, 5, 8])
def test_a_kernels_gradient_in_pieces_is_the_whole_ones(strides, batch, monkeypatch):
    monkeypatch.setattr(layers, "CACHED_BYTES", 0)
    monkeypatch.setattr(layers, "MOST_PIECES", 3)
    x, kernel = normal((batch, 9, 8, 5)), normal((3, 3, 5, 6), 1)
    expected = pulled(functools.partial(xla_conv, strides=strides), x, kernel)
    conv = functools.partial(layers.conv2d, strides=strides)
    assert_alike(jax.jit(functools.partial(pulled, conv))(x, kernel), expected)
    lowered = jax.jit(functools.partial(pulled, conv)).lower(x, kernel).as_text()
    pieces = {1: 1, 5: 3, 8: 2}[batch]  # of 1, of 2, of 4 pictures
    assert lowered.count("stablehlo.convolution") == 2 + pieces  # forward, x's gradient, pieces


@pytest.mark.parametrize("cached", [0, 1 << 30])
@pytest.mark.parametrize("channels", [3, 5])
def test_shard_map_sums_a_kernels_gradient_over_the_devices(cached, channels, monkeypatch):
    monkeypatch.setattr(layers, "CACHED_BYTES", cached)
    mesh = Mesh(jax.local_devices(), "devices")
    x, kernel = normal((2 * len(mesh.devices), 6, 5, channels)), normal((3, 3, channels, 6), 1)
    of_kernel = lambda conv: jax.grad(lambda k, x: jnp.sum(jnp.sin(conv(x, k))))  # noqa: E731
    split = jax.shard_map(
        lambda kernel, x: of_kernel(layers.conv2d)(kernel, x),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("devices")),
        out_specs=PartitionSpec(),
    )
    expected = of_kernel(functools.partial(xla_conv, strides=1))(kernel, x)
    assert_alike([jax.jit(split)(kernel, x)], [expected])


def test_the_form_of_other_platforms_is_right_where_it_is_forced_on_this_one(monkeypatch):
    monkeypatch.setattr(
        lax, "platform_dependent", lambda *arguments, default, **_: default(*arguments)
    )
    x, kernel = normal((2, 8, 8, 3)), normal((3, 3, 3, 4), 1)
    conv = functools.partial(layers.conv2d, strides=2)
    expected = pulled(functools.partial(xla_conv, strides=2), x, kernel)
    assert_alike(pulled(conv, x, kernel), expected)


def test_pointwise_convolution_is_a_1x1_convolution():
    x, kernel = normal((2, 5, 4, 6)), normal((6, 3), 1)
    wide = lambda x, kernel: xla_conv(x, kernel[None, None], 1)  # noqa: E731
    assert_alike(pulled(layers.pointwise_conv, x, kernel), pulled(wide, x, kernel))


@pytest.mark.parametrize(("window", "strides"), [(2, 2), (3, 2), (3, 1)])
@pytest.mark.parametrize("picture", [(8, 6), (7, 9)])
@pytest.mark.parametrize("values", ["normal", "ties"])
def test_max_pool_is_flaxs_and_its_gradient_too(window, strides, picture, values):
    x = normal((2, *picture, 3))
    if values == "ties":
        x = jnp.round(x)
    pool = functools.partial(layers.max_pool, window=window, strides=strides)
    shape = {"window_shape": (window, window), "strides": (strides, strides)}
    theirs = functools.partial(nn.max_pool, **shape, padding="SAME")
    assert_alike(jax.jit(functools.partial(pulled, pool))(x), pulled(theirs, x), 1e-6)
    np.testing.assert_array_equal(pool(x), theirs(x))


def test_upsampling_repeats_and_its_gradient_sums():
    x = normal((2, 3, 4, 5))
    repeat = lambda x: jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)  # noqa: E731
    assert_alike(pulled(layers.upsample, x), pulled(repeat, x), 1e-6)


def textbook(x, beta, epsilon):
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)
    return (x - mean) / jnp.sqrt(variance + epsilon) + beta, mean, variance


def test_batch_norm_is_the_textbooks():
    x, beta = 3 * normal((4, 5, 6, 7)) + 2, normal((7,), 1)
    ours = lambda x, beta: layers.batch_norm(x, beta, epsilon=1e-3)[0]  # noqa: E731
    theirs = lambda x, beta: textbook(x, beta, 1e-3)[0]  # noqa: E731
    assert_alike(pulled(ours, x, beta), pulled(theirs, x, beta))
    assert_alike(layers.batch_norm(x, beta, epsilon=1e-3), textbook(x, beta, 1e-3))


@pytest.mark.parametrize("devices", [1, 2])
def test_batch_norm_over_devices_is_that_of_the_whole_batch(devices):
    if jax.local_device_count() < devices:
        pytest.skip("needs two devices")
    x, beta = normal((devices, 4, 5, 5, 3)), normal((3,), 1)
    norm = functools.partial(layers.batch_norm, epsilon=1e-3, axis_name="devices")
    place = {"in_axes": (0, None), "devices": jax.local_devices()[:devices]}
    y, mean, variance = jax.pmap(norm, axis_name="devices", **place)(x, beta)
    expected = textbook(x.reshape(-1, 5, 5, 3), beta, 1e-3)
    assert_alike((y.reshape(-1, 5, 5, 3), mean[0], variance[-1]), expected)


def test_one_device_waits_for_no_other():
    x, beta = normal((1, 2, 5, 5, 3)), normal((3,), 1)
    norm = functools.partial(layers.batch_norm, epsilon=1e-3, axis_name="devices")
    place = {"in_axes": (0, None), "devices": jax.local_devices()[:1]}
    text = jax.pmap(norm, axis_name="devices", **place).lower(x, beta).as_text()
    assert "all_reduce" not in text
