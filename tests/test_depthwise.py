"""The depthwise convolution against XLA's grouped one: values, gradients, transformations, GPUs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

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


def test_narrow_images_are_taken_together_where_they_divide_the_batch(monkeypatch):
    monkeypatch.setattr(depthwise, "_NARROW_IS_SLOW", True)
    taken = {(16, 12): 2, (16, 8): 2, (8, 6): 4, (16, 3): 8, (4, 16): 1, (17, 12): 1, (2, 3): 1}
    for (batch, block), images in taken.items():
        assert depthwise._images_together(batch, block) == images


def test_long_sums_stay_exact():
    x, kernel = arrays((1, 600, 500, 2), (3, 3))
    ours = functools.partial(depthwise_conv, implementation="shift")
    found = jax.vjp(ours, x, kernel)[1](x)[1]
    image = np.asarray(x[0], np.float64)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    taps = [padded[i : i + 600, j : j + 500] for i in range(3) for j in range(3)]
    exact = np.stack([(tap * image).sum((0, 1)) for tap in taps]).reshape(3, 3, 2)
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
def test_vmap_over_images_and_over_kernels(implementation):
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


AXES = pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])


def placed(axis_type, array, spec):
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(axis_type, axis_type))
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))


# "conv" only over all mesh axes: XLA multiplies the gradient of its kernel by the sizes of others.
@AXES
@pytest.mark.parametrize(
    ("spec", "implementation"),
    [((("a", "b"),), None), ((("a", "b"),), "conv"), (("a",), None), (("a",), "shift")],
)
def test_sharded_batches_stay_sharded_and_have_gradients(axis_type, spec, implementation):
    x, kernel = arrays((4, 6, 8, 4), (3, 5))
    ours = functools.partial(depthwise_conv, implementation=implementation)
    sharded = placed(axis_type, x, spec), placed(axis_type, kernel, ())
    y = jax.jit(ours)(*sharded)
    assert y.sharding.is_equivalent_to(sharded[0].sharding, y.ndim)
    assert_near(y, grouped(x, kernel), 1e-6)
    found = jax.jit(functools.partial(gradients, ours))(*sharded)
    for one, other in zip(found, gradients(grouped, x, kernel), strict=True):
        assert_near(one, other, 2e-6)


@AXES
@pytest.mark.parametrize("spec", [(None, "a"), (None, "a", "b")])
def test_sharded_rows_and_columns_work_by_default(axis_type, spec):
    x, kernel = arrays((2, 4, 4, 4), (3, 5))
    sharded = placed(axis_type, x, spec), placed(axis_type, kernel, ())
    assert_near(jax.jit(depthwise_conv)(*sharded), grouped(x, kernel), 1e-6)


@AXES
def test_shift_accepts_sharded_channels(axis_type):
    x, kernel = arrays((2, 6, 8, 4), (3, 5))
    sharded = placed(axis_type, x, ("b", None, None, "a")), placed(axis_type, kernel, ())
    ours = functools.partial(depthwise_conv, implementation="shift")
    assert_near(jax.jit(ours)(*sharded), grouped(x, kernel), 1e-6)
    kernel_too = sharded[0], placed(axis_type, kernel, (None, None, "a"))
    found = jax.jit(functools.partial(gradients, ours))(*kernel_too)
    for one, other in zip(found, gradients(grouped, x, kernel), strict=True):
        assert_near(one, other, 2e-6)


@AXES
@pytest.mark.parametrize("implementation", [None, "shift"])
def test_vmap_over_a_sharded_axis(axis_type, implementation):
    x, kernel = arrays((4, 2, 6, 5, 4), (3, 3))
    sharded = placed(axis_type, x, ("a",)), placed(axis_type, kernel, ())
    ours = functools.partial(depthwise_conv, implementation=implementation)
    mapped = jax.vmap(ours, in_axes=(0, None))
    y = np.asarray(jax.jit(mapped)(*sharded))
    one_each = jax.vmap(functools.partial(gradients, ours), in_axes=(0, None))
    each = np.asarray(jax.jit(one_each)(*sharded)[1])
    for i in range(4):
        assert_near(y[i], grouped(x[i], kernel), 1e-6)
        assert_near(each[i], gradients(grouped, x[i], kernel)[1], 2e-6)
    found = jax.jit(functools.partial(gradients, mapped))(*sharded)
    flat = x.reshape(8, 6, 5, 4)
    for one, other in zip(found, gradients(grouped, flat, kernel), strict=True):
        assert_near(np.reshape(one, other.shape), other, 2e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_vmap_over_images_leaves_the_kernel_alone(implementation):
    x, kernel = arrays((3, 2, 6, 5, 4), (3, 3))
    ours = functools.partial(depthwise_conv, implementation=implementation)
    mapped = jax.vmap(ours, in_axes=(0, None))
    text = str(jax.make_jaxpr(mapped)(x, kernel))
    # Mapped kernels have an axis of three in front or, in a grouped convolution, twelve channels.
    assert "f32[3,3,3,4]" not in text and "f32[3,3,1,12]" not in text


@pytest.mark.parametrize("implementation", [None, "shift"])
def test_vmap_within_shard_map_leaves_the_kernel_alone(implementation):
    mesh = Mesh(jax.local_devices(), "devices")
    x, kernel = arrays((2 * len(mesh.devices), 3, 6, 5, 4), (3, 3))
    ours = functools.partial(depthwise_conv, implementation=implementation)
    mapped = jax.shard_map(
        jax.vmap(ours, in_axes=(0, None)),
        mesh=mesh,
        in_specs=(PartitionSpec("devices"), PartitionSpec()),
        out_specs=PartitionSpec("devices"),
    )
    assert_near(jax.jit(mapped)(x, kernel)[-1], grouped(x[-1], kernel), 1e-6)
    assert "f32[2,3,3,4]" not in str(jax.make_jaxpr(mapped)(x, kernel))


def test_shard_map_of_images_that_do_not_vary():
    mesh = Mesh(jax.local_devices(), "devices")
    devices = len(mesh.devices)
    x, _ = arrays((2, 5, 5, 3), (3, 3))
    kernels = arrays((devices, 3, 3, 3), (3, 3))[0]
    of_x = lambda x, kernels: gradients(depthwise_conv, x, kernels[0])[0]  # noqa: E731
    places = {"in_specs": (PartitionSpec(), PartitionSpec("devices")), "out_specs": PartitionSpec()}
    found = jax.jit(jax.shard_map(of_x, mesh=mesh, **places))(x, kernels)
    assert_near(found, sum(gradients(grouped, x, kernel)[0] for kernel in kernels), 2e-6)


def test_without_jit_it_is_the_same():
    x, kernel = arrays((2, 6, 5, 3), (3, 3))
    with jax.disable_jit():
        found = gradients(depthwise_conv, x, kernel)
        many = jax.vmap(depthwise_conv, in_axes=(0, None))(x[None], kernel)[0]
    assert_near(many, grouped(x, kernel), 1e-6)
    for one, other in zip(found, gradients(grouped, x, kernel), strict=True):
        assert_near(one, other, 2e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_of_size_zero(axes, implementation):
    x, kernel = arrays((2, 4, 4, 2), (3, 3))
    ours = functools.partial(depthwise_conv, implementation=implementation)
    many = [
        each if axis is None else each[None][:0]
        for each, axis in zip((x, kernel), axes, strict=True)
    ]
    assert jax.vmap(ours, in_axes=axes)(*many).shape == (0, *x.shape)
    found = jax.vmap(functools.partial(gradients, ours), in_axes=axes)(*many)
    assert [each.shape for each in found] == [(0, *x.shape), (0, *kernel.shape)]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", [(2, 4, 4, 0), (0, 4, 4, 2), (2, 0, 4, 2), (2, 4, 0, 2)])
def test_empty_arrays_give_empty_arrays_and_zero_gradients(shape, implementation):
    x, kernel = arrays(shape, (3, 3))
    ours = functools.partial(depthwise_conv, implementation=implementation)
    assert ours(x, kernel).shape == shape
    of_x, of_kernel = jax.jit(functools.partial(gradients, ours))(x, kernel)
    assert of_x.shape == shape
    assert of_kernel.shape == kernel.shape and not of_kernel.any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("implementation", [None, "shift"])
def test_strict_promotion_gives_the_same_numbers(dtype, implementation):
    x, kernel = arrays((2, 6, 20, 4), (3, 5), dtype)
    ours = functools.partial(depthwise_conv, implementation=implementation)
    expected = ours(x, kernel), *jax.vjp(ours, x, kernel)[1](x)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found = ours(x, kernel), *jax.vjp(ours, x, kernel)[1](x)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        np.testing.assert_array_equal(np.float64(one), np.float64(other))


def test_rematerialization_and_scan():
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


@pytest.mark.parametrize("transform", [jax.jacfwd, jax.hessian])
@pytest.mark.parametrize("implementation", [None, "shift"])
def test_forward_mode_names_the_implementation_that_has_it(transform, implementation):
    x, kernel = arrays((1, 4, 4, 2), (3, 3))
    ours = functools.partial(depthwise_conv, implementation=implementation)
    with pytest.raises(TypeError, match="forward-mode.*use implementation='conv'"):
        transform(lambda k: jnp.sum(jnp.sin(ours(x, k))))(kernel)


def lowered(platform, function, *arguments):
    """What a function becomes on a platform, which need not be at hand."""
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def pulled_back(argument):
    """The gradient of a sum of the convolution with respect to its first or second argument."""
    return jax.grad(lambda x, kernel: jnp.sum(depthwise_conv(x, kernel)), argnums=argument)


@pytest.mark.parametrize(
    "function",
    [depthwise_conv, pulled_back(0), pulled_back(1)],
    ids=["forward", "gradient of x", "gradient of the kernel"],
)
def test_each_platform_has_its_own_form(function):
    x, kernel = arrays((2, 6, 5, 4), (3, 3))
    assert "stablehlo.convolution" not in lowered("cpu", function, x, kernel)
    for name in ("cuda", "rocm", "tpu"):
        text = lowered(name, function, x, kernel)
        assert "stablehlo.convolution" in text
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


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("sizes", ["b, 4, 20, 2", "b, h, w, 2"])
def test_exports_with_symbolic_sizes(sizes, implementation):
    ours = functools.partial(depthwise_conv, implementation=implementation)
    shapes = jax.ShapeDtypeStruct(jax.export.symbolic_shape(sizes), X.dtype), KERNEL
    x, kernel = arrays((3, 4, 20, 2), (3, 3))
    exported = jax.export.export(jax.jit(ours))(*shapes)
    assert_near(exported.call(x, kernel), grouped(x, kernel), 1e-6)
    both = jax.jit(functools.partial(gradients, ours))
    found = jax.export.export(both)(*shapes).call(x, kernel)
    for one, other in zip(found, gradients(grouped, x, kernel), strict=True):
        assert_near(one, other, 2e-6)


X, KERNEL = jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2))


@pytest.mark.parametrize(
    ("x", "kernel", "implementation", "says"),
    [
        (X, KERNEL, "fft", "implementation is 'fft'"),
        (X[0], KERNEL, None, r"x \(4, 4, 2\) and kernel \(3, 3, 2\) do not fit"),
        (X, KERNEL[..., :1], None, r"kernel \(3, 3, 1\) do not fit"),
        (X, KERNEL[:2], None, "kernel is 2x3; its height and width must be odd"),
        (X, KERNEL.astype(jnp.bfloat16), None, "x is float32 and kernel is bfloat16"),
    ],
)
def test_what_does_not_fit_is_said(x, kernel, implementation, says):
    with pytest.raises(ValueError, match=says):
        depthwise_conv(x, kernel, implementation=implementation)
