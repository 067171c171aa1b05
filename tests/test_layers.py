"""The layers with rules of their own against XLA's and against NumPy, with all gradients."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxpose import layers


def normal(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def pulled(function, *arguments):
    """The result and the gradients of all arguments for one and the same cotangent."""
    y, pull = jax.vjp(function, *arguments)
    return y, *pull(normal(y.shape, 7))


def assert_alike(found, expected, tolerance=1e-5):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max(), rtol=0)


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("size", [(3, 3), (5, 1), (1, 5)])
@pytest.mark.parametrize("image", [(8, 6), (7, 9)])
def test_convolution_pads_as_tensorflow_does(strides, size, image):
    x, kernel = np.asarray(normal((2, *image, 3))), np.asarray(normal((*size, 3, 4), 1))
    padding, result = [], []
    for length, window in zip(image, size, strict=True):
        result.append(-(-length // strides))
        total = max((result[-1] - 1) * strides + window - length, 0)
        padding.append((total // 2, total - total // 2))  # the odd one comes after
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    expected = np.zeros((2, *result, 4))
    for row, column in np.ndindex(*result):
        top, left = row * strides, column * strides
        patch = padded[:, top : top + size[0], left : left + size[1]]
        expected[:, row, column] = np.einsum("bhwi,hwio->bo", patch, kernel)
    assert_alike([layers.conv2d(x, kernel, strides=strides)], [expected])


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("size", [(3, 3), (5, 1), (2, 4)])
@pytest.mark.parametrize("image", [(8, 6), (7, 9), (1, 2)])
def test_gradients_of_a_convolution_are_xlas(strides, size, image):
    def plain(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, (strides, strides), "SAME", dimension_numbers=layout
        )

    x, kernel = normal((2, *image, 3)), normal((*size, 3, 4), 1)
    ours = functools.partial(layers.conv2d, strides=strides)
    assert_alike(pulled(ours, x, kernel), pulled(plain, x, kernel))


def test_convolutions_of_gradients_in_a_loop_have_the_fast_layout():
    kernel = normal((3, 3, 4, 5))

    def loss(kernel, x):
        return jnp.sum(jnp.sin(layers.conv2d(jnp.cos(x), kernel, strides=2)))

    def total(xs):
        def add(sums, x):
            grads = jax.grad(loss, argnums=(0, 1))(kernel, x)
            return jax.tree.map(jnp.add, sums, grads), None

        return lax.scan(add, (jnp.zeros_like(kernel), jnp.zeros_like(xs[0])), xs)[0]

    compiled = jax.jit(total).lower(normal((3, 2, 8, 8, 4))).compile().as_text()
    layouts = re.findall(r" convolution\(.*dim_labels=([^,]*)", compiled)
    assert len(layouts) == 3  # forward, of the input, of the kernel
    assert set(layouts) == {"b01f_01io->b01f"}


@pytest.mark.parametrize("of_kernel", [False, True])
def test_convolutions_and_their_gradients_in_shard_map(of_kernel):
    mesh = jax.make_mesh((2,), ("a",), axis_types=(AxisType.Auto,))
    x, kernel = normal((4, 6, 8, 3)), normal((3, 3, 3, 5), 1)
    specs = PartitionSpec("a"), PartitionSpec()

    def loss(x, kernel):
        return lax.psum(jnp.sum(jnp.sin(layers.conv2d(x, kernel))), "a")

    def whole(x, kernel):
        return jnp.sum(jnp.sin(layers.conv2d(x, kernel)))

    mapped = jax.shard_map(loss, mesh=mesh, in_specs=specs, out_specs=PartitionSpec())
    found = jax.jit(jax.grad(mapped, argnums=int(of_kernel)))(x, kernel)
    assert_alike([found], [jax.grad(whole, argnums=int(of_kernel))(x, kernel)])


def test_pointwise_convolution_is_a_1x1_convolution():
    x, kernel = normal((2, 5, 4, 6)), normal((6, 3), 1)
    wide = lambda x, kernel: layers.conv2d(x, kernel[None, None])  # noqa: E731
    assert_alike(pulled(layers.pointwise_conv, x, kernel), pulled(wide, x, kernel))


@pytest.mark.parametrize(("window", "strides"), [(2, 2), (3, 2), (3, 1)])
@pytest.mark.parametrize("image", [(8, 6), (7, 9)])
@pytest.mark.parametrize("values", ["normal", "ties"])
def test_max_pool_is_flaxs_and_its_gradient_too(window, strides, image, values):
    x = normal((2, *image, 3))
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


LAYERS = {
    "pointwise_conv": (lambda x: layers.pointwise_conv(x, normal((3, 5), 1)), (4, 6, 8, 3)),
    "max_pool": (functools.partial(layers.max_pool, window=3, strides=2), (4, 6, 8, 3)),
    "upsample": (layers.upsample, (4, 3, 5, 3)),
    "batch_norm": (
        lambda x: layers.batch_norm(x, normal((3,), 1), epsilon=1e-3)[0],
        (4, 3, 5, 3),
    ),
}


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("layer", LAYERS)
def test_sharded_batches_stay_sharded(layer, axis_type):
    function, shape = LAYERS[layer]
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(axis_type, axis_type))
    x = normal(shape)
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("a")))
    y = jax.jit(function)(sharded)
    assert y.sharding.is_equivalent_to(sharded.sharding, y.ndim)
    loss = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(function(x)))))
    assert_alike(loss(sharded), loss(x))


@pytest.mark.parametrize("layer", LAYERS)
def test_strict_promotion_gives_the_same_numbers(layer):
    function, shape = LAYERS[layer]
    expected = pulled(function, normal(shape))
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        assert_alike(pulled(function, normal(shape)), expected, 1e-6)
