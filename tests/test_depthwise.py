"""The depthwise convolution against XLA's grouped one: values, gradients, transformations, GPUs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxpose import depthwise
from jaxpose.depthwise import depthwise_conv


def grouped(x, kernel):
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def arrays(shape, size, dtype=jnp.float32, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape), dtype), jnp.asarray(
        rng.normal(size=(*size, shape[-1])), dtype
    )


def gradients(function, x, kernel):
    """Of a sum of squares, so that the cotangent differs from place to place."""
    return jax.grad(lambda *a: jnp.sum(jnp.square(function(*a))), argnums=(0, 1))(x, kernel)


def assert_near(ours, theirs, tolerance):
    ours, theirs = (np.asarray(each, np.float64) for each in (ours, theirs))
    scale = np.abs(theirs).max(initial=0)
    np.testing.assert_allclose(ours, theirs, atol=tolerance * scale, rtol=0)


IMPLEMENTATIONS = [None, "conv", "shift"]

SHAPES = [
    ((1, 1, 1, 1), (5, 5)),  # smaller than the window
    ((2, 7, 5, 3), (5, 5)),
    ((3, 4, 9, 2), (3, 7)),
    ((2, 6, 6, 8), (1, 1)),
    ((1, 3, 70, 2), (3, 3)),  # several blocks of columns, the last one padded
    ((2, 40, 32, 88), (5, 3)),
    ((0, 4, 4, 2), (3, 3)),
]


@pytest.mark.parametrize(("shape", "size"), SHAPES)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_equals_the_grouped_convolution_and_its_gradients(shape, size, implementation):
    x, kernel = arrays(shape, size)
    ours = functools.partial(depthwise_conv, implementation=implementation)
    assert_near(jax.jit(ours)(x, kernel), grouped(x, kernel), 1e-6)
    found = jax.jit(functools.partial(gradients, ours))(x, kernel)
    for one, other in zip(found, gradients(grouped, x, kernel), strict=True):
        assert one.shape == other.shape
        assert_near(one, other, 2e-6)


@pytest.mark.parametrize("narrow_is_slow", [True, False])
@pytest.mark.parametrize("shape", [(12, 5, 6, 2), (7, 4, 3, 2), (2, 5, 20, 3)])
def test_narrow_maps_have_the_same_gradients(monkeypatch, shape, narrow_is_slow):
    monkeypatch.setattr(depthwise, "_NARROW_IS_SLOW", narrow_is_slow)
    jax.clear_caches()
    x, kernel = arrays(shape, (3, 5))
    ours = functools.partial(depthwise_conv, implementation="shift")
    found = gradients(ours, x, kernel)[1]
    jax.clear_caches()  # what was traced so is not for the tests that follow
    assert_near(found, gradients(grouped, x, kernel)[1], 2e-6)


def test_narrow_pictures_are_taken_together_where_they_divide_the_batch(monkeypatch):
    monkeypatch.setattr(depthwise, "_NARROW_IS_SLOW", True)
    taken = {(16, 12): 2, (16, 8): 2, (8, 6): 4, (16, 3): 8, (4, 16): 1, (17, 12): 1, (2, 3): 1}
    for (batch, block), pictures in taken.items():
        assert depthwise._pictures_together(batch, block) == pictures


def test_long_sums_stay_exact():
    x, kernel = arrays((1, 600, 500, 2), (3, 3))
    ours = functools.partial(depthwise_conv, implementation="shift")
    found = jax.vjp(ours, x, kernel)[1](x)[1]
    picture = np.asarray(x[0], np.float64)
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)))
    taps = [padded[i : i + 600, j : j + 500] for i in range(3) for j in range(3)]
    exact = np.stack([(tap * picture).sum((0, 1)) for tap in taps]).reshape(3, 3, 2)
    assert_near(found, exact, 3e-6)


def test_gradients_are_those_of_finite_differences():
    with jax.enable_x64(True):
        x, kernel = arrays((2, 5, 4, 3), (3, 5), jnp.float64)
        loss = lambda *a: jnp.sum(jnp.sin(depthwise_conv(*a)))  # noqa: E731
        for argument in (0, 1):
            value = (x, kernel)[argument]
            direction = jnp.asarray(np.random.default_rng(1).normal(size=value.shape))

            def along(t, argument=argument, value=value, direction=direction):
                moved = [x, kernel]
                moved[argument] = value + t * direction
                return loss(*moved)

            slope = (along(1e-5) - along(-1e-5)) / 2e-5
            gradient = jax.grad(loss, argnums=argument)(x, kernel)
            np.testing.assert_allclose(jnp.sum(gradient * direction), slope, rtol=1e-7)


@pytest.mark.parametrize("shape", [(2, 16, 16, 4), (1, 32, 32, 100)])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_sums_in_float32(shape, dtype):
    x, kernel = arrays(shape, (5, 5), dtype)
    wide = x.astype(jnp.float32), kernel.astype(jnp.float32)
    function = functools.partial(depthwise_conv, implementation="shift")
    found = function(x, kernel)
    assert found.dtype == dtype
    half_a_step = 0.51 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(
        found.astype(jnp.float32), grouped(*wide), rtol=half_a_step, atol=1e-5
    )
    cotangent = arrays(shape, (5, 5), dtype, seed=1)[0]
    ours = jax.vjp(function, x, kernel)[1]
    theirs = jax.vjp(grouped, *wide)[1](cotangent.astype(jnp.float32))
    for one, other in zip(ours(cotangent), theirs, strict=True):
        assert one.dtype == dtype
        assert_near(one, other, float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_vmap_over_pictures_and_over_kernels(implementation):
    x, _ = arrays((3, 2, 6, 5, 4), (3, 3))
    kernels = jnp.stack([arrays((1, 1, 1, 4), (3, 3), seed=seed)[1] for seed in range(3)])
    ours = functools.partial(depthwise_conv, implementation=implementation)
    found = jax.vmap(ours)(x, kernels)
    for i in range(3):
        assert_near(found[i], grouped(x[i], kernels[i]), 1e-6)
    found = jax.vmap(functools.partial(gradients, ours), in_axes=(0, None))(x, kernels[0])
    for i in range(3):
        for one, other in zip(found, gradients(grouped, x[i], kernels[0]), strict=True):
            assert_near(one[i], other, 2e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_vmap_of_vmap(implementation):
    x, _ = arrays((2, 3, 1, 5, 5, 4), (3, 3))
    kernels = jnp.stack([arrays((1, 1, 1, 4), (3, 3), seed=seed)[1] for seed in range(3)])
    ours = functools.partial(depthwise_conv, implementation=implementation)
    found = jax.vmap(jax.vmap(ours), in_axes=(0, None))(x, kernels)
    alike = jax.vmap(jax.vmap(ours, in_axes=(None, 0)), in_axes=(0, None))(x[:, 0], kernels)
    for i in range(2):
        for j in range(3):
            assert_near(found[i, j], grouped(x[i, j], kernels[j]), 1e-6)
            assert_near(alike[i, j], grouped(x[i, 0], kernels[j]), 1e-6)


def test_pmap_sums_the_kernels_gradient_as_asked():
    devices = jax.local_device_count()
    x, kernel = arrays((devices, 2, 5, 5, 3), (3, 3))

    def step(x, kernel):
        return lax.psum(gradients(depthwise_conv, x, kernel)[1], "devices")

    found = jax.pmap(step, axis_name="devices", in_axes=(0, None))(x, kernel)
    expected = gradients(grouped, x.reshape(-1, 5, 5, 3), kernel)[1]
    for one in found:
        assert_near(one, expected, 2e-6)


def test_shard_map_sums_the_kernels_gradient_over_the_devices():
    mesh = Mesh(jax.local_devices(), "devices")
    x, kernel = arrays((2 * len(mesh.devices), 5, 5, 3), (3, 3))
    of_kernel = lambda x, kernel: gradients(depthwise_conv, x, kernel)[1]  # noqa: E731
    places = {"in_specs": (PartitionSpec("devices"), PartitionSpec()), "out_specs": PartitionSpec()}
    found = jax.jit(jax.shard_map(of_kernel, mesh=mesh, **places))(x, kernel)
    assert_near(found, gradients(grouped, x, kernel)[1], 2e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_jit_over_shards_of_the_batch(implementation):
    mesh = Mesh(jax.local_devices(), "devices")
    x, kernel = arrays((2 * len(mesh.devices), 5, 5, 3), (3, 3))
    x = jax.device_put(x, NamedSharding(mesh, PartitionSpec("devices")))
    kernel = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec()))
    ours = functools.partial(depthwise_conv, implementation=implementation)
    found = jax.jit(functools.partial(gradients, ours))(x, kernel)
    for one, other in zip(found, gradients(grouped, x, kernel), strict=True):
        assert_near(one, other, 2e-6)


def test_the_default_stays_sharded():
    mesh = Mesh(jax.local_devices(), "devices")
    sharding = NamedSharding(mesh, PartitionSpec("devices"))
    x, kernel = arrays((2 * len(mesh.devices), 5, 5, 3), (3, 3))
    y = jax.jit(depthwise_conv)(jax.device_put(x, sharding), kernel)
    assert y.sharding.is_equivalent_to(sharding, y.ndim)


def test_without_jit_it_is_the_same():
    x, kernel = arrays((2, 6, 5, 3), (3, 3))
    with jax.disable_jit():
        found = gradients(depthwise_conv, x, kernel)
        many = jax.vmap(depthwise_conv, in_axes=(0, None))(x[None], kernel)[0]
    assert_near(many, grouped(x, kernel), 1e-6)
    for one, other in zip(found, gradients(grouped, x, kernel), strict=True):
        assert_near(one, other, 2e-6)


def test_vmap_over_nothing():
    x, kernel = arrays((2, 6, 5, 3), (3, 3))
    assert jax.vmap(depthwise_conv, in_axes=(0, None))(x[None][:0], kernel).shape == (0, *x.shape)


def test_rematerialisation_and_scan():
    x, kernel = arrays((2, 6, 5, 3), (3, 3))

    def twice(function, x, kernel):
        body = lambda x, _: (jnp.tanh(function(x, kernel)), None)  # noqa: E731
        return lax.scan(jax.checkpoint(body), x, None, length=2)[0]

    found = gradients(functools.partial(twice, depthwise_conv), x, kernel)
    for one, other in zip(
        found, gradients(functools.partial(twice, grouped), x, kernel), strict=True
    ):
        assert_near(one, other, 5e-6)


def test_the_grouped_implementation_has_forward_mode_and_second_derivatives():
    x, kernel = arrays((1, 4, 4, 2), (3, 3))
    loss = lambda k: jnp.sum(jnp.sin(depthwise_conv(x, k, implementation="conv")))  # noqa: E731
    gradient = jax.grad(loss)(kernel)
    slope = jax.jvp(loss, (kernel,), (kernel,))[1]
    np.testing.assert_allclose(slope, jnp.sum(gradient * kernel), rtol=1e-4)
    assert np.isfinite(jax.hessian(loss)(kernel)).all()
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda k: depthwise_conv(x, k), (kernel,), (kernel,))


def lowered(platform, function, *arguments):
    """What a function becomes on a platform, which need not be at hand."""
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def test_each_platform_has_its_own_form():
    x, kernel = arrays((2, 6, 5, 4), (3, 3))
    both = functools.partial(gradients, depthwise_conv)
    assert "stablehlo.convolution" not in lowered("cpu", both, x, kernel)
    for name in ("cuda", "rocm", "tpu"):
        text = lowered(name, both, x, kernel)
        assert text.count("stablehlo.convolution") >= 3  # forward and both gradients
        assert "stablehlo.while" not in text


def test_shift_is_the_sum_of_slices_on_every_platform():
    x, kernel = arrays((2, 6, 5, 4), (3, 3))
    ours = functools.partial(depthwise_conv, implementation="shift")
    for name in ("cpu", "cuda", "rocm", "tpu"):
        text = lowered(name, functools.partial(gradients, ours), x, kernel)
        assert "stablehlo.convolution" not in text


def test_the_form_of_other_platforms_is_right_where_it_is_forced_on_this_one(monkeypatch):
    monkeypatch.setattr(
        lax, "platform_dependent", lambda *arguments, default, **_: default(*arguments)
    )
    x, kernel = arrays((2, 6, 5, 4), (3, 5))
    text = jax.jit(functools.partial(gradients, depthwise_conv)).lower(x, kernel).as_text()
    assert "stablehlo.convolution" in text
    assert_near(depthwise_conv(x, kernel), grouped(x, kernel), 1e-6)
    ours = gradients(depthwise_conv, x, kernel)
    for one, other in zip(ours, gradients(grouped, x, kernel), strict=True):
        assert_near(one, other, 2e-6)


def test_default_exports_with_a_symbolic_batch():
    shapes = jax.ShapeDtypeStruct((jax.export.symbolic_shape("batch")[0], 4, 4, 2), X.dtype), KERNEL
    exported = jax.export.export(jax.jit(depthwise_conv))(*shapes)
    x, kernel = arrays((3, 4, 4, 2), (3, 3))
    assert_near(exported.call(x, kernel), grouped(x, kernel), 1e-6)
    both = jax.jit(functools.partial(gradients, depthwise_conv))
    found = jax.export.export(both)(*shapes).call(x, kernel)
    assert_near(found[1], gradients(grouped, x, kernel)[1], 2e-6)


X, KERNEL = jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2))


@pytest.mark.parametrize(
    ("x", "kernel", "implementation", "says"),
    [
        (X, KERNEL, "fft", "implementation is 'fft'"),
        (X[0], KERNEL, None, r"x \(4, 4, 2\) and kernel \(3, 3, 2\) do not fit"),
        (X, KERNEL[..., :1], None, r"kernel \(3, 3, 1\) do not fit"),
        (X, KERNEL[:2], None, "kernel is 2x3; both must be odd"),
        (X, KERNEL.astype(jnp.bfloat16), None, "x is float32 and kernel bfloat16"),
    ],
)
def test_what_does_not_fit_is_said(x, kernel, implementation, says):
    with pytest.raises(ValueError, match=says):
        depthwise_conv(x, kernel, implementation=implementation)
