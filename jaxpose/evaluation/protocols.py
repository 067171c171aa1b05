"""The three protocols of the paper's tables: what is scored, and the tables in its column order.

``mpii-pckh`` is Table 5, ``lsp-pck`` Tables 1 and 3, ``lsp-pcp`` Tables 2 and 4; the observer- and
person-centric tables differ in the annotation alone, so they share a protocol.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.evaluation import metrics
from jaxpose.evaluation.evaluation_set import EvaluationSet
from jaxpose.evaluation.labeled_predictions import (
    LabeledPredictions,
    check_predictions,
    select_persons,
)
from jaxpose.skeleton import LSP, MPII, joint_index


def _sides(part: str) -> tuple[str, str]:
    return f"right_{part}", f"left_{part}"


class Protocol(NamedTuple):
    """What a table of the paper reports.

    Attributes:
      name: as the command takes it.
      metric: what the paper calls it.
      parts: joints or sticks that are counted, in the order of the counts' last axis.
      joints: the joints that the parts are made of, in the data set's order.
      columns: (key, the paper's header, parts whose rates are averaged).
      total: the paper's header of the last column.
      normalizer: what a distance is divided by: ``"head_size"``, ``"torso_diagonal"``,
        ``"box_diagonal"``, ``"area"``, the names of two joints for their true distance, or
        ``"stick"`` for the length of each true stick.
      pooled: the last column pools all entries of the columns' parts; else it averages the rates.
      threshold: the one that the table is for.
      thresholds: all that are counted, rising; () for a score that averages over thresholds.
      reported: those of them whose total is reported beside the table.
      has_curve: the area under the curve over ``thresholds`` is reported.
      extras: (key, parts whose entries are pooled), reported beside the table.
      unit: the normalizer in words, where the metric's name does not tell it.
      lacking: what persons without a normalizer lack, in words; "" where every person has it.
      required_joints: joints that the truth must have.
      has_error: the normalized mean error (NME) is reported beside the table.
    """

    name: str
    metric: str
    parts: tuple[str, ...]
    joints: tuple[str, ...]
    columns: tuple[tuple[str, str, tuple[str, ...]], ...]
    total: str
    normalizer: str | tuple[str, str]
    pooled: bool
    threshold: float
    thresholds: tuple[float, ...]
    reported: tuple[float, ...]
    has_curve: bool = False
    extras: tuple[tuple[str, tuple[str, ...]], ...] = ()
    unit: str = ""
    lacking: str = ""
    required_joints: tuple[str, ...] = ()
    has_error: bool = False

    @property
    def label(self) -> str:
        """Metric and threshold, such as ``PCKh@0.5`` or ``PCK@0.1 of the box diagonal``."""
        if not self.thresholds:
            return self.metric
        return f"{self.metric}@{self.threshold:g}" + (f" of {self.unit}" if self.unit else "")

    @property
    def averaged(self) -> tuple[str, ...]:
        """The parts that the total is made of: those of the columns, or all without columns."""
        return tuple(part for _, _, parts in self.columns for part in parts) or self.parts

    @property
    def part_kind(self) -> str:
        """What the parts are: ``joint`` or ``stick``."""
        return "stick" if self.normalizer == "stick" else "joint"


class PartResult(NamedTuple):
    """How one joint or stick did.

    Attributes:
      rate: percent right of those counted, None if there are none.
      correct: how many are right.
      counted: how many are counted.
      not_labeled: how many are left out because they have no label.
    """

    rate: float | None
    correct: int
    counted: int
    not_labeled: int


class ProtocolResult(NamedTuple):
    """The figures of one protocol for a set of persons. Rates are percentages, None where empty.

    Attributes:
      protocol: what was computed.
      persons: number of persons.
      persons_left_out: those without the protocol's normalizer; none of their parts is counted.
      not_labeled: parts of the other persons that have no label.
      columns: rate of each of the paper's columns, by key.
      total: the paper's last column.
      pooled: percent right of all entries of the columns' parts.
      mean_of_rates: mean rate of the columns' parts. The total is this or `pooled`.
      at_threshold: the total at each of the protocol's reported thresholds.
      parts: figures of each joint or stick, by name.
      area_under_curve: mean height of the total over the thresholds, if the protocol has a curve.
      extras: further pooled rates, by the protocol's keys.
      errors: if the protocol has an error, the NME of each part in percent of the normalizer.
      mean_error: the NME of all counted entries, if the protocol has an error.
    """

    protocol: Protocol
    persons: int
    persons_left_out: int
    not_labeled: int
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

    @property
    def parts_left_out(self) -> list[str]:
        """Names of the parts of which none was counted."""
        return [name for name, part in self.parts.items() if part.counted == 0]

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values, the extras beside the rest."""
        record = {
            "protocol": self.protocol.name,
            "metric": self.protocol.metric,
            "threshold": self.protocol.threshold,
            "persons": self.persons,
            "persons_left_out": self.persons_left_out,
            "not_labeled": self.not_labeled,
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
        return record | self.extras


MPII_PCKH = Protocol(
    name="mpii-pckh",
    metric="PCKh",
    parts=MPII.joints,
    joints=MPII.joints,
    # The MPII toolkit's groups: hips are in, pelvis and thorax are not.
    columns=(
        ("head", "Head", ("upper_neck", "head_top")),
        ("shoulder", "Shoulder", _sides("shoulder")),
        ("elbow", "Elbow", _sides("elbow")),
        ("wrist", "Wrist", _sides("wrist")),
        ("hip", "Hip", _sides("hip")),
        ("knee", "Knee", _sides("knee")),
        ("ankle", "Ankle", _sides("ankle")),
    ),
    total="Total",
    normalizer="head_size",
    pooled=True,
    threshold=0.5,
    thresholds=tuple(step / 100 for step in range(51)),
    reported=(0.1, 0.2, 0.3, 0.4, 0.5),
    has_curve=True,
    lacking="head size",
    extras=(("upper_body", _sides("wrist") + _sides("elbow") + _sides("shoulder")),),
)

LSP_PCK = Protocol(
    name="lsp-pck",
    metric="PCK",
    parts=LSP.joints,
    joints=LSP.joints,
    columns=(
        ("head", "Head", ("neck", "head_top")),
        ("shoulder", "Sho.", _sides("shoulder")),
        ("elbow", "Elb.", _sides("elbow")),
        ("wrist", "Wri.", _sides("wrist")),
        ("hip", "Hip", _sides("hip")),
        ("knee", "Knee", _sides("knee")),
        ("ankle", "Ank.", _sides("ankle")),
    ),
    total="PCK",
    normalizer="torso_diagonal",
    pooled=True,
    threshold=0.2,
    thresholds=(0.05, 0.1, 0.15, 0.2),
    reported=(0.05, 0.1, 0.15, 0.2),
    lacking="left shoulder or right hip",
    required_joints=metrics.TORSO_ENDS,
)

LSP_PCP = Protocol(
    name="lsp-pcp",
    metric="strict PCP",
    parts=tuple(metrics.STICKS),
    joints=LSP.joints,
    columns=(
        ("torso", "Torso", ("torso",)),
        ("upper_leg", "Up. leg", _sides("upper_leg")),
        ("lower_leg", "Lo. leg", _sides("lower_leg")),
        ("upper_arm", "Up. arm", _sides("upper_arm")),
        ("forearm", "Forearm", _sides("forearm")),
        ("head", "Head", ("head",)),
    ),
    total="PCP",
    normalizer="stick",
    pooled=False,
    threshold=0.5,
    thresholds=(0.5,),
    reported=(0.5,),
    required_joints=metrics.TORSO_ENDS,
)

PROTOCOLS = {protocol.name: protocol for protocol in (MPII_PCKH, LSP_PCK, LSP_PCP)}


def named(name: str) -> Protocol:
    """The protocol of that name; a JaxposeError lists the names where there is none."""
    if name not in PROTOCOLS:
        raise JaxposeError(f"no protocol {name!r}; take one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def score(
    protocol: Protocol, predictions: LabeledPredictions, *, separated_only: bool = False
) -> metrics.Counts:
    """Counts of the protocol's parts, joints matched by name.

    A joint that the truth does not annotate or that the prediction lacks is left out.

    Args:
      protocol: of `PROTOCOLS`.
      predictions: of N persons, with their truth.
      separated_only: count only the sufficiently separated persons, MPII's single-person subset.

    Raises:
      JaxposeError: arrays disagree, or the protocol's normalizer or ``separated`` is missing.
    """
    predictions = check_predictions(predictions)
    if separated_only:
        if predictions.separated is None:
            raise JaxposeError("there is no array 'separated' (bool, one a person); add it")
        predictions = select_persons(predictions, predictions.separated)
    arrays = _matched(protocol, predictions)
    if protocol.normalizer == "stick":
        return metrics.strict_pcp(*arrays, joints=protocol.joints, fractions=protocol.thresholds)
    normalizer = normalizers(protocol, predictions)
    return metrics.pck(*arrays, normalizer, thresholds=protocol.thresholds)


def _matched(
    protocol: Protocol, predictions: LabeledPredictions
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, truth and which of it counts, in the order of the protocol's joints."""
    prediction, truth, labeled, joints, names, *_ = predictions
    in_truth = joint_index(joints, protocol.joints)
    in_prediction = joint_index(names, protocol.joints)
    present = labeled[:, in_truth] & (in_truth >= 0) & (in_prediction >= 0)
    # Index -1 takes a wrong joint, which `present` leaves out.
    return prediction[:, in_prediction], truth[:, in_truth], present


def normalizers(protocol: Protocol, predictions: LabeledPredictions) -> np.ndarray:
    """What the distances of each person's joints are divided by.

    Args:
      protocol: of `PROTOCOLS`, or another one; not one that counts sticks.
      predictions: of N persons, with their truth.

    Returns:
      float64 [N] in pixels of the release; 0 for persons who have no normalizer.

    Raises:
      JaxposeError: ``predictions`` lack the field that the normalizer is.
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
        raise JaxposeError(f"{protocol.name} needs {field} (pixels, one a person); add it")
    return metrics.box_diagonal(values) if field == "box" else values


def evaluate(protocol: Protocol, predictions: LabeledPredictions) -> ProtocolResult:
    """All figures of a protocol for some predictions: `score` and `result`, with the NME if any.

    Args:
      protocol: of `PROTOCOLS`, or another one.
      predictions: of N persons, with their truth.

    Raises:
      JaxposeError: as `score`.
    """
    found = result(protocol, score(protocol, predictions))
    if not protocol.has_error:
        return found
    predictions = check_predictions(predictions)
    errors = metrics.normalized_mean_error(
        *_matched(protocol, predictions), normalizers(protocol, predictions)
    )
    counted = np.array([part.counted for part in found.parts.values()])
    total = np.where(counted > 0, errors * counted, 0.0).sum() / max(counted.sum(), 1)
    return found._replace(
        errors={part: _number(error) for part, error in zip(found.parts, errors, strict=True)},
        mean_error=_number(total) if counted.any() else None,
    )


def result(protocol: Protocol, counts: metrics.Counts) -> ProtocolResult:
    """All figures of a protocol, from the counts of its parts.

    Args:
      protocol: of `PROTOCOLS`.
      counts: what `score` returns for it.

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
    """Mean of those that are not NaN; NaN where all are."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def allowed_protocols(evaluation_set: EvaluationSet) -> list[str]:
    """Names of the protocols that a truth can be scored by; none if nothing is labeled."""
    truth = evaluation_set.truth
    if not truth.labeled.any():
        return []
    joints, has_heads = set(evaluation_set.truth_joints), (truth.head_size > 0).any()
    return [
        protocol.name
        for protocol in PROTOCOLS.values()
        if joints.issuperset(protocol.required_joints)
        and (has_heads or protocol.normalizer != "head_size")
    ]
