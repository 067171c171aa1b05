"""Results of predictions by a protocol.

``evaluate`` matches the joints of the predictions, the ground truth and the protocol by name, and
computes the rates that the protocol reports. Protocols (which joints, groups, thresholds) are in
``jaxpose.evaluation.protocols``, the metrics in ``jaxpose.evaluation.metrics``.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.evaluation import metrics
from jaxpose.evaluation.labeled_predictions import (
    LabeledPredictions,
    check_predictions,
    select_persons,
)
from jaxpose.evaluation.metrics import Counts, Inversions
from jaxpose.evaluation.protocols import Protocol
from jaxpose.skeleton import flip_permutation, joint_index


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
        counts = metrics.inversions(
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
        errors = metrics.normalized_mean_error(prediction, truth, labeled & predicted, unit)
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
        return metrics.strict_pcp(
            prediction,
            truth,
            labeled,
            joints=protocol.joints,
            fractions=protocol.thresholds,
            predicted=predicted,
        )
    return metrics.pck(
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
        return metrics.joint_distance(*arrays, joints=joints, ends=protocol.normalizer)
    if protocol.normalizer == "torso_diagonal":
        return metrics.torso_diagonal(*arrays, joints=joints)
    field = "box" if protocol.normalizer == "box_diagonal" else "head_size"
    values = getattr(predictions, field)
    if values is None:
        raise JaxposeError(
            f"{protocol.name} needs the array {field!r} (pixels, one per person); add it"
        )
    return metrics.box_diagonal(values) if field == "box" else values


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
    rate = metrics.rates(counts)
    averaged = [place[part] for part in protocol.averaged]
    pooled = metrics.pooled_rate(counts, averaged)
    mean = np.array([_mean(row[averaged]) for row in rate])
    total = pooled if protocol.pooled else mean
    area = math.nan
    if protocol.has_curve:
        area = metrics.area_under_curve(total, protocol.thresholds)
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
            key: _number(metrics.pooled_rate(counts, [place[p] for p in parts])[at])
            for key, parts in protocol.extras
        },
    )


def _mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN, or NaN if there are none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
