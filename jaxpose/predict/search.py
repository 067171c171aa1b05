"""Search without the finder, duplicate removal, and the thresholds of detections.

The finder (``jaxpose.predict.finder``) detects one category only. Checkpoints of other categories
are run on overlapping squares of several sizes that cover the image. The box around a predicted
pose is a better crop than the square, so the best distinct poses are predicted again in the boxes
around them, twice.
"""

import math

import numpy as np

from jaxpose import geometry

# Side of the squares as a fraction of the image's shorter side, and minimum overlap of neighbors.
LEVELS = ((1.2, 0.5), (0.8, 0.34))
ROUNDS = 2  # rounds of refinement
CANDIDATES = 5  # poses that are refined in each round
SAME_POSE = 0.7  # of poses that are at least this similar, only the best gets a second pass
SAME_PERSON = 0.5  # poses that are at least this similar count as the same person
# A pose is taken to be a part of another person (for example, a head predicted as a body) if it
# lies in that person's box, is smaller and less certain, and has every joint near one of that
# person's joints.
PART_SIZE = 0.6  # largest extent of such a pose, as a fraction of the person's
PART_INSIDE = 0.7  # smallest fraction of the pose's box inside the person's box
PART_DISTANCE = 0.1  # largest mean distance to the nearest joint, relative to the person's extent
PART_SCORE = 0.2  # smallest difference of the two mean confidences
JOINT_SIGMA = 0.1  # standard deviation of a joint's position, as a fraction of the pose's extent
MIN_SCORE = 0.48  # default minimum; in nine of ten images without people, all scores are lower
SECOND_PASS_MARGIN = 0.15  # averaging with a second pass rarely raises a score by more


def search_crops(size: tuple[int, int]) -> list[geometry.Crop]:
    """Return the crops to search: the whole image, then overlapping squares of several sizes.

    Args:
      size: (width, height) of the image in pixels.

    Example:
      >>> [(crop.center, crop.side) for crop in search_crops((100, 100))[:3]]
      [((50.0, 50.0), 100.0), ((50.0, 50.0), 120.0), ((40.0, 40.0), 80.0)]
    """
    width, height = size
    crops = [geometry.example_crop({"stored_size": size}, geometry.IMAGE_RULE)]
    for level, overlap in LEVELS:
        side = level * min(size)
        columns, rows = (_middles(length, side, overlap) for length in (width, height))
        crops += [geometry.Crop((x, y), side) for y in rows for x in columns]
    return crops


def _middles(length: float, side: float, overlap: float) -> list[float]:
    """Middles of the intervals of length ``side`` that cover [0, length]."""
    if side >= length:
        return [length / 2]
    count = math.ceil((length - side) / (side * (1 - overlap)) - 1e-9) + 1
    return np.linspace(side / 2, length - side / 2, count).round(6).tolist()


def similarity(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Measure the similarity of poses: COCO's OKS with the same sigma for all joints.

    Args:
      a: [..., J, 2], (x, y) of the joints.
      b: [..., J, 2], (x, y) of the joints.
      weights: [..., J], weights of the joints.

    Returns:
      Similarity [...] in [0, 1]; 1 for equal poses.

    Example:
      >>> pose = np.array([[0.0, 0.0], [30.0, 100.0]])
      >>> similarity(pose, pose + (0.0, 10.0), np.ones(2)).round(3).item()
      0.607
    """
    extent = np.maximum(np.ptp(a, axis=-2).max(axis=-1), np.ptp(b, axis=-2).max(axis=-1))
    distance = np.linalg.norm(a - b, axis=-1) / np.maximum(extent, 1e-6)[..., None]
    agreement = np.exp(-((distance / JOINT_SIGMA) ** 2) / 2)
    return (agreement * weights).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-9)


def distinct(
    keypoints: np.ndarray, confidence: np.ndarray, *, threshold: float = SAME_PERSON
) -> list[int]:
    """Return the indices of the poses that remain after duplicate removal, best first.

    Of similar poses, the one with the highest mean confidence remains. A small, less confident pose
    on the body of another person is removed too.

    Args:
      keypoints: [N, J, 2], (x, y) of the joints.
      confidence: [N, J], confidence of the joints.
      threshold: poses that are at least this similar are duplicates.
    """
    kept: list[int] = []
    scores = confidence.mean(axis=-1)
    for i in np.argsort(-scores, kind="stable").tolist():
        weights = np.minimum(confidence[i], confidence[kept])
        repeats = similarity(keypoints[i], keypoints[kept], weights) >= threshold
        uncertain = scores[i] <= scores[kept] - PART_SCORE
        if not (repeats | uncertain & _is_part(keypoints[i], keypoints[kept])).any():
            kept.append(i)
    return kept


def _is_part(pose: np.ndarray, persons: np.ndarray) -> np.ndarray:
    """Whether a pose [J, 2] may be a part of the persons [N, J, 2], by place and size: bool [N]."""
    low, high = pose.min(axis=0), pose.max(axis=0)
    lows, highs = persons.min(axis=1), persons.max(axis=1)
    extent = (highs - lows).max(axis=-1)
    shared = np.clip(np.minimum(high, highs) - np.maximum(low, lows), 0.0, None).prod(axis=-1)
    distance = np.linalg.norm(pose[:, None] - persons[:, None], axis=-1).min(axis=-1).mean(axis=-1)
    return (
        ((high - low).max() <= PART_SIZE * extent)
        & (shared >= PART_INSIDE * (high - low).prod())
        & (distance <= PART_DISTANCE * extent)
    )
