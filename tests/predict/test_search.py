"""Where people are looked for, which poses are one person, and what a search returns."""

import cv2
import numpy as np
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.predict import Prediction, search
from jaxpose.predict.estimator import PoseEstimator
from tests.support import small_estimator

SHAPE = np.array([(-1, -2), (1, -2), (-1, 0), (1, 0), (-1, 2), (1, 2), (0, -3), (0, 3)], np.float64)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (200, 200), (1920, 300)])
def test_every_level_covers_the_image_and_overlaps(size):
    whole, *crops = search.search_crops(size)
    assert whole.center == (size[0] / 2, size[1] / 2) and whole.side == max(size)
    for level, overlap in search.LEVELS:
        side = level * min(size)
        squares = [crop for crop in crops if crop.side == side]
        for axis, length in enumerate(size):
            middles = np.unique([crop.center[axis] for crop in squares])
            assert middles[0] - side / 2 <= 0 and middles[-1] + side / 2 >= length
            assert (np.diff(middles) <= (1 - overlap) * side + 1e-6).all()


def test_similar_poses_of_one_person_are_one_and_the_best_stays():
    pose = (100, 100) + 20 * SHAPE
    keypoints = np.stack([pose, pose + 3.0, (400, 100) + 20 * SHAPE, pose + (1.0, 0.0)])
    confidence = np.array([[0.6], [0.8], [0.9], [0.7]]) * np.ones((4, 8))
    assert search.distinct(keypoints, confidence) == [2, 1]
    assert search.distinct(keypoints, confidence, threshold=1.0) == [2, 1, 3, 0]
    assert search.distinct(keypoints[:0], confidence[:0]) == []


def test_a_small_weak_pose_on_the_body_of_a_person_is_removed():
    person = (100, 100) + 20 * SHAPE
    head = (100, 48) + 3 * SHAPE
    confidence = np.array([[0.9], [0.5]]) * np.ones((2, 8))
    assert search.distinct(np.stack([person, head]), confidence) == [0]
    # A person of the same size, next to it, or with as much confidence stays.
    for other, sure in [((110, 60) + 14 * SHAPE, 0.5), (head + (60, 0), 0.5), (head, 0.75)]:
        confidence[1] = sure
        assert search.distinct(np.stack([person, other]), confidence) == [0, 1]
    # It does not hide the person, whichever is listed first.
    confidence[1] = 0.5
    assert search.distinct(np.stack([head, person]), confidence[::-1]) == [1]


def test_similarity_does_not_depend_on_the_size_of_the_image():
    rng = np.random.default_rng(0)
    a, b, weights = rng.random((5, 8, 2)), rng.random((5, 8, 2)), rng.random((5, 8))
    found = search.similarity(a, b, weights)
    np.testing.assert_allclose(found, search.similarity(7 * a + 3, 7 * b + 3, weights))
    np.testing.assert_allclose(found, search.similarity(b, a, weights))
    np.testing.assert_allclose(search.similarity(a, a, weights), 1.0)


class Blobs(PoseEstimator):
    """An estimator whose network sees the white disk in a crop, and how well it fills the crop."""

    def _find_boxes(self, image):
        """Of each disk two boxes that are off, and a last one where nobody is."""
        _, _, stats, _ = cv2.connectedComponentsWithStats(image[..., 0])
        boxes = stats[1:, :4].astype(np.float64)
        return np.concatenate([boxes + (4, 0, 9, 9), boxes - (6, 6, -8, -8), [[0, 0, 9, 9]]])

    def _predict_boxes(self, image, boxes, **options):
        rows = [self._look(image, self.crop_of(box)) for box in boxes]
        keypoints = np.array([points for points, _ in rows]).reshape(-1, 16, 2)
        confidence = np.array([sure for _, sure in rows], np.float32).reshape(-1, 16)
        return Prediction(
            keypoints, confidence, np.asarray(boxes), self.joints, confidence,
            confidence.mean(axis=1), self.limbs, image,
        )  # fmt: skip

    def _look(self, image, crop):
        reach = crop.side / 2
        ys, xs = np.nonzero(image[..., 0])
        inside = (abs(xs - crop.center[0]) < reach) & (abs(ys - crop.center[1]) < reach)
        if not inside.any():
            return np.tile(crop.center, (16, 1)), np.full(16, 0.05)
        middle = np.array([xs[inside][0], ys[inside][0]], np.float64)
        xs, ys = xs[abs(xs - middle[0]) < 60], ys[abs(xs - middle[0]) < 60]
        angles = 2 * np.pi * np.arange(16) / 16
        center = np.array([xs.mean(), ys.mean()])
        radius = np.ptp(xs) / 2
        ring = center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        fill = min(2.5 * radius / crop.side, 1.0)
        return ring, np.full(16, fill)


@pytest.fixture(scope="module", params=["person", "dog"])
def blobs(request):
    """Persons are found by the finder, everything else by crops over the whole image."""
    metadata = small_estimator.METADATA._replace(category=request.param)
    return Blobs(small_estimator.variables(), metadata)


def disks(*centers, size=(240, 480), radius=24):
    y, x = np.indices(size)
    image = np.zeros((*size, 3), np.uint8)
    for center in centers:
        image[np.hypot(x - center[0], y - center[1]) <= radius] = 255
    return image


def test_all_persons_are_found_once_and_none_where_there_is_none(blobs):
    found = blobs.predict(disks((60, 120), (240, 100), (400, 150)))
    centers = found.keypoints.mean(axis=1)
    np.testing.assert_allclose(
        centers[np.argsort(centers[:, 0])], [(60, 120), (240, 100), (400, 150)], atol=2
    )
    assert (np.diff(found.scores) <= 0).all() and found.scores.min() >= search.MIN_SCORE
    assert blobs.predict(disks()).keypoints.shape == (0, 16, 2)


def test_the_number_of_persons_can_be_limited(blobs):
    image = disks((60, 120), (240, 100), (400, 150))
    (best,) = blobs.predict(image, max_persons=1).scores
    assert best == blobs.predict(image).scores[0]
    assert len(blobs.predict(disks(), max_persons=1, min_score=0.0).scores) == 1
    with pytest.raises(JaxposeError, match="max_persons is 0"):
        blobs.predict(image, max_persons=0)


def test_more_persons_than_a_few_can_be_asked_for(blobs):
    image = disks(*((80 + 120 * i, 60) for i in range(7)), size=(120, 900))
    assert len(blobs.predict(image, max_persons=7).scores) == 7
    assert len(blobs.predict(image, max_persons=4).scores) == 4


def test_the_pose_in_the_box_around_a_pose_counts_where_its_score_is_higher(blobs):
    image = disks((60, 120), (240, 100))
    boxes = np.array([[-40, 20, 200, 200], [220, 80, 30, 30]])  # a large one, and a part of a disk
    first = blobs.predict(image, boxes)
    refined = blobs._refine(first)
    assert refined.scores[0] > first.scores[0]
    points = first.keypoints[0]
    around = [*points.min(axis=0), *np.ptp(points, axis=0)]
    np.testing.assert_allclose(refined.boxes, [around, boxes[1]])
    assert refined.scores[1] == first.scores[1] == 1.0


class Scripted(PoseEstimator):
    """An estimator that finds given boxes and whose passes give prepared poses."""

    def _find_boxes(self, image):
        return self.passes[0][0]

    def _predict_boxes(self, image, boxes, **options):
        expected, keypoints, confidence = self.passes.pop(0)
        np.testing.assert_allclose(boxes, expected)
        return Prediction(
            keypoints, confidence, boxes, self.joints, confidence / 2, confidence.mean(axis=1),
            self.limbs, image,
        )  # fmt: skip


def sides_of(estimator, boxes):
    return np.array([estimator.crop_of(box).side for box in boxes])


def test_a_found_pose_is_the_mean_of_two_passes_where_they_agree():
    """Weighted by confidence; of two distant positions, it is the more confident one."""
    rng = np.random.default_rng(0)
    estimator = Scripted(small_estimator.variables(), small_estimator.METADATA)
    boxes = np.array([[300.0, 50.0, 60.0, 60.0], [100.0, 100.0, 100.0, 150.0]])
    first = boxes[:, None, :2] + boxes[:, None, 2:] * rng.random((2, 16, 2))
    sure = np.stack([rng.uniform(0.7, 0.9, 16), rng.uniform(0.5, 0.7, 16)])  # the best comes first
    low, high = first.min(axis=1), first.max(axis=1)
    around = np.concatenate([low, high - low], axis=1)
    second, surer = first + rng.normal(0, 3, (2, 16, 2)), rng.uniform(0.5, 0.9, (2, 16))
    second[:, ::4] = low[:, None] + (high - low)[:, None] * rng.random((2, 4, 2))
    far = np.linalg.norm(second - first, axis=-1) > 0.1 * sides_of(estimator, around)[:, None]
    assert 2 < far[:, ::4].sum() and not far[:, 1::4].any()
    estimator.passes = [(boxes, first, sure), (around, second, surer)]
    found = estimator.predict(np.zeros((400, 400, 3), np.uint8))
    for row, person in enumerate(np.argsort(-(sure + surer).mean(axis=1))):
        a, b = sure[person], surer[person]
        for axis in range(2):
            two = first[person, :, axis], second[person, :, axis]
            mean, surest = (a * two[0] + b * two[1]) / (a + b), np.where(a >= b, *two)
            expected = np.where(far[person], surest, mean)
            np.testing.assert_allclose(found.keypoints[row, :, axis], expected)
        np.testing.assert_allclose(found.confidence[row], (a + b) / 2)
        np.testing.assert_allclose(found.presence[row], (a + b) / 4)
        np.testing.assert_allclose(found.scores[row], (a + b).mean() / 2)
        np.testing.assert_allclose(found.boxes[row], around[person])


def test_a_repeated_pose_or_one_far_below_the_minimum_score_gets_no_second_pass():
    estimator = Scripted(small_estimator.variables(), small_estimator.METADATA)
    corners = np.array([[0.0, 0.0], [200.0, 0.0], [0.0, 200.0], [1.0, 200.0]])
    boxes = np.concatenate([corners, np.full((4, 2), 90.0)], axis=1)
    pose = np.random.default_rng(0).random((16, 2))
    poses = boxes[:, None, :2] + boxes[:, None, 2:] * pose
    low, high = poses.min(axis=1), poses.max(axis=1)
    around = np.concatenate([low, high - low], axis=1)
    scores = 0.7 - search.SECOND_PASS_MARGIN + np.array([0.01, -0.01, 0.2, 0.1])
    confidence = np.tile(scores[:, None], 16)
    kept = [2, 0]
    raised = np.full((2, 16), 0.9)
    estimator.passes = [(boxes, poses, confidence), (around[kept], poses[kept], raised)]
    found = estimator.predict(np.zeros((300, 300, 3), np.uint8), min_score=0.7)
    np.testing.assert_allclose(found.scores, (scores[kept] + 0.9) / 2)


def test_a_detector_says_where_to_look(blobs):
    image = disks((60, 120), (400, 150))
    seen = []

    def detector(pixels):
        seen.append(pixels)
        return [[360, 110, 80, 80], [20, 80, 120, 120]]

    found = blobs.predict(image, detector=detector, max_persons=1)
    np.testing.assert_array_equal(seen[0], image)
    np.testing.assert_array_equal(found.boxes, [[360, 110, 80, 80]])
    assert len(blobs.predict(image, detector=lambda _: []).scores) == 0
    with pytest.raises(JaxposeError, match="boxes and a detector"):
        blobs.predict(image, [[1, 1, 5, 5]], detector=detector)
