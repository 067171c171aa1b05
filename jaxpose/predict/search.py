"""Which poses are the same person, and where to look for what the finder was not trained on.

Without the finder (`jaxpose.predict.finder`), overlapping squares of several sizes cover the image.
The box around the pose in a square is a better crop, and the pose in that crop a better pose. Two
such rounds follow, each on the best of the poses before that differ.
"""

import math

import numpy as np

from jaxpose import geometry

# Sides of the first squares over the image's shorter side, and how much neighbors overlap at least.
LEVELS = ((1.2, 0.5), (0.8, 0.34))
ROUNDS = 2  # of refinement
CANDIDATES = 5  # poses that are refined in each round
SAME_PERSON = 0.5  # similarity from which two poses are one person
JOINT_SIGMA = 0.1  # distance at which joints agree by exp(-1/2), over the larger pose's extent
MIN_SCORE = 0.45  # of a person; on images without people the search finds less


def search_crops(size: tuple[int, int]) -> list[geometry.Crop]:
    """The first crops: the whole image, and overlapping squares of several sizes.

    Args:
      size: (width, height) of the image.

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
    """Middles of intervals that cover [0, length], neighbors overlapping by a fraction."""
    if side >= length:
        return [length / 2]
    count = math.ceil((length - side) / (side * (1 - overlap)) - 1e-9) + 1
    return np.linspace(side / 2, length - side / 2, count).round(6).tolist()


def similarity(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How alike poses are, by COCO's object keypoint similarity with one sigma for all joints.

    Args:
      a: [..., J, 2], (x, y).
      b: [..., J, 2].
      weights: [..., J], of the joints.

    Returns:
      [...] in [0, 1].

    Example:
      >>> pose = np.array([[0.0, 0.0], [30.0, 100.0]])
      >>> similarity(pose, pose + (0.0, 10.0), np.ones(2)).round(3).item()
      0.607
    """
    extent = np.maximum(np.ptp(a, axis=-2).max(axis=-1), np.ptp(b, axis=-2).max(axis=-1))
    distance = np.linalg.norm(a - b, axis=-1) / np.maximum(extent, 1e-6)[..., None]
    agreement = np.exp(-((distance / JOINT_SIGMA) ** 2) / 2)
    return (agreement * weights).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-9)


def distinct(keypoints: np.ndarray, confidence: np.ndarray) -> list[int]:
    """Places of the poses that are different persons, the best first.

    Args:
      keypoints: [N, J, 2].
      confidence: [N, J]; the best pose is the one with the highest mean.
    """
    kept: list[int] = []
    for i in np.argsort(-confidence.mean(axis=-1), kind="stable").tolist():
        weights = np.minimum(confidence[i], confidence[kept])
        if not (similarity(keypoints[i], keypoints[kept], weights) >= SAME_PERSON).any():
            kept.append(i)
    return kept
