"""Evaluate predictions by a protocol (``evaluate``), and compute PCK, PCKh, strict PCP and NME.

PCK, or PCKh if the normalizer is the head size: a joint is correct if its distance to the truth,
divided by the person's normalizer, is at most the threshold. Strict PCP: a stick is correct if, for
each of its two ends, the distance to the true position is at most a fraction of the true stick's
length. The numbers of correct and counted joints or sticks are integers, so their sums over subsets
of a data set are exact. Rates are in percent, distances are computed in float64, and every
comparison is ``<=``, as in the toolkits of MPII and LSP.

Protocols (which joints, groups, thresholds) are in ``jaxpose.evaluation.protocols``.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.evaluation.labeled_predictions import (
    LabeledPredictions,
    check_predictions,
    select_persons,
)
from jaxpose.evaluation.protocols import STICKS, TORSO_ENDS, Protocol
from jaxpose.skeleton import flip_permutation, joint_index


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


class PartResult(NamedTuple):
    """Result of one joint or stick. An entry is this part of one person.

    Attributes:
      rate: percentage correct, None if nothing was counted.
      correct: number of correct entries.
      counted: number of counted entries.
      not_labeled: number of entries that are ignored because they have no label.
      not_predicted: number of labeled entries that are ignored because the predictions lack a
        joint.
    """

    rate: float | None
    correct: int
    counted: int
    not_labeled: int
    not_predicted: int


class Inversions(NamedTuple):
    """Numbers of wrong joints of flip pairs, of people with labels for both joints of the pair.

    Attributes:
      inverted: wrong joints at the position of their counterpart, the other joint of the pair.
      wrong: all wrong joints.
    """

    inverted: Any
    wrong: Any


class ProtocolResult(NamedTuple):
    """Results of one protocol for a set of persons.

    Rates are percentages, or None if nothing was counted.

    Attributes:
      protocol: the protocol.
      persons: number of persons.
      persons_left_out: number of persons without the protocol's normalizer; none of their parts is
        counted.
      not_labeled: number of unlabeled parts of the other persons.
      not_predicted: number of labeled parts of the other persons that are not counted because the
        predictions lack a joint.
      columns: rate of each of the paper's columns, by key.
      total: the paper's last column.
      pooled: percentage correct over all counted entries of the joints or sticks in the columns.
      mean_of_rates: mean of the rates of the joints or sticks in the columns. Depending on the
        protocol, ``total`` is this mean or ``pooled``.
      at_threshold: the total at each of the protocol's reported thresholds.
      parts: result of each joint or stick, by name.
      area_under_curve: area under the curve of the total, divided by the range of the thresholds,
        if the protocol has a curve.
      extras: further pooled rates, by the protocol's keys.
      errors: NME of each part in percent of the normalizer, if the protocol reports the NME.
      mean_error: NME of all counted entries, if the protocol reports the NME.
      inversions: inversions of each joint that is part of a flip pair, as ints (``inversions``);
        None if the protocol has no flip pairs.
    """

    protocol: Protocol
    persons: int
    persons_left_out: int
    not_labeled: int
    not_predicted: int
    columns: dict[str, float | None]
    total: float | None
    pooled: float | None
    mean_of_rates: float | None
    at_threshold: dict[float, float | None]
    parts: dict[str, PartResult]
    area_under_curve: float | None
    extras: dict[str, float | None]
    errors: dict[str, float | None] | None = None
    mean_error: float | None = None
    inversions: dict[str, Inversions] | None = None

    @property
    def all_inversions(self) -> Inversions | None:
        """Sum of the inversions of all joints; None if the protocol has no flip pairs."""
        if self.inversions is None:
            return None
        return Inversions(
            sum(joint.inverted for joint in self.inversions.values()),
            sum(joint.wrong for joint in self.inversions.values()),
        )

    @property
    def parts_left_out(self) -> list[str]:
        """Names of the parts without counted entries."""
        return [name for name, part in self.parts.items() if part.counted == 0]

    def to_json(self) -> dict[str, Any]:
        """Return a dict of plain JSON values, with each of ``extras`` under its own key."""
        record = {
            "protocol": self.protocol.name,
            "metric": self.protocol.metric,
            "threshold": self.protocol.threshold,
            "persons": self.persons,
            "persons_left_out": self.persons_left_out,
            "not_labeled": self.not_labeled,
            "not_predicted": self.not_predicted,
            "columns": dict(self.columns),
            "total": self.total,
            "pooled": self.pooled,
            "mean_of_rates": self.mean_of_rates,
            "at_threshold": {f"{t:g}": rate for t, rate in self.at_threshold.items()},
            "parts": {name: part._asdict() for name, part in self.parts.items()},
            "parts_left_out": self.parts_left_out,
        }
        if self.protocol.has_curve:
            record["area_under_curve"] = self.area_under_curve
        if self.errors is not None:
            record |= {"mean_error": self.mean_error, "errors": dict(self.errors)}
        if self.inversions is not None:
            record["inversions"] = {n: joint._asdict() for n, joint in self.inversions.items()}
        return record | self.extras


def evaluate(
    protocol: Protocol, predictions: LabeledPredictions, *, separated_only: bool = False
) -> ProtocolResult:
    """Evaluate predictions by a protocol.

    Args:
      protocol: one of ``PROTOCOLS``, or your own.
      predictions: predictions and ground truth of N persons.
      separated_only: as in ``count``.

    Returns:
      The result of the protocol's ``count``, with NME and inversions if the protocol reports them.

    Raises:
      JaxposeError: for the same reasons as ``count``.
    """
    predictions = _checked(predictions, separated_only=separated_only)
    found = result(protocol, count(protocol, predictions))
    if not protocol.has_error and not protocol.flip_pairs:
        return found
    prediction, truth, labeled, predicted = _matched(protocol, predictions)
    unit = normalizers(protocol, predictions)
    if protocol.flip_pairs:
        counts = inversions(
            prediction,
            truth,
            labeled,
            unit,
            flipped=flip_permutation(protocol.joints, protocol.flip_pairs),
            threshold=protocol.threshold,
            predicted=predicted,
        )
        paired = {name for pair in protocol.flip_pairs for name in pair}
        of_parts = zip(protocol.parts, counts.inverted.tolist(), counts.wrong.tolist(), strict=True)
        found = found._replace(
            inversions={part: Inversions(*numbers) for part, *numbers in of_parts if part in paired}
        )
    if protocol.has_error:
        errors = normalized_mean_error(prediction, truth, labeled & predicted, unit)
        counted = np.array([part.counted for part in found.parts.values()])
        total = np.where(counted > 0, errors * counted, 0.0).sum() / max(counted.sum(), 1)
        found = found._replace(
            errors={part: _number(error) for part, error in zip(found.parts, errors, strict=True)},
            mean_error=_number(total) if counted.any() else None,
        )
    return found


def count(
    protocol: Protocol, predictions: LabeledPredictions, *, separated_only: bool = False
) -> Counts:
    """Count the correct parts of a protocol; joints are matched by name.

    Joints missing in the truth or in the predictions are ignored; those missing in the truth count
    as not labeled.

    Args:
      protocol: one of ``PROTOCOLS``, or your own.
      predictions: predictions and ground truth of N persons.
      separated_only: count only the persons of MPII's single-person subset ("sufficiently
        separated").

    Raises:
      JaxposeError: the shapes of the arrays do not match, or the protocol's normalizer or
        ``separated`` is missing.
    """
    predictions = _checked(predictions, separated_only=separated_only)
    prediction, truth, labeled, predicted = _matched(protocol, predictions)
    if protocol.normalizer == "stick":
        return strict_pcp(
            prediction,
            truth,
            labeled,
            joints=protocol.joints,
            fractions=protocol.thresholds,
            predicted=predicted,
        )
    return pck(
        prediction,
        truth,
        labeled,
        normalizers(protocol, predictions),
        thresholds=protocol.thresholds,
        predicted=predicted,
    )


def _checked(predictions: LabeledPredictions, *, separated_only: bool) -> LabeledPredictions:
    """Check the predictions, and select the persons as in ``count``."""
    predictions = check_predictions(predictions)
    if not separated_only:
        return predictions
    if predictions.separated is None:
        raise JaxposeError("the array 'separated' (bool, one per person) is missing; add it")
    return select_persons(predictions, predictions.separated)


def _matched(
    protocol: Protocol, predictions: LabeledPredictions
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return predictions, truth, labels [N, J] and predicted joints [J], in protocol order."""
    prediction, truth, labeled, joints, names, *_ = predictions
    in_truth = joint_index(joints, protocol.joints)
    in_prediction = joint_index(names, protocol.joints)
    # Index -1 selects an arbitrary joint, which the masks exclude.
    labeled = labeled[:, in_truth] & (in_truth >= 0)
    return prediction[:, in_prediction], truth[:, in_truth], labeled, in_prediction >= 0


def normalizers(protocol: Protocol, predictions: LabeledPredictions) -> np.ndarray:
    """Return each person's normalizer, by which distances are divided.

    Args:
      protocol: one of ``PROTOCOLS``, or your own, except for protocols that count sticks.
      predictions: predictions and ground truth of N persons.

    Returns:
      float64 [N] in pixels of the release; 0 for persons who have no normalizer.

    Raises:
      JaxposeError: the field of ``predictions`` with the normalizer is missing.
    """
    joints = predictions.joints
    arrays = predictions.ground_truth, predictions.labeled
    if isinstance(protocol.normalizer, tuple):
        return joint_distance(*arrays, joints=joints, ends=protocol.normalizer)
    if protocol.normalizer == "torso_diagonal":
        return torso_diagonal(*arrays, joints=joints)
    field = "box" if protocol.normalizer == "box_diagonal" else "head_size"
    values = getattr(predictions, field)
    if values is None:
        raise JaxposeError(
            f"{protocol.name} needs the array {field!r} (pixels, one per person); add it"
        )
    return box_diagonal(values) if field == "box" else values


def result(protocol: Protocol, counts: Counts) -> ProtocolResult:
    """Compute the results of a protocol from the counts of its parts.

    Args:
      protocol: one of ``PROTOCOLS``, or your own.
      counts: result of ``count`` for the protocol.

    Returns:
      Rates in percent, None where nothing was counted.
    """
    place = {part: index for index, part in enumerate(protocol.parts)}
    at = protocol.thresholds.index(protocol.threshold)
    rate = rates(counts)
    averaged = [place[part] for part in protocol.averaged]
    pooled = pooled_rate(counts, averaged)
    mean = np.array([_mean(row[averaged]) for row in rate])
    total = pooled if protocol.pooled else mean
    area = math.nan
    if protocol.has_curve:
        area = area_under_curve(total, protocol.thresholds)
    return ProtocolResult(
        protocol=protocol,
        persons=int(counts.persons),
        persons_left_out=int(counts.persons_left_out),
        not_labeled=int(counts.not_labeled.sum()),
        not_predicted=int(counts.not_predicted.sum()),
        columns={
            key: _number(_mean(rate[at, [place[part] for part in parts]]))
            for key, _, parts in protocol.columns
        },
        total=_number(total[at]),
        pooled=_number(pooled[at]),
        mean_of_rates=_number(mean[at]),
        at_threshold={t: _number(total[protocol.thresholds.index(t)]) for t in protocol.reported},
        parts={
            part: PartResult(
                rate=_number(rate[at, index]),
                correct=int(counts.correct[at, index]),
                counted=int(counts.counted[index]),
                not_labeled=int(counts.not_labeled[index]),
                not_predicted=int(counts.not_predicted[index]),
            )
            for part, index in place.items()
        },
        area_under_curve=_number(area),
        extras={
            key: _number(pooled_rate(counts, [place[p] for p in parts])[at])
            for key, parts in protocol.extras
        },
    )


def _mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN, or NaN if there are none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


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
