"""PCK, PCKh and strict PCP as integer counts, which add up exactly over parts of a data set; NME.

PCK (with another normalizer PCKh): a joint is right if its distance to the truth, divided by the
person's normalizer, is at most the threshold. Strict PCP: a stick is right if each of its two ends
lies within a fraction of the true stick's length from its true end. Rates are in percent, distances
are taken in float64, and every comparison is ``<=``, as the toolkits of MPII and LSP have it.

Protocols (which joints, groups, thresholds) are in ``jaxpose.evaluation.protocols``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.skeleton import joint_index


class Counts(NamedTuple):
    """What was right of what was counted, for T thresholds and P parts (joints or sticks).

    Integers throughout, so that sums over parts of a data set equal the whole exactly.

    Attributes:
      correct: int64 [T, P], right at each threshold.
      counted: int64 [P], labeled parts of the persons that have a normalizer.
      not_labeled: int64 [P], parts of these persons that are left out for want of a label.
      persons: int64, all persons.
      persons_left_out: int64, persons without a normalizer: none of their parts is counted.
    """

    correct: np.ndarray
    counted: np.ndarray
    not_labeled: np.ndarray
    persons: np.int64
    persons_left_out: np.int64


# Predictions may be infinite or NaN, which is wrong and no reason to warn.
@np.errstate(invalid="ignore", over="ignore")
def pck(
    prediction: np.ndarray,
    ground_truth: np.ndarray,
    labeled: np.ndarray,
    normalizer: np.ndarray,
    *,
    thresholds: Sequence[float],
) -> Counts:
    """Percentage of correct keypoints; with the head's size as normalizer it is PCKh.

    Args:
      prediction: [N, J, 2] positions (x, y) in any unit; one that is not finite is wrong.
      ground_truth: [N, J, 2] in the same unit.
      labeled: bool [N, J]; joints without a label are left out.
      normalizer: [N] in the same unit; persons whose normalizer is not above 0 are left out.
      thresholds: T shares of the normalizer.

    Returns:
      ``Counts`` over the J joints.

    Example:
      >>> truth = np.array([[[0.0, 0.0], [8.0, 6.0]]])
      >>> guess = np.array([[[0.0, 1.0], [8.0, 9.0]]])
      >>> counts = pck(guess, truth, np.ones((1, 2), bool), np.array([10.0]), thresholds=[0.2])
      >>> counts.correct.tolist(), counts.counted.tolist()
      ([[1, 0]], [1, 1])
    """
    errors, measured = _relative_errors(prediction, ground_truth, normalizer)
    return _count(errors, np.asarray(labeled, bool), measured, thresholds)


@np.errstate(invalid="ignore", over="ignore")
def normalized_mean_error(
    prediction: np.ndarray, ground_truth: np.ndarray, labeled: np.ndarray, normalizer: np.ndarray
) -> np.ndarray:
    """Mean distance to the truth in percent of the person's normalizer (NME), joint by joint.

    Args:
      prediction: [N, J, 2] positions (x, y) in any unit.
      ground_truth: [N, J, 2] in the same unit.
      labeled: bool [N, J]; joints without a label are left out.
      normalizer: [N] in the same unit; persons whose normalizer is not above 0 are left out.

    Returns:
      float64 [J]: infinite where a prediction is not finite, NaN where no joint is counted.

    Example:
      >>> truth = np.zeros((2, 1, 2))
      >>> guess = np.array([[[3.0, 4.0]], [[0.0, 0.0]]])
      >>> labeled, unit = np.ones((2, 1), bool), np.array([50.0, 80.0])
      >>> normalized_mean_error(guess, truth, labeled, unit).tolist()
      [5.0]
    """
    errors, measured = _relative_errors(prediction, ground_truth, normalizer)
    counted = np.asarray(labeled, bool) & measured[:, None]
    total = np.where(counted, np.where(np.isnan(errors), np.inf, errors), 0.0).sum(axis=0)
    return _percent(total, counted.sum(axis=0))


def box_diagonal(boxes: np.ndarray) -> np.ndarray:
    """Length of each box's diagonal.

    Args:
      boxes: [N, 4] (x, y, width, height).

    Returns:
      float64 [N]; 0 for a box without an area.
    """
    size = np.asarray(boxes, np.float64)[:, 2:]
    return np.where((size > 0).all(axis=1), np.hypot(size[:, 0], size[:, 1]), 0.0)


def joint_distance(
    ground_truth: np.ndarray, labeled: np.ndarray, *, joints: Sequence[str], ends: tuple[str, str]
) -> np.ndarray:
    """The true distance between two joints.

    Args:
      ground_truth: [N, J, 2] positions (x, y).
      labeled: bool [N, J].
      joints: J names.
      ends: two of them.

    Returns:
      float64 [N] in the unit of ``ground_truth``; 0 for persons who lack one of the two joints.

    Raises:
      JaxposeError: the joint set has no such joint at all.
    """
    index = joint_index(joints, ends)
    if (index < 0).any():
        raise JaxposeError(
            f"PCK divides by the distance from {ends[0]} to {ends[1]}, and the ground truth "
            f"has no such joints; name them among its joints: {', '.join(joints)}"
        )
    a, b = index
    length = _distance(np.asarray(ground_truth)[:, a], np.asarray(ground_truth)[:, b])
    return np.where(np.asarray(labeled, bool)[:, index].all(axis=1), length, 0.0)


def torso_diagonal(
    ground_truth: np.ndarray, labeled: np.ndarray, *, joints: Sequence[str]
) -> np.ndarray:
    """The normalizer of PCK on LSP: the true distance from left shoulder to right hip.

    Args:
      ground_truth: [N, J, 2] positions (x, y).
      labeled: bool [N, J].
      joints: J names.

    Returns:
      float64 [N] in the unit of ``ground_truth``; 0 for persons who lack one of the two joints.

    Raises:
      JaxposeError: the joint set has no such joint at all.
    """
    ends = ("left_shoulder", "right_hip")
    return joint_distance(ground_truth, labeled, joints=joints, ends=ends)


# Each end is one joint, or the middle of two.
STICKS = {
    "right_lower_leg": (("right_ankle",), ("right_knee",)),
    "right_upper_leg": (("right_knee",), ("right_hip",)),
    "left_upper_leg": (("left_hip",), ("left_knee",)),
    "left_lower_leg": (("left_knee",), ("left_ankle",)),
    "right_forearm": (("right_wrist",), ("right_elbow",)),
    "right_upper_arm": (("right_elbow",), ("right_shoulder",)),
    "left_upper_arm": (("left_shoulder",), ("left_elbow",)),
    "left_forearm": (("left_elbow",), ("left_wrist",)),
    "head": (("neck",), ("head_top",)),
    "torso": (("right_hip", "left_hip"), ("right_shoulder", "left_shoulder")),
}


@np.errstate(invalid="ignore", over="ignore")
def strict_pcp(
    prediction: np.ndarray,
    ground_truth: np.ndarray,
    labeled: np.ndarray,
    *,
    joints: Sequence[str],
    fractions: Sequence[float] = (0.5,),
) -> Counts:
    """Percentage of correct parts, strict: each end within a fraction of the true length.

    Args:
      prediction: [N, J, 2] positions (x, y) in any unit.
      ground_truth: [N, J, 2] in the same unit.
      labeled: bool [N, J]; a stick one of whose joints has no label is left out.
      joints: J names; sticks of joints that are not among them are left out.
      fractions: T shares of the true stick's length.

    Returns:
      ``Counts`` over the ten ``STICKS``. A true stick of length 0 counts as wrong.
    """
    prediction = np.asarray(prediction, np.float64)
    ground_truth = np.asarray(ground_truth, np.float64)
    labeled = np.asarray(labeled, bool)
    errors = np.full((len(ground_truth), len(STICKS)), np.inf)
    complete = np.zeros(errors.shape, bool)
    for stick, ends in enumerate(STICKS.values()):
        index = [joint_index(joints, end) for end in ends]
        if min(place.min() for place in index) < 0:
            continue
        complete[:, stick] = labeled[:, np.concatenate(index)].all(axis=1)
        true_ends = [ground_truth[:, place].mean(axis=1) for place in index]
        ends_found = [prediction[:, place].mean(axis=1) for place in index]
        length = _distance(*true_ends)
        errors_of_ends = [_distance(*end) for end in zip(true_ends, ends_found, strict=True)]
        # np.maximum keeps a NaN of either end, which then counts as wrong.
        farther = np.maximum(*errors_of_ends)
        np.divide(farther, length, out=errors[:, stick], where=length > 0)
    return _count(errors, complete, np.ones(len(errors), bool), fractions)


def rates(counts: Counts) -> np.ndarray:
    """Percent right: float64 [T, P], NaN for parts of which none was counted."""
    return _percent(counts.correct, counts.counted)


def pooled_rate(counts: Counts, parts: Sequence[int]) -> np.ndarray:
    """Percent right of all counted entries of some parts (indices): float64 [T]."""
    return _percent(counts.correct[:, parts].sum(axis=1), counts.counted[parts].sum())


def area_under_curve(rate: np.ndarray, thresholds: Sequence[float]) -> float:
    """Mean height of a curve, rate [T] over rising thresholds [T], by the trapezoid rule."""
    steps = np.diff(thresholds)
    return float(((rate[1:] + rate[:-1]) / 2 * steps).sum() / steps.sum())


def mean_pose(keypoints: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """The answer that looks at no image: each joint's mean over the persons who have it.

    Args:
      keypoints: [N, J, 2] positions (x, y), normalized to the crop.
      labeled: bool [N, J].

    Returns:
      float64 [J, 2]; NaN, hence wrong in every metric, for joints that nobody has.
    """
    mask = np.asarray(labeled, bool)[..., None]
    total = np.where(mask, np.asarray(keypoints, np.float64), 0.0).sum(axis=0)
    count = mask.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distance over the last axis, in float64: [..., 2] and [..., 2] -> [...]."""
    # Cast first: whole numbers may come unsigned.
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return np.hypot(difference[..., 0], difference[..., 1])


def _relative_errors(
    prediction: np.ndarray, ground_truth: np.ndarray, normalizer: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distances over the normalizer [N, J], and who has one [N]."""
    normalizer = np.asarray(normalizer, np.float64)
    measured = np.isfinite(normalizer) & (normalizer > 0)
    distance = _distance(prediction, ground_truth)
    return distance / np.where(measured, normalizer, 1.0)[:, None], measured


def _count(
    errors: np.ndarray, labeled: np.ndarray, measured: np.ndarray, thresholds: Sequence[float]
) -> Counts:
    """Relative errors [N, P] -> counts; ``measured`` [N] tells who has a normalizer."""
    counted = labeled & measured[:, None]
    return Counts(
        correct=np.array(
            [((errors <= t) & counted).sum(axis=0) for t in thresholds], dtype=np.int64
        ).reshape(len(thresholds), errors.shape[1]),
        counted=counted.sum(axis=0, dtype=np.int64),
        not_labeled=(~labeled & measured[:, None]).sum(axis=0, dtype=np.int64),
        persons=np.int64(len(errors)),
        persons_left_out=(~measured).sum(dtype=np.int64),
    )


def _percent(correct: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return np.where(counted > 0, 100.0 * correct / np.maximum(counted, 1), np.nan)
