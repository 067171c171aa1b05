"""The network's sizes, shapes, start and normalization; its decoding against NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxpose.errors import JaxposeError
from jaxpose.heatmaps import aggregate_context
from jaxpose.network import (
    BatchNorm,
    PoseNet,
    decode_maps,
    decode_output,
    depthwise_glorot,
    glorot,
    initial_variables,
    make_net,
    normalize,
)

TINY = PoseNet(num_joints=3, num_blocks=2, num_context_maps=2, width=18, kernel_size=3)


@functools.cache
def shapes(net, *, size=(32, 32), train=False):
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(functools.partial(net.init, train=train), jax.random.key(0), images)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def by_name(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


# The rows of a network of the paper's width: K to the trained numbers with C = 2, C = 0, and the
# statistics, which depend on neither J nor C.
SIZES = {
    1: (2_715_072, 2_696_640, 12_096),
    2: (4_422_912, 4_367_616, 21_312),
    4: (7_838_592, 7_709_568, 39_744),
    8: (14_669_952, 14_393_472, 76_608),
}


@pytest.mark.parametrize("blocks", SIZES)
def test_the_papers_network_has_the_published_size(blocks):
    with_context, without, statistics = SIZES[blocks]
    for context_maps, expected in ((2, with_context), (0, without)):
        found = shapes(PoseNet(num_blocks=blocks, num_context_maps=context_maps))
        assert count(found["params"]) == expected
        assert count(found["batch_stats"]) == statistics


@pytest.mark.parametrize("context_maps", [0, 2])
def test_output_shapes(context_maps):
    net = TINY.clone(num_context_maps=context_maps)
    apply = functools.partial(net.apply, heatmaps=True)
    output = jax.eval_shape(apply, shapes(net), jnp.zeros((5, 160, 64, 3)))
    assert output.keypoints.shape == (2, 5, 3, 2)
    assert output.presence_logits.shape == (2, 5, 3)
    assert output.heatmaps.shape == (2, 5, 20, 8, 3 * (1 + context_maps))


def test_heat_maps_come_only_when_asked_for():
    output = jax.eval_shape(TINY.apply, shapes(TINY), jnp.zeros((1, 32, 32, 3)))
    assert output.heatmaps is None


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 32, 3), np.uint8)
    return normalize(pixels)


@pytest.fixture(scope="module")
def variables():
    return initial_variables(TINY, 0)


def outputs(net, variables, images):
    """In training mode, whose batch norm keeps an untrained network's maps within bounds."""
    apply = functools.partial(net.apply, train=True, heatmaps=True, mutable=["batch_stats"])
    return jax.jit(apply)(variables, images)[0]


@pytest.fixture(scope="module")
def output(variables, images):
    return outputs(TINY, variables, images)


def test_images_are_rectangular_and_answers_are_shares_of_them(output):
    assert output.heatmaps.shape == (2, 2, 8, 4, 9)
    assert np.isfinite(output.heatmaps).all()
    assert ((output.keypoints > 0) & (output.keypoints < 1)).all()
    assert output.keypoints.dtype == output.presence_logits.dtype == jnp.float32


def half_pixel(n):
    return (np.arange(n) + 0.5) / n


def test_predictions_are_the_heat_maps_decoded(output):
    for k, b in np.ndindex(2, 2):
        heatmaps = np.asarray(output.heatmaps[k, b])
        keypoints, logits = expected_decoding(heatmaps, 3, 0.8, half_pixel)
        np.testing.assert_allclose(output.keypoints[k, b], keypoints, atol=1e-6)
        np.testing.assert_allclose(output.presence_logits[k, b], logits, rtol=1e-6)
        context, _ = expected_decoding(heatmaps, 3, 0.0, half_pixel)
        np.testing.assert_allclose(output.context_keypoints[k, b], context, atol=1e-6)


def test_a_network_without_context_maps_has_no_context_keypoints(variables, images):
    alone = TINY.clone(num_context_maps=0)
    shapes = jax.eval_shape(alone.init_with_output, jax.random.key(0), images)
    assert shapes[0].context_keypoints is None


def test_bfloat16_stays_close_to_float32(variables, images, output):
    rounded = outputs(TINY.clone(dtype=jnp.bfloat16), variables, images)
    assert rounded.keypoints.dtype == jnp.float32
    np.testing.assert_allclose(rounded.keypoints, output.keypoints, atol=0.02)
    np.testing.assert_allclose(rounded.presence_logits, output.presence_logits, atol=0.3)


def test_portable_layers_answer_alike_and_know_no_platform(variables, images, output):
    portable = TINY.clone(portable=True)
    found = outputs(portable, variables, images)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(output), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert "platform_index" in str(jax.make_jaxpr(TINY.apply)(variables, images))
    assert "platform_index" not in str(jax.make_jaxpr(portable.apply)(variables, images))


def expected_decoding(heatmaps, joints, alpha, positions_of):
    """Sections 3.2.1 to 3.2.3 in float64, map by map: [H, W, M] to ([J, 2], [J])."""
    rows, columns, maps = heatmaps.shape
    heatmaps = heatmaps.astype(np.float64)
    positions, logits = [], []
    for m in range(maps):
        weight = np.exp(heatmaps[..., m] - heatmaps[..., m].max())
        weight /= weight.sum()
        x = (weight.sum(0) * positions_of(columns)).sum()
        y = (weight.sum(1) * positions_of(rows)).sum()
        positions.append([x, y])
        logits.append(heatmaps[..., m].max())
    context_maps = maps // joints - 1
    outputs = []
    for j in range(joints):
        prediction = np.array(positions[j])
        if context_maps:
            mine = range(joints + j * context_maps, joints + (j + 1) * context_maps)
            share = np.array([1 / (1 + np.exp(-logits[m])) for m in mine])
            context = sum(s * np.array(positions[m]) for s, m in zip(share, mine, strict=True))
            prediction = alpha * prediction + (1 - alpha) * context / share.sum()
        outputs.append(prediction)
    return np.array(outputs), np.array(logits[:joints])


@pytest.mark.parametrize("context_maps", [0, 1, 3])
def test_decoding_is_the_papers(context_maps):
    heatmaps = 3 * np.random.default_rng(2).normal(size=(2, 2, 6, 5, 4 * (1 + context_maps)))
    heatmaps = heatmaps.astype(np.float32)
    decoded = decode_maps(heatmaps, num_joints=4, grid="align_corners")
    keypoints = aggregate_context(decoded.part, decoded.context, decoded.context_logits, alpha=0.7)
    for k, b in np.ndindex(2, 2):
        expected = expected_decoding(heatmaps[k, b], 4, 0.7, lambda n: np.arange(n) / (n - 1))
        np.testing.assert_allclose(keypoints[k, b], expected[0], atol=1e-6)
        np.testing.assert_allclose(decoded.part_logits[k, b], expected[1], rtol=1e-6)


def window_in_numpy(heatmaps, window):
    """The maps [..., H, W, M], with -1e9 outside of a window around each one's highest cell."""
    found = np.full(heatmaps.shape, -1e9, np.float32)
    for *lead, m in np.ndindex(*heatmaps.shape[:-3], heatmaps.shape[-1]):
        at = (*lead, slice(None), slice(None), m)
        row, column = np.unravel_index(heatmaps[at].argmax(), heatmaps[at].shape)
        near = tuple(slice(max(i - window // 2, 0), i + window // 2 + 1) for i in (row, column))
        found[at][near] = heatmaps[at][near]
    return found


@pytest.mark.parametrize("context_maps", [0, 2])
def test_a_window_leaves_out_the_cells_far_from_the_maximum(context_maps):
    net = TINY.clone(num_context_maps=context_maps, window=3)
    maps = net.num_joints * (1 + context_maps)
    heatmaps = 3 * np.random.default_rng(4).normal(size=(2, 2, 6, 7, maps)).astype(np.float32)
    found = decode_output(net, heatmaps, window=3)
    expected = decode_output(net, window_in_numpy(heatmaps, 3), window=0)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-6)
    if context_maps:
        near = (found.context_keypoints, expected.context_keypoints)
        np.testing.assert_allclose(*near, atol=1e-6)
    np.testing.assert_array_equal(found.presence_logits, expected.presence_logits)
    whole = decode_output(net, heatmaps, window=0)
    assert np.abs(found.keypoints - whole.keypoints).max() > 0.05


@pytest.mark.slow
def test_the_window_is_for_predictions_and_not_for_training(images):
    variables = initial_variables(SMALL, 0)
    windowed = SMALL.clone(window=1)
    maps = jax.jit(functools.partial(SMALL.apply, heatmaps=True))(variables, images).heatmaps
    expected = decode_output(SMALL, maps, window=1).keypoints
    assert np.abs(expected - decode_output(SMALL, maps, window=0).keypoints).max() > 0.05
    found = jax.jit(windowed.apply)(variables, images).keypoints
    np.testing.assert_allclose(found, expected, atol=1e-5)
    trained, plain = (outputs(net, variables, images) for net in (windowed, SMALL))
    np.testing.assert_array_equal(trained.keypoints, plain.keypoints)


def test_initial_variables_are_what_init_draws():
    net = TINY.clone(num_blocks=1, num_context_maps=0)
    ours = by_name(initial_variables(net, 7))
    theirs = by_name(shapes(net, train=True))
    assert {n: (x.shape, x.dtype) for n, x in ours.items()} == {
        n: (x.shape, x.dtype) for n, x in theirs.items()
    }
    for name, values in ours.items():
        if values.ndim == 1:
            assert (values == (1 if name.endswith("variance") else 0)).all(), name
            continue
        # Keras: uniform within sqrt(6 / (fan_in + fan_out)), each fan with the window's size; of a
        # depthwise kernel the channels come in and one goes out.
        window = int(np.prod(values.shape[:-2]))
        fan_in, fan_out = window * values.shape[-2], window * values.shape[-1]
        if name.endswith("depthwise"):
            fan_in, fan_out = values.size, values.size // values.shape[-1]
        limit = np.sqrt(6 / (fan_in + fan_out))
        assert np.abs(values).max() <= limit, name
        # n uniform numbers stay below 0.85 of their limit with probability 0.85 ** n.
        assert values.size < 50 or np.abs(values).max() > 0.85 * limit, name
        assert abs(values.mean()) < 5 * limit / np.sqrt(3 * values.size), name


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
def test_initial_variables_are_those_of_a_compiled_init(remat):
    net = TINY.clone(num_blocks=1, remat=remat)
    init = jax.jit(functools.partial(net.init, train=True))
    theirs = init(jax.random.key(3), jnp.zeros((2, 64, 32, 3)))
    jax.tree.map(np.testing.assert_array_equal, initial_variables(net, 3), dict(theirs))


def test_initial_variables_do_not_depend_on_device_or_options():
    net = TINY.clone(num_blocks=1, num_context_maps=0)
    expected = initial_variables(net, 7)
    with jax.default_device(jax.devices()[-1]), jax.default_prng_impl("rbg"), jax.enable_x64(True):
        jax.tree.map(np.testing.assert_array_equal, initial_variables(net, 7), expected)
    jax.tree.map(
        np.testing.assert_array_equal, initial_variables(net.clone(portable=True), 7), expected
    )
    half = net.clone(dtype=jnp.bfloat16, remat=True, axis_name="devices")
    jax.tree.map(np.testing.assert_array_equal, initial_variables(half, 7), expected)


def test_kernels_of_several_networks_are_drawn_under_vmap():
    keys = jax.random.split(jax.random.key(5), 3)
    for draw, shape in ((glorot, (1, 1, 3, 4)), (depthwise_glorot, (5, 5, 3))):
        found = jax.vmap(lambda key: draw(key, shape, jnp.float32))(keys)  # noqa: B023
        expected = jnp.stack([draw(key, shape, jnp.float32) for key in keys])
        np.testing.assert_array_equal(found, expected)


def test_initial_variables_follow_the_seed():
    one, same, other = (initial_variables(TINY, seed)["params"] for seed in (1, 1, 2))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, one, same)))
    assert not np.array_equal(one["block1_b"]["heatmaps"], other["block1_b"]["heatmaps"])
    assert not np.array_equal(one["block1_b"]["heatmaps"], one["block2_b"]["heatmaps"])


def norm_variables(rng):
    beta, mean = rng.normal(size=(2, 5)).astype(np.float32)
    variance = rng.uniform(0.5, 2, 5).astype(np.float32)
    return {"params": {"beta": beta}, "batch_stats": {"mean": mean, "variance": variance}}


def test_training_normalizes_by_the_batch_and_moves_the_statistics():
    rng = np.random.default_rng(3)
    x = rng.normal(2, 3, (4, 6, 7, 5)).astype(np.float32)
    start = norm_variables(rng)
    y, updated = BatchNorm(train=True).apply(start, x, mutable=["batch_stats"])
    wide = x.astype(np.float64)
    mean, variance = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
    expected = (wide - mean) / np.sqrt(variance + 1e-3) + start["params"]["beta"]
    np.testing.assert_allclose(y, expected, atol=1e-5)
    old = start["batch_stats"]
    new = updated["batch_stats"]
    np.testing.assert_allclose(new["mean"], 0.99 * old["mean"] + 0.01 * mean, rtol=1e-5)
    np.testing.assert_allclose(new["variance"], 0.99 * old["variance"] + 0.01 * variance, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_inference_normalizes_by_the_statistics(dtype, tolerance):
    rng = np.random.default_rng(4)
    x = jnp.asarray(rng.normal(size=(2, 3, 4, 5)), dtype)
    start = norm_variables(rng)
    y = BatchNorm(train=False).apply(start, x)
    mean, variance = start["batch_stats"]["mean"], start["batch_stats"]["variance"]
    expected = (np.asarray(x, np.float64) - mean) / np.sqrt(variance + 1e-3)
    assert y.dtype == x.dtype
    np.testing.assert_allclose(
        np.asarray(y, np.float64), expected + start["params"]["beta"], atol=tolerance
    )


def test_statistics_are_float32_under_bfloat16():
    x = jnp.ones((1, 2, 2, 5), jnp.bfloat16)
    start = norm_variables(np.random.default_rng(5))
    y, updated = BatchNorm(train=True).apply(start, x, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype.name for leaf in jax.tree.leaves(updated)} == {"float32"}


@pytest.mark.slow
def test_rematerialization_changes_no_gradient(variables, images):
    def gradients(net):
        def loss(params):
            start = {**variables, "params": params}
            output, _ = net.apply(start, images, train=True, mutable=["batch_stats"])
            return (output.keypoints**2).sum() + output.presence_logits.sum()

        return jax.jit(jax.grad(loss))(variables["params"])

    plain = by_name(gradients(TINY))
    for name, values in by_name(gradients(TINY.clone(remat=True))).items():
        scale = np.abs(plain[name]).max()
        np.testing.assert_allclose(values, plain[name], atol=1e-4 * scale, err_msg=name)


@pytest.mark.parametrize(
    ("changes", "shape", "says"),
    [
        ({"width": 100}, (1, 32, 32, 3), "width is 100; it must be a multiple of 18"),
        ({"width": 0}, (1, 32, 32, 3), "width is 0"),
        ({"kernel_size": 4}, (1, 32, 32, 3), "kernel_size is 4; it must be odd"),
        ({"num_blocks": 0}, (1, 32, 32, 3), "num_blocks is 0"),
        ({}, (1, 60, 64, 3), "size 60x64 is not divisible by 32; resize or crop to 64x64"),
        ({}, jax.export.symbolic_shape("b, h, 32*w, 3"), r"symbolic image size hx32\*w"),
        ({}, (32, 32, 3), r"shape \(32, 32, 3\)"),
        ({}, (1, 32, 32, 4), r"shape \(1, 32, 32, 4\)"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(changes, shape, says):
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(JaxposeError, match=says) as caught:
        jax.eval_shape(TINY.clone(**changes).init, jax.random.key(0), images)
    assert "\n" not in str(caught.value)


def test_images_that_were_not_normalized_are_refused():
    with pytest.raises(JaxposeError, match="images are uint8"):
        TINY.apply(shapes(TINY), jnp.zeros((1, 32, 32, 3), jnp.uint8))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grid": "pixel"}, "'pixel'"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"window": 4}, "window is 4; it must be odd, or 0 for the whole heat map"),
        ({"window": -1}, "window is -1; it must be from 0 to 999"),
        ({"depth": 3}, "no argument depth"),
    ],
)
def test_recorded_arguments_are_checked(changes, says):
    arguments = {"num_joints": 3, "num_blocks": 1, "grid": "paper", "temperature": 1.0, "width": 18}
    assert make_net(arguments, dtype="bfloat16").dtype == jnp.bfloat16
    with pytest.raises(JaxposeError, match=says):
        make_net({**arguments, **changes})


def test_normalize_maps_bytes_to_plus_minus_one():
    pixels = np.array([0, 51, 255], np.uint8)
    np.testing.assert_allclose(normalize(pixels), [-1, -0.6, 1], atol=1e-6)


SMALL = TINY.clone(num_blocks=1, num_context_maps=1)


def test_strict_promotion_gives_the_same_numbers(images):
    variables = initial_variables(SMALL, 0)
    expected = jax.jit(SMALL.apply)(variables, images), outputs(SMALL, variables, images)
    half = SMALL.clone(dtype=jnp.bfloat16)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found = jax.jit(SMALL.apply)(variables, images), outputs(SMALL, variables, images)
        jax.eval_shape(half.apply, variables, images)
        jax.eval_shape(functools.partial(outputs, half), variables, images)
        jax.eval_shape(SMALL.init, jax.random.key(0), images)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)
        np.testing.assert_array_equal(ours.presence_logits, theirs.presence_logits)


@pytest.mark.parametrize(
    ("axis_type", "portable"),
    [
        (AxisType.Explicit, False),
        pytest.param(AxisType.Explicit, True, marks=pytest.mark.slow),
        pytest.param(AxisType.Auto, False, marks=pytest.mark.slow),
        pytest.param(AxisType.Auto, True, marks=pytest.mark.slow),
    ],
)
def test_sharded_images_keep_their_shards(axis_type, portable):
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(axis_type, axis_type))
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 32, 64, 3)), jnp.float32)
    net, variables = SMALL.clone(portable=portable), initial_variables(SMALL, 0)
    sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("a")))
    everywhere = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    expected = jax.jit(net.apply)(variables, images)
    found = jax.jit(net.apply)(everywhere, sharded)
    of_batch = NamedSharding(mesh, PartitionSpec(None, "a"))
    if axis_type == AxisType.Auto or jax.__version_info__ >= (0, 10, 1):
        # Before, a custom_vmap function under vmap gives up the shards of an explicit axis.
        assert found.keypoints.sharding.is_equivalent_to(of_batch, 4)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-5)
    np.testing.assert_allclose(
        found.presence_logits, expected.presence_logits, rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_gradients_on_a_mesh_with_explicit_axes():
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Explicit, AxisType.Explicit))
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)), jnp.float32)
    variables = initial_variables(SMALL, 0)

    def loss(params, variables, images):
        variables = {**variables, "params": params}
        output, _ = SMALL.apply(variables, images, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(output.keypoints)) + jnp.sum(jnp.square(output.presence_logits))

    of_params = jax.jit(jax.grad(loss))
    expected = by_name(of_params(variables["params"], variables, images))
    everywhere = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("a")))
    for name, found in by_name(of_params(everywhere["params"], everywhere, sharded)).items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found, expected[name], atol=1e-3 * scale, err_msg=name)


def test_exports_with_symbolic_height_and_width(images):
    variables = initial_variables(SMALL, 0)
    apply = jax.jit(functools.partial(SMALL.apply, variables))
    sizes = jax.export.symbolic_shape("b, 32*h, 32*w, 3")
    exported = jax.export.export(apply)(jax.ShapeDtypeStruct(sizes, jnp.float32))
    np.testing.assert_allclose(exported.call(images).keypoints, apply(images).keypoints, atol=1e-5)
