"""A whole split through a network that finds colored dots: its answers are known beforehand."""

import functools

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose.data.prepared import annotations
from jaxpose.evaluation import baselines, evaluate, inference, protocols
from jaxpose.evaluation.evaluation_set import EvaluationSet, evaluation_set_of
from jaxpose.geometry import CropRule
from jaxpose.network import PoseNet, PoseOutput, initial_variables
from jaxpose.skeleton import flip_permutation
from tests.support.drawn_people import JOINTS, split_of
from tests.support.some_devices import on_devices

NETWORK = ("left_wrist", "neck", "right_wrist", "nose")
CHANNELS = (1, 2, 0)  # green, blue and red dots; the nose is always said to be in the middle
PEOPLE = split_of(11)
RULE = CropRule("scale", 1.1)


class DotFinder:
    """Stands in for a `PoseNet`: the mean position of each color; block 0 is 0.1 to the right.

    In a mirrored crop the red dot is the left wrist's, as a trained network would have it. The part
    maps have one cell per pixel and are the logarithms of Gaussians, so that the mean of two maps
    has its position at the mean of their positions.
    """

    num_blocks, num_joints, num_context_maps, dtype = 2, 4, 0, jnp.float32
    grid, temperature, window, alpha = "half_pixel", 1.0, 0, 0.8

    def apply(self, variables, images, *, train, heatmaps):
        assert not train and heatmaps
        mass = (images + 1) / 2 * variables["gain"]
        size = images.shape[1]
        ramp = (jnp.arange(size) + 0.5) / size
        total = mass.sum((1, 2))
        x = (mass.sum(1) * ramp[:, None]).sum(1) / total
        y = (mass.sum(2) * ramp[:, None]).sum(1) / total
        red_is_right = x[:, 0] < x[:, 1]  # drawn so: red is left of green
        channels = jnp.where(red_is_right[:, None], jnp.array([1, 2, 0]), jnp.array([0, 2, 1]))
        dots = jnp.take_along_axis(jnp.stack([x, y], -1), channels[..., None], axis=1)
        middle = jnp.full((len(images), 1, 2), 0.5)
        found = jnp.concatenate([dots, middle], axis=1)
        found = jnp.stack([found + jnp.array([0.1, 0.0]), found])
        confidence = jnp.broadcast_to(jnp.array([0.0, 50.0, -50.0, 0.0]), found.shape[:3])
        columns, rows = (
            jnp.square((ramp[:, None] - found[..., None, :, axis]) * size) for axis in (0, 1)
        )
        maps = -(rows[..., :, None, :] + columns[..., None, :, :]) / 2
        return PoseOutput(found, confidence, maps)


NET = DotFinder()
SMALL = PoseNet(num_joints=4, num_blocks=2, width=18, kernel_size=3)
FLIPPED = tuple(flip_permutation(NETWORK).tolist())


def predict(split=PEOPLE, **changes):
    arguments = dict(joints=NETWORK, image_size=96, batch_size=4, rule=RULE)
    return inference.predict_split(NET, {"gain": np.float32(1)}, split, **arguments | changes)


@pytest.fixture(scope="module")
def plain():
    return predict()


def truth_in_network_order(split=PEOPLE):
    keypoints = annotations(split).keypoints
    return keypoints[:, [JOINTS.index(name) for name in NETWORK[:3]]]


def test_every_person_is_answered_in_pixels_of_the_image(plain):
    assert plain.keypoints.shape == (2, 11, 4, 2) and plain.presence.shape == (2, 11, 4)
    np.testing.assert_allclose(plain.keypoints[-1, :, :3], truth_in_network_order(), atol=0.3)
    assert plain.readable.all()


def test_blocks_are_kept_apart(plain):
    sides = annotations(PEOPLE).scale * 1.1
    moved = plain.keypoints[0] - plain.keypoints[1]
    np.testing.assert_allclose(moved[..., 0], np.broadcast_to(0.1 * sides[:, None], (11, 4)), 1e-4)
    np.testing.assert_allclose(moved[..., 1], 0, atol=1e-4)


def test_confidence_is_a_probability(plain):
    np.testing.assert_allclose(plain.presence[1], np.tile([0.5, 1, 0, 0.5], (11, 1)), atol=1e-6)


def test_labeled_and_in_the_crop(plain):
    np.testing.assert_array_equal(plain.in_crop, np.tile([True, True, True, False], (11, 1)))


@pytest.mark.parametrize("batch_size", [3, 11, 64])
def test_the_batch_size_changes_no_answer(plain, batch_size):
    """Also one that the devices do not divide, and one larger than the split."""
    found = predict(batch_size=batch_size)
    np.testing.assert_allclose(found.keypoints, plain.keypoints, atol=1e-4)


@pytest.fixture
def traced_once(monkeypatch):
    """Fail where the program of a forward pass is traced a second time."""
    chex.clear_trace_counter()
    inference.make_forward.cache_clear()
    once = chex.assert_max_traces(inference.predict_blocks, n=1)
    monkeypatch.setattr(inference, "predict_blocks", once)
    yield
    inference.make_forward.cache_clear()


def test_a_split_is_predicted_by_one_program(traced_once):
    """Whatever its length, and for all sizes of the crops."""
    predict(num_crops=3)
    predict(split_of(6))


def test_a_mirrored_pass_agrees_with_the_plain_one(plain):
    flipped = predict(flip_test=True)
    np.testing.assert_allclose(flipped.keypoints[1], plain.keypoints[1], atol=0.3)
    # Block 0's error points to the image's right in both passes, and cancels.
    np.testing.assert_allclose(flipped.keypoints[0], flipped.keypoints[1], atol=1e-3)


@pytest.fixture
def crops():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def test_under_flip_test_the_mirrored_crop_has_the_mirrored_answer(crops):
    """Of any network, such as one with drawn weights."""
    prediction = functools.partial(
        inference.predict_blocks, SMALL, initial_variables(SMALL, 0), flipped=FLIPPED
    )
    keypoints, probability = prediction(jnp.asarray(crops))
    mirrored, mirrored_probability = prediction(jnp.asarray(crops[:, :, ::-1]))
    back = mirrored[:, :, FLIPPED] * np.array([-1, 1]) + np.array([1, 0])
    np.testing.assert_allclose(back, keypoints, atol=1e-4)
    np.testing.assert_allclose(mirrored_probability[:, :, FLIPPED], probability, atol=1e-4)


def test_flip_test_leaves_the_answer_of_a_mirror_equivariant_network(crops):
    class Equivariant(DotFinder):
        """Block 1 of the dot finder, which knows a mirrored crop from a plain one."""

        def apply(self, *arguments, **options):
            output = super().apply(*arguments, **options)
            return PoseOutput(*(part[1:] for part in output[:3]))

    # Red left of green, as in every plain image of these people.
    crops[:, :, :16, 0], crops[:, :, 16:, 1] = 255, 255
    prediction = functools.partial(
        inference.predict_blocks, Equivariant(), {"gain": np.float32(1)}, jnp.asarray(crops)
    )
    keypoints = prediction()[0]
    assert (keypoints[0, :, 2, 0] < keypoints[0, :, 0, 0]).all()
    np.testing.assert_allclose(prediction(flipped=FLIPPED)[0], keypoints, atol=1e-6)


@pytest.mark.parametrize("devices", [1, 2])  # the other tests run on four
def test_the_number_of_devices_changes_no_answer(plain, devices):
    inference.make_forward.cache_clear()
    with on_devices(devices):
        found = predict()
    inference.make_forward.cache_clear()
    np.testing.assert_allclose(found.keypoints, plain.keypoints, atol=1e-4)
    assert found.readable.all()


def test_several_crops_are_averaged_in_pixels(plain):
    several = predict(num_crops=3)
    np.testing.assert_allclose(several.keypoints[1], plain.keypoints[1], atol=0.3)
    assert not np.array_equal(several.keypoints, plain.keypoints)
    np.testing.assert_allclose(several.presence, plain.presence, atol=1e-6)


def test_a_crop_that_disagrees_with_the_others_has_no_influence(plain, monkeypatch):
    """The positions of the second of three crops are moved by 0.4 of its side."""
    batches = inference.evaluation_batches

    def with_a_wrong_crop(*arguments, rule, **options):
        for batch in batches(*arguments, rule=rule, **options):
            if rule.enlargement < RULE.enlargement:
                moved = batch.crop_to_image.copy()
                moved[..., 2] += 0.4 * moved[..., 0]
                batch = batch._replace(crop_to_image=moved)
            yield batch

    monkeypatch.setattr(inference, "evaluation_batches", with_a_wrong_crop)
    two, three = predict(num_crops=2), predict(num_crops=3)
    # The presence is the same in both crops, so the first one wins.
    np.testing.assert_allclose(two.keypoints[1], plain.keypoints[1], atol=1e-6)
    np.testing.assert_allclose(three.keypoints[1], plain.keypoints[1], atol=0.3)


def test_decodings_of_several_and_flipped_crops_are_averaged_over_the_same_crops():
    options = dict(joints=NETWORK, image_size=32, batch_size=8, rule=RULE, decodings=True)
    net = SMALL.clone(window=3)
    found = inference.predict_split(
        net, initial_variables(net, 3), PEOPLE, **options, num_crops=3, flip_test=True
    )
    names = [inference.WHOLE_MAPS, inference.PARTS_ALONE, inference.MAXIMUM]
    assert list(found.decodings) == [*names, inference.WITHOUT_OFFSET]
    side = annotations(PEOPLE).scale * RULE.enlargement
    for name, keypoints in found.decodings.items():
        assert keypoints.shape == found.keypoints.shape and np.isfinite(keypoints).all()
        assert np.abs(keypoints - found.keypoints).max() > 0.1, name
    offset = found.decodings[inference.WITHOUT_OFFSET] - found.keypoints
    np.testing.assert_allclose((offset / side[:, None, None]).mean(axis=1), 0, atol=1e-6)


def test_of_several_crops_the_first_decides_what_is_in_the_crop():
    rules = [RULE._replace(enlargement=enlargement) for enlargement in (0.45, 0.405, 0.495)]
    first, smaller, larger = (predict(rule=rule).in_crop for rule in rules)
    assert (first != smaller).any() and (first != larger).any()
    for num_crops in (2, 3):
        found = predict(rule=rules[0], num_crops=num_crops)
        np.testing.assert_array_equal(found.in_crop, first)


def test_an_image_that_does_not_decode_is_counted():
    persons = [dict(person) for person in PEOPLE.source]
    persons[3]["image"] = persons[3]["image"][:200]
    found = predict(PEOPLE._replace(source=persons))
    np.testing.assert_array_equal(found.readable, np.arange(11) != 3)


def test_predictions_are_the_trained_joints_in_pixels_of_the_release(plain):
    truth = annotations(PEOPLE)
    truth = truth._replace(
        zoom=np.full(11, 0.5, np.float32),
        origin=np.tile([[10.0, 20.0]], (11, 1)),
        head_size=np.full(11, 8.0),
    )
    trained = ("right_wrist", "left_wrist")
    evaluation_set = EvaluationSet(NETWORK, trained, JOINTS, truth)
    found = evaluate.labeled_predictions(plain, evaluation_set)
    assert found.prediction_joints == trained and found.joints == JOINTS
    expected = [10, 20] + 2 * plain.keypoints[-1][:, [2, 0]]
    np.testing.assert_allclose(found.prediction, expected)
    np.testing.assert_allclose(found.head_size, 16)
    seen = truth.labeled
    np.testing.assert_allclose(
        found.ground_truth[seen], ([10, 20] + 2 * truth.keypoints)[seen], rtol=1e-6
    )
    assert not found.ground_truth[~seen].any()


def with_heads():
    """The people's evaluation set with head sizes, which PCKh needs."""
    found = evaluation_set_of(PEOPLE, NETWORK)
    return found._replace(truth=found.truth._replace(head_size=np.full(11, 8.0)))


def test_an_evaluation_set_has_all_joints_trained_unless_told():
    found = evaluation_set_of(PEOPLE, list(NETWORK))
    assert (found.joints, found.trained_joints, found.truth_joints) == (NETWORK, NETWORK, JOINTS)
    assert evaluation_set_of(PEOPLE, NETWORK, ["neck"]).trained_joints == ("neck",)
    for ours, theirs in zip(found.truth, annotations(PEOPLE), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_split_is_scored_by_the_protocols_that_its_joints_allow(plain):
    without_heads = evaluation_set_of(PEOPLE, NETWORK)
    assert list(evaluate.evaluate_predictions(plain, without_heads)) == ["pck"]  # by their boxes
    found = evaluate.evaluate_predictions(plain, with_heads())
    assert list(found) == ["mpii-pckh"]
    rates = {part: x.rate for part, x in found["mpii-pckh"].parts.items()}
    assert (rates["right_wrist"], rates["upper_neck"]) == (100.0, 100.0)
    shifted = evaluate.evaluate_predictions(plain, with_heads(), block=0)
    assert shifted["mpii-pckh"].parts["right_wrist"].rate < 100.0


def test_the_mean_pose_is_put_into_every_crop():
    pose = np.array([[0.25, 0.5], [0.75, 1.0], [0.5, 0.5], [0.0, 0.0]])
    found = baselines.constant_predictions(evaluation_set_of(PEOPLE, NETWORK), pose, rule=RULE)
    truth = annotations(PEOPLE)
    corner = truth.center - 1.1 * truth.scale[:, None] / 2
    expected = corner[:, None] + pose * 1.1 * truth.scale[:, None, None]
    np.testing.assert_allclose(found.keypoints, expected[None], rtol=1e-5, atol=1e-4)
    assert found.presence.shape == (1, 11, 4)


@pytest.mark.parametrize("enlargement", [1.1, 0.3])
def test_a_constant_pose_has_the_joints_in_the_crop_that_any_prediction_has(enlargement):
    rule = RULE._replace(enlargement=enlargement)  # the smaller crop cuts joints off
    evaluation_set = evaluation_set_of(PEOPLE, NETWORK)
    found = baselines.constant_predictions(evaluation_set, np.full((4, 2), 0.5), rule=rule)
    expected = predict(rule=rule).in_crop
    assert expected.any() and not expected.all()
    np.testing.assert_array_equal(found.in_crop, expected)


@pytest.fixture(scope="module")
def decoded():
    """Of a network with drawn weights: its variables, and the predictions with every decoding."""
    variables = initial_variables(SMALL, 3)
    found = inference.predict_split(
        SMALL,
        variables,
        PEOPLE,
        joints=NETWORK,
        image_size=32,
        batch_size=8,
        rule=RULE,
        decodings=True,
    )
    return variables, found


def decoded_in_numpy(net, variables, crops):
    """Expectation and maximum of the part maps, [K, B, J, 2] each."""
    images = crops.astype(np.float32) / 127.5 - 1
    output = net.apply(variables, images, heatmaps=True)
    parts = np.asarray(output.heatmaps, np.float64)[..., :4]  # [K, B, H, W, J]
    size = parts.shape[2]
    weights = np.exp(parts - parts.max((2, 3), keepdims=True))
    weights /= weights.sum((2, 3), keepdims=True)
    ramp = (np.arange(size) + 0.5) / size
    mean = [weights.sum(2).swapaxes(2, 3) @ ramp, weights.sum(3).swapaxes(2, 3) @ ramp]
    flat = parts.reshape(*parts.shape[:2], size * size, 4).argmax(2)
    return np.stack(mean, -1), np.stack([ramp[flat % size], ramp[flat // size]], -1)


def test_other_decodings_are_of_the_part_maps(crops):
    variables = initial_variables(SMALL, 3)
    found, _ = inference.decode_crops(SMALL, variables, jnp.asarray(crops))
    prediction, _ = inference.predict_blocks(SMALL, variables, jnp.asarray(crops))
    expectation, maximum = decoded_in_numpy(SMALL, variables, crops)
    assert inference.decoding_names(SMALL) == (inference.PARTS_ALONE, inference.MAXIMUM)
    np.testing.assert_allclose(found, [prediction, expectation, maximum], atol=1e-5)


def test_without_context_maps_the_part_maps_are_the_prediction(crops):
    net = SMALL.clone(num_context_maps=0)
    variables = initial_variables(net, 3)
    found, _ = inference.decode_crops(net, variables, jnp.asarray(crops))
    assert inference.decoding_names(net) == (inference.MAXIMUM,)
    np.testing.assert_allclose(found, decoded_in_numpy(net, variables, crops), atol=1e-5)


def test_with_a_window_the_expectation_over_the_whole_maps_is_another_decoding(crops):
    variables = initial_variables(SMALL, 3)
    net = SMALL.clone(window=1)
    assert inference.decoding_names(net) == (
        *(inference.WHOLE_MAPS, inference.PARTS_ALONE, inference.MAXIMUM),
    )
    found, _ = inference.decode_crops(net, variables, jnp.asarray(crops))
    whole, _ = inference.predict_blocks(SMALL, variables, jnp.asarray(crops))
    np.testing.assert_allclose(found[1], whole, atol=1e-5)
    np.testing.assert_allclose(found[2], found[3], atol=1e-6)  # a window of one cell
    assert np.abs(found[0] - whole).max() > 1e-3


def test_a_split_is_decoded_in_every_way(decoded):
    _, found = decoded
    names = [inference.PARTS_ALONE, inference.MAXIMUM, inference.WITHOUT_OFFSET]
    assert list(found.decodings) == names
    for keypoints in found.decodings.values():
        assert keypoints.shape == found.keypoints.shape
        assert np.abs(keypoints - found.keypoints).max() > 1e-3  # pixels; its maps are flat


def test_positions_that_are_not_finite_have_no_part_in_the_mean_offset():
    reference = 100 * np.random.default_rng(5).random((1, 3, 2, 2))
    keypoints = reference + 4.0
    keypoints[0, 1, 0] = np.nan
    found = inference.remove_offsets(keypoints, reference, np.array([np.eye(2)] * 3))
    expected = np.where(np.isnan(keypoints), np.nan, reference)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_removed_offsets_are_constant_in_the_crops():
    """Part maps that are off by a constant of their crop, and by noise of zero mean."""
    rng = np.random.default_rng(5)
    blocks, persons, joints = 2, 6, 3
    linear = np.array([s * np.array([[c, -d], [d, c]]) for s, c, d in rng.random((persons, 3))])
    linear += 2 * np.eye(2)
    reference = 100 * rng.random((blocks, persons, joints, 2))
    noise = rng.normal(size=(blocks, persons, joints, 2))
    noise -= noise.mean(axis=1, keepdims=True)
    offset = rng.normal(size=(blocks, 1, joints, 2))
    in_pixels = np.einsum("nij,knlj->knli", linear, offset + noise)
    found = inference.remove_offsets(reference + in_pixels, reference, linear)
    expected = reference + np.einsum("nij,knlj->knli", linear, noise)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_blocks_and_decodings_are_scored_side_by_side(decoded):
    _, found = decoded
    compared = evaluate.compare_decodings(found, with_heads(), protocols.MPII_PCKH)
    names = [inference.PARTS_ALONE, inference.MAXIMUM, inference.WITHOUT_OFFSET]
    assert list(compared) == ["block 1", "block 2", *names]
    assert compared["block 2"] == evaluate.evaluate_predictions(found, with_heads())["mpii-pckh"]
    alone = found._replace(keypoints=found.decodings[inference.PARTS_ALONE])
    expected = evaluate.evaluate_predictions(alone, with_heads())["mpii-pckh"]
    assert compared[inference.PARTS_ALONE] == expected
