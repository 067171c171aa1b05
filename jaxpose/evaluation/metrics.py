"""PCK, PCKh, strict PCP, NME and inversions of arrays of positions.

PCK, or PCKh if the normalizer is the head size: a joint is correct if its distance to the truth,
divided by the person's normalizer, is at most the threshold. Strict PCP: a stick is correct if, for
each of its two ends, the distance to the true position is at most a fraction of the true stick's
length. The numbers of correct and counted joints or sticks are integers, so their sums over subsets
of a data set are exact. Rates are in percent, distances are computed in float64, and every
comparison is ``<=``, as in the toolkits of MPII and LSP.

``jaxpose.evaluation.protocol_results`` applies these functions to predictions, by a protocol.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.evaluation.protocols import STICKS, TORSO_ENDS
from jaxpose.skeleton import joint_index


class Counts(NamedTuple):
    """Numbers of correct and counted parts (joints or sticks), for T thresholds and P parts.

    All are integers, so sums over subsets of a data set are exact.

    Attributes:
      correct: int64 [T, P], correct parts at each threshold.
      counted: int64 [P], labeled and predicted parts of the persons that have a normalizer.
      not_labeled: int64 [P], for the same persons, parts that are ignored because they have no
        label.
      not_predicted: int64 [P], for the same persons, labeled parts that are ignored because the
        predictions lack a joint.
      persons: int64, all persons.
      persons_left_out: int64, persons without a normalizer: none of their parts is counted.
    """

    correct: np.ndarray
    counted: np.ndarray
    not_labeled: np.ndarray
    not_predicted: np.ndarray
    persons: np.int64
    persons_left_out: np.int64


class Inversions(NamedTuple):
    """Numbers of wrong joints of flip pairs, of people with labels for both joints of the pair.

    Attributes:
      inverted: wrong joints at the position of their counterpart, the other joint of the pair.
      wrong: all wrong joints.
    """

    inverted: Any
    wrong: Any


# Infinite or NaN predictions count as wrong and should not cause warnings.
@np.errstate(invalid="ignore", over="ignore")
def pck(
    prediction: np.ndarray,
    ground_truth: np.ndarray,
    labeled: np.ndarray,
    normalizer: np.ndarray,
    *,
    thresholds: Sequence[float],
    predicted: np.ndarray | None = None,
) -> Counts:
    """Count correct keypoints (PCK; PCKh if the normalizer is the head size).

    Args:
      prediction: [N, J, 2] positions (x, y) in any unit; non-finite predictions count as wrong.
      ground_truth: [N, J, 2] in the same unit.
      labeled: bool [N, J]; joints without a label are ignored.
      normalizer: [N] in the same unit; persons whose normalizer is not positive are ignored.
      thresholds: T thresholds, as fractions of the normalizer.
      predicted: bool [J]; joints without a prediction are ignored. By default, all have one.

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
    labeled = np.asarray(labeled, bool)
    predicted = np.ones(labeled.shape[1], bool) if predicted is None else predicted
    return _count(errors, labeled, predicted, measured, thresholds)


@np.errstate(invalid="ignore", over="ignore")
def normalized_mean_error(
    prediction: np.ndarray, ground_truth: np.ndarray, labeled: np.ndarray, normalizer: np.ndarray
) -> np.ndarray:
    """Compute the mean distance to the truth in percent of the normalizer (NME), per joint.

    Args:
      prediction: [N, J, 2] positions (x, y) in any unit.
      ground_truth: [N, J, 2] in the same unit.
      labeled: bool [N, J]; joints without a label are ignored.
      normalizer: [N] in the same unit; persons whose normalizer is not positive are ignored.

    Returns:
      float64 [J]: infinite for a joint with a non-finite prediction, NaN for a joint that is
      counted for no person.

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


@np.errstate(invalid="ignore", over="ignore")
def inversions(
    prediction: np.ndarray,
    ground_truth: np.ndarray,
    labeled: np.ndarray,
    normalizer: np.ndarray,
    *,
    flipped: np.ndarray,
    threshold: float,
    predicted: np.ndarray | None = None,
) -> Inversions:
    """Count inversions: wrong joints within the threshold of their counterpart's true position.

    The counterpart is the other joint of a flip pair, such as the left wrist of the right wrist.
    Inversions are one of the types of errors in Ronchi and Perona, "Benchmarking and Error
    Diagnosis in Multi-Instance Pose Estimation", 2017, arXiv:1707.05388.

    Args:
      prediction: [N, J, 2] positions (x, y) in any unit; non-finite predictions count as wrong.
      ground_truth: [N, J, 2] in the same unit.
      labeled: bool [N, J]; joints are ignored unless they and their counterparts are labeled.
      normalizer: [N] in the same unit; persons whose normalizer is not positive are ignored.
      flipped: [J], from ``skeleton.flip_permutation``.
      threshold: as a fraction of the normalizer.
      predicted: bool [J]; joints without a prediction are ignored. By default, all have one.

    Returns:
      ``Inversions`` of int64 [J]; 0 for joints without a counterpart.

    Example:
      >>> truth = np.array([[[0.0, 0.0], [8.0, 6.0]]])
      >>> guess = np.array([[[8.0, 5.0], [4.0, 3.0]]])
      >>> arrays = guess, truth, np.ones((1, 2), bool), np.array([10.0])
      >>> found = inversions(*arrays, flipped=np.array([1, 0]), threshold=0.2)
      >>> found.inverted.tolist(), found.wrong.tolist()
      ([1, 0], [1, 1])
    """
    labeled, truth = np.asarray(labeled, bool), np.asarray(ground_truth)
    own, measured = _relative_errors(prediction, truth, normalizer)
    other, _ = _relative_errors(prediction, truth[:, flipped], normalizer)
    counted = labeled & labeled[:, flipped] & measured[:, None]
    counted &= flipped != np.arange(len(flipped))
    if predicted is not None:
        counted &= predicted
    wrong = counted & ~(own <= threshold)  # NaN is wrong
    inverted = wrong & (other <= threshold)
    return Inversions(*(x.sum(axis=0, dtype=np.int64) for x in (inverted, wrong)))


def box_diagonal(boxes: np.ndarray) -> np.ndarray:
    """Compute the length of each box's diagonal.

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
    """Compute the true distance between two joints.

    Args:
      ground_truth: [N, J, 2] positions (x, y).
      labeled: bool [N, J].
      joints: J names.
      ends: two of these names.

    Returns:
      float64 [N] in the unit of ``ground_truth``; 0 for persons who lack one of the two joints.

    Raises:
      JaxposeError: one of the two joints is not in ``joints``.
    """
    index = joint_index(joints, ends)
    if (index < 0).any():
        raise JaxposeError(
            f"PCK is normalized by the distance from {ends[0]} to {ends[1]}, but the ground truth "
            f"does not have both joints; choose two of: {', '.join(joints)}"
        )
    a, b = index
    length = _distance(np.asarray(ground_truth)[:, a], np.asarray(ground_truth)[:, b])
    return np.where(np.asarray(labeled, bool)[:, index].all(axis=1), length, 0.0)


def torso_diagonal(
    ground_truth: np.ndarray, labeled: np.ndarray, *, joints: Sequence[str]
) -> np.ndarray:
    """Compute the normalizer of PCK on LSP: the distance from left shoulder to right hip.

    Args:
      ground_truth: [N, J, 2] positions (x, y).
      labeled: bool [N, J].
      joints: J names.

    Returns:
      float64 [N] in the unit of ``ground_truth``; 0 for persons who lack one of the two joints.

    Raises:
      JaxposeError: one of the two joints is not in ``joints``.
    """
    return joint_distance(ground_truth, labeled, joints=joints, ends=TORSO_ENDS)


@np.errstate(invalid="ignore", over="ignore")
def strict_pcp(
    prediction: np.ndarray,
    ground_truth: np.ndarray,
    labeled: np.ndarray,
    *,
    joints: Sequence[str],
    fractions: Sequence[float] = (0.5,),
    predicted: np.ndarray | None = None,
) -> Counts:
    """Count correct sticks (strict PCP): both ends are within a fraction of the true length.

    Args:
      prediction: [N, J, 2] positions (x, y) in any unit.
      ground_truth: [N, J, 2] in the same unit.
      labeled: bool [N, J]; sticks with an unlabeled joint are ignored.
      joints: J names; sticks with other joints are ignored.
      fractions: T thresholds, as fractions of the true stick's length.
      predicted: bool [J]; sticks with a joint without a prediction are ignored. By default, all
        joints have one.

    Returns:
      ``Counts`` over the ten ``STICKS``. A true stick of length 0 counts as wrong.
    """
    prediction = np.asarray(prediction, np.float64)
    ground_truth = np.asarray(ground_truth, np.float64)
    labeled = np.asarray(labeled, bool)
    predicted = np.ones(labeled.shape[1], bool) if predicted is None else predicted
    errors = np.full((len(ground_truth), len(STICKS)), np.inf)
    complete = np.zeros(errors.shape, bool)
    found = np.zeros(len(STICKS), bool)
    for stick, ends in enumerate(STICKS.values()):
        index = [joint_index(joints, end) for end in ends]
        if min(place.min() for place in index) < 0:
            continue
        complete[:, stick] = labeled[:, np.concatenate(index)].all(axis=1)
        found[stick] = predicted[np.concatenate(index)].all()
        true_ends = [ground_truth[:, place].mean(axis=1) for place in index]
        ends_found = [prediction[:, place].mean(axis=1) for place in index]
        length = _distance(*true_ends)
        errors_of_ends = [_distance(*end) for end in zip(true_ends, ends_found, strict=True)]
        # np.maximum keeps a NaN of either end, which then counts as wrong.
        farther = np.maximum(*errors_of_ends)
        np.divide(farther, length, out=errors[:, stick], where=length > 0)
    return _count(errors, complete, found, np.ones(len(errors), bool), fractions)


def rates(counts: Counts) -> np.ndarray:
    """Compute the percentage correct, float64 [T, P]; NaN for parts that were never counted."""
    return _percent(counts.correct, counts.counted)


def pooled_rate(counts: Counts, parts: Sequence[int]) -> np.ndarray:
    """Compute the percentage correct over all entries of the parts with these indices: [T]."""
    return _percent(counts.correct[:, parts].sum(axis=1), counts.counted[parts].sum())


def area_under_curve(rate: np.ndarray, thresholds: Sequence[float]) -> float:
    """Average a curve, rate [T] over increasing thresholds [T], by the trapezoid rule."""
    steps = np.diff(thresholds)
    return float(((rate[1:] + rate[:-1]) / 2 * steps).sum() / steps.sum())


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute Euclidean distances in float64: [..., 2] and [..., 2] -> [...]."""
    # Cast first: integer inputs may be unsigned.
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return np.hypot(difference[..., 0], difference[..., 1])


def _relative_errors(
    prediction: np.ndarray, ground_truth: np.ndarray, normalizer: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return normalized distances [N, J], and which persons have a normalizer [N]."""
    normalizer = np.asarray(normalizer, np.float64)
    measured = np.isfinite(normalizer) & (normalizer > 0)
    distance = _distance(prediction, ground_truth)
    return distance / np.where(measured, normalizer, 1.0)[:, None], measured


def _count(
    errors: np.ndarray,
    labeled: np.ndarray,
    predicted: np.ndarray,
    measured: np.ndarray,
    thresholds: Sequence[float],
) -> Counts:
    """Count relative errors [N, P] of the labeled [N, P] and predicted [P] parts.

    ``measured`` [N]: which persons have a normalizer.
    """
    given = labeled & measured[:, None]
    counted = given & predicted
    return Counts(
        correct=np.array(
            [((errors <= t) & counted).sum(axis=0) for t in thresholds], dtype=np.int64
        ).reshape(len(thresholds), errors.shape[1]),
        counted=counted.sum(axis=0, dtype=np.int64),
        not_labeled=(~labeled & measured[:, None]).sum(axis=0, dtype=np.int64),
        not_predicted=(given & ~predicted).sum(axis=0, dtype=np.int64),
        persons=np.int64(len(errors)),
        persons_left_out=(~measured).sum(dtype=np.int64),
    )


def _percent(correct: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return np.where(counted > 0, 100.0 * correct / np.maximum(counted, 1), np.nan)
