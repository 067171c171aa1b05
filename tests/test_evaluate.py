"""A whole split through a network that finds coloured dots: its answers are known beforehand."""

import jax.numpy as jnp
import numpy as np
import pytest
from drawn_people import JOINTS, split_of

from jaxpose import evaluate
from jaxpose.errors import JaxposeError
from jaxpose.geometry import PICTURE_RULE, CropRule
from jaxpose.input_pipeline import annotations
from jaxpose.network import PoseOutput

NETWORK = ("left_wrist", "neck", "right_wrist", "nose")
CHANNELS = (1, 2, 0)  # green, blue and red dots; the nose is always said to be in the middle
PEOPLE = split_of(11)
RULE = CropRule("scale", 1.1)


class DotFinder:
    """Stands in for a `PoseNet`: the mean position of each colour; block 0 is 0.1 to the right.

    In a mirrored crop the red dot is the left wrist's, as a trained network would have it.
    """

    num_blocks, dtype = 2, jnp.float32

    def apply(self, variables, images, *, train):
        assert not train
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
        shifted = found + jnp.array([0.1, 0.0])
        confidence = jnp.broadcast_to(jnp.array([0.0, 50.0, -50.0, 0.0]), found.shape[:2])
        return PoseOutput(jnp.stack([shifted, found]), jnp.stack([confidence] * 2), None)


NET = DotFinder()


def answers(split=PEOPLE, **changes):
    arguments = dict(joints=NETWORK, image_size=96, batch_size=4, rule=RULE)
    return evaluate.predict_split(NET, {"gain": np.float32(1)}, split, **arguments | changes)


@pytest.fixture(scope="module")
def plain():
    return answers()


def truth_in_network_order(split=PEOPLE):
    keypoints = annotations(split)["keypoints"]
    return keypoints[:, [JOINTS.index(name) for name in NETWORK[:3]]]


def test_every_person_is_answered_in_pixels_of_the_picture(plain):
    assert plain.keypoints.shape == (2, 11, 4, 2) and plain.confidence.shape == (2, 11, 4)
    np.testing.assert_allclose(plain.keypoints[-1, :, :3], truth_in_network_order(), atol=0.3)
    assert plain.readable.all()


def test_blocks_are_kept_apart(plain):
    sides = annotations(PEOPLE)["scale"] * 1.1
    moved = plain.keypoints[0] - plain.keypoints[1]
    np.testing.assert_allclose(moved[..., 0], np.broadcast_to(0.1 * sides[:, None], (11, 4)), 1e-4)
    np.testing.assert_allclose(moved[..., 1], 0, atol=1e-4)


def test_confidence_is_a_probability(plain):
    np.testing.assert_allclose(plain.confidence[1], np.tile([0.5, 1, 0, 0.5], (11, 1)), atol=1e-6)


def test_labelled_and_in_the_crop(plain):
    np.testing.assert_array_equal(plain.in_crop, np.tile([True, True, True, False], (11, 1)))


@pytest.mark.parametrize("batch_size", [3, 11, 64])
def test_the_batch_size_changes_no_answer(plain, batch_size):
    """Also one that the devices do not divide, and one larger than the split."""
    found = answers(batch_size=batch_size)
    np.testing.assert_allclose(found.keypoints, plain.keypoints, atol=1e-4)


def test_a_mirrored_pass_agrees_with_the_plain_one(plain):
    flipped = answers(flip_test=True)
    np.testing.assert_allclose(flipped.keypoints[1], plain.keypoints[1], atol=0.3)
    # Block 0's error points to the picture's right in both passes, and cancels.
    np.testing.assert_allclose(flipped.keypoints[0], flipped.keypoints[1], atol=1e-3)


def test_several_crops_are_averaged_in_pixels(plain):
    several = answers(num_crops=3)
    np.testing.assert_allclose(several.keypoints[1], plain.keypoints[1], atol=0.3)
    assert not np.array_equal(several.keypoints, plain.keypoints)
    np.testing.assert_array_equal(several.in_crop, plain.in_crop)


def test_crop_sizes():
    np.testing.assert_allclose(evaluate.crop_sizes(5), [1, 0.9, 1.1, 0.8, 1.2])
    for number in (0, 10):
        with pytest.raises(JaxposeError, match=f"num_crops is {number}"):
            evaluate.crop_sizes(number)


def test_a_picture_that_does_not_decode_is_counted():
    persons = [dict(person) for person in PEOPLE.source]
    persons[3]["image"] = persons[3]["image"][:200]
    found = answers(PEOPLE._replace(source=persons))
    np.testing.assert_array_equal(found.readable, np.arange(11) != 3)


def test_unknown_crops_are_named():
    with pytest.raises(JaxposeError, match="unknown crop 'square'; choose one of scale"):
        evaluate.crop_rule("square")
    assert evaluate.crop_rule("picture") == PICTURE_RULE


def test_predictions_are_the_trained_joints_in_pixels_of_the_release(plain):
    truth = annotations(PEOPLE)
    truth |= {"zoom": np.full(11, 0.5, np.float32), "origin": np.tile([[10.0, 20.0]], (11, 1))}
    truth["head_size"] = np.full(11, 8.0)
    trained = ("right_wrist", "left_wrist")
    found = evaluate.predictions_of(
        plain, truth, joints=NETWORK, truth_joints=JOINTS, trained=trained
    )
    assert found.prediction_joints == trained and found.joints == JOINTS
    expected = [10, 20] + 2 * plain.keypoints[-1][:, [2, 0]]
    np.testing.assert_allclose(found.prediction, expected)
    np.testing.assert_allclose(found.head_size, 16)
    seen = truth["labelled"]
    np.testing.assert_allclose(
        found.ground_truth[seen], ([10, 20] + 2 * truth["keypoints"])[seen], rtol=1e-6
    )
    assert not found.ground_truth[~seen].any()


def test_a_split_is_scored_by_the_protocols_that_its_joints_allow(plain):
    truth = annotations(PEOPLE)
    options = {"joints": NETWORK, "truth_joints": JOINTS}
    assert evaluate.score_answers(plain, truth, **options) == {}
    with_heads = {**truth, "head_size": np.full(11, 8.0)}
    found = evaluate.score_answers(plain, with_heads, **options)
    assert list(found) == ["mpii-pckh"]
    rates = {part: x["rate"] for part, x in found["mpii-pckh"]["parts"].items()}
    assert (rates["right_wrist"], rates["upper_neck"]) == (100.0, 100.0)
    shifted = evaluate.score_answers(plain, with_heads, block=0, **options)
    assert shifted["mpii-pckh"]["parts"]["right_wrist"]["rate"] < 100.0


def test_the_mean_pose_is_put_into_every_crop():
    pose = np.array([[0.25, 0.5], [0.75, 1.0], [0.5, 0.5], [0.0, 0.0]])
    found = evaluate.mean_pose_answers(PEOPLE, pose, rule=RULE)
    truth = annotations(PEOPLE)
    corner = truth["center"] - 1.1 * truth["scale"][:, None] / 2
    expected = corner[:, None] + pose * 1.1 * truth["scale"][:, None, None]
    np.testing.assert_allclose(found.keypoints, expected[None], rtol=1e-5, atol=1e-4)
    assert found.confidence.shape == (1, 11, 4)
