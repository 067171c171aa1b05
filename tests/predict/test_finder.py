"""Boxes that the finder's maps stand for, and the people whom the network finds in photos."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose import PoseEstimator, geometry
from jaxpose.predict import finder
from jaxpose.predict.boxes import overlap
from jaxpose.predict.images import as_image


def random_maps(seed, shape=(2, 8, 12)):
    rng = np.random.default_rng(seed)
    return finder.BoxMaps(
        rng.normal(size=shape).astype(np.float32),
        rng.normal(size=(*shape, 2)).astype(np.float32),
        rng.uniform(-1, 2, (*shape, 2)).astype(np.float32),
    )


def boxes_by_loops(maps, image):
    """(probability, x, y, width, height) of every local maximum, the highest first."""
    logits = maps.center_logits[image]
    rows, columns = logits.shape
    found = []
    for r in range(rows):
        for c in range(columns):
            around = logits[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2]
            if logits[r, c] < around.max():
                continue
            (dx, dy), (w, h) = maps.offset[image, r, c], np.exp(maps.log_size[image, r, c])
            x, y = c + 0.5 + dx - w / 2, r + 0.5 + dy - h / 2
            p = 1 / (1 + np.exp(-logits[r, c]))
            found.append((p, x / columns, y / rows, w / columns, h / rows))
    return np.array(sorted(found, reverse=True))


@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_read_at_the_peaks_of_the_center_map(seed):
    maps = random_maps(seed)
    found = finder.decode_maps(finder.BoxMaps(*map(jnp.asarray, maps)), 40)
    for image in range(2):
        expected = boxes_by_loops(maps, image)
        count = len(expected)
        np.testing.assert_allclose(found.probability[image, :count], expected[:, 0], rtol=1e-5)
        np.testing.assert_allclose(found.box[image, :count], expected[:, 1:], atol=1e-5)
        assert (found.probability[image, count:] == 0).all()


def test_boxes_of_the_input_are_boxes_of_the_image():
    box = np.array([[[0.25, 0.5, 0.25, 0.125], [0.26, 0.5, 0.25, 0.125], [0.0, 0.0, 0.5, 0.5]]])
    probability = np.array([[0.9, 0.8, 0.7]])
    crop = geometry.Crop((50.0, 100.0), 200.0)  # the left upper corner is (-50, 0)
    boxes, kept = finder.boxes_in_image(finder.Boxes(box, probability), crop, (100, 200))
    np.testing.assert_allclose(boxes, [[0, 100, 50, 25], [-50, 0, 100, 100]])
    np.testing.assert_allclose(kept, [0.9, 0.7])  # the second box is the first one's person
    low = finder.Boxes(box, probability * finder.MIN_PROBABILITY)
    assert finder.boxes_in_image(low, crop, (100, 200))[0].shape == (0, 4)


def test_boxes_beside_the_image_are_left_out():
    box = np.array([[[0.0, 0.5, 0.2, 0.125], [0.8, 0.1, 0.1, 0.1], [0.2, 0.1, 0.1, 0.1]]])
    crop = geometry.Crop((50.0, 100.0), 200.0)  # the image covers the middle half of its columns
    found = finder.Boxes(box, np.array([[0.9, 0.8, 0.7]]))
    boxes, _ = finder.boxes_in_image(found, crop, (100, 200))
    np.testing.assert_allclose(boxes, [[-10, 20, 20, 20]])


class TwoBoxes:
    """A network that sees a box of a quarter and one of half its input's side, at any size."""

    def apply(self, variables, images):
        cells = images.shape[1] // finder.STRIDE
        places, sides = (cells // 4, cells // 2), (cells / 4, cells / 2)
        logits = np.full((1, cells, cells), -9.0, np.float32)
        log_size = np.zeros((1, cells, cells, 2), np.float32)
        for place, side, logit in zip(places, sides, (images.shape[1] / 64, 3.0), strict=True):
            logits[0, place, place] = logit
            log_size[0, place, place] = np.log(side)
        return finder.BoxMaps(jnp.array(logits), jnp.zeros_like(log_size), jnp.array(log_size))


def test_boxes_are_found_at_both_sizes_and_the_most_probable_come_first():
    found = finder.find_boxes(TwoBoxes(), {}, jnp.zeros((1, 256, 256, 3), jnp.uint8))
    likely = found.probability[0] > 0.5
    np.testing.assert_allclose(found.box[0, likely, 2], [0.25, 0.5, 0.5, 0.25], rtol=1e-5)
    logit = np.array([4.0, 3.0, 3.0, 2.0])
    np.testing.assert_allclose(found.probability[0, likely], 1 / (1 + np.exp(-logit)), rtol=1e-5)
    assert (np.diff(found.probability[0]) <= 0).all()


def test_overlap_is_intersection_over_union():
    a = np.array([0.0, 0.0, 4.0, 2.0])
    assert overlap(a, a) == 1.0
    assert overlap(a, np.array([2.0, 1.0, 4.0, 2.0])) == pytest.approx(2 / 14)
    assert overlap(a, np.array([9.0, 9.0, 4.0, 2.0])) == 0.0


@pytest.mark.slow
def test_the_network_that_ships_is_small_and_has_the_variables_of_its_module():
    network = finder.load()
    assert finder.FILE.stat().st_size <= 4e6
    images = np.zeros((1, 64, 96, 3), np.float32)
    maps, _ = network.net.apply(network.variables, images, train=True, mutable=["batch_stats"])
    assert maps.center_logits.shape == (1, 8, 12)
    assert maps.offset.shape == maps.log_size.shape == (1, 8, 12, 2)


@pytest.fixture(scope="module")
def estimator():
    return PoseEstimator.from_pretrained()


@pytest.fixture(scope="module")
def whole_persons(shared):
    """Photos of one standing person each."""
    folder = shared / "data" / "free_photos"
    names = ("000000054931", "000000187362", "000000199055")
    return [as_image(folder / f"{name}.jpg") for name in names]


@pytest.mark.slow
def test_several_persons_of_one_image_are_found(estimator, whole_persons):
    canvas = np.zeros((400, 1000, 3), np.uint8)
    places = [(0, 0, 260), (340, 20, 300), (680, 60, 320)]
    for image, (left, top, side) in zip(whole_persons, places, strict=True):
        crop = geometry.example_crop({"image": image}, geometry.IMAGE_RULE)
        canvas[top : top + side, left : left + side] = geometry.crop_image(image, crop, side)
    found = estimator.predict(canvas)
    middles = np.median(found.keypoints, axis=1)
    for left, top, side in places:
        inside = (middles > (left, top)).all(axis=1) & (middles < (left + side, top + side)).all(
            axis=1
        )
        assert inside.sum() == 1
    assert (np.diff(found.scores) <= 0).all()
    best = estimator.predict(canvas, max_persons=1)
    np.testing.assert_array_equal(best.scores, found.scores[:1])


def test_nobody_is_found_in_a_blank_image_unless_somebody_must_be(estimator):
    blank = np.full((120, 200, 3), 128, np.uint8)
    assert len(estimator.predict(blank).scores) == 0
    assert len(estimator.predict(blank, max_persons=1, min_score=0.0).scores) == 1
