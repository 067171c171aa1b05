"""The three protocols of the paper's tables: what is scored, and the tables in its column order.

``mpii-pckh`` is Table 5, ``lsp-pck`` Tables 1 and 3, ``lsp-pcp`` Tables 2 and 4; the observer- and
person-centric tables differ in the annotation alone, so they share a protocol.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.evaluation import metrics
from jaxpose.evaluation.prediction_file import Predictions, check_predictions
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
      normaliser: what a distance is divided by: ``"head_size"``, ``"torso_diagonal"``, or
        ``"stick"`` for the length of each true stick.
      pooled: the last column pools all entries of the columns' parts; else it averages the rates.
      threshold: the one that the table is for.
      thresholds: all that are counted, rising.
      reported: those of them whose total is reported beside the table.
      has_curve: the area under the curve over ``thresholds`` is reported.
      extras: (key, parts whose entries are pooled), reported beside the table.
    """

    name: str
    metric: str
    parts: tuple[str, ...]
    joints: tuple[str, ...]
    columns: tuple[tuple[str, str, tuple[str, ...]], ...]
    total: str
    normaliser: str
    pooled: bool
    threshold: float
    thresholds: tuple[float, ...]
    reported: tuple[float, ...]
    has_curve: bool = False
    extras: tuple[tuple[str, tuple[str, ...]], ...] = ()


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
    normaliser="head_size",
    pooled=True,
    threshold=0.5,
    thresholds=tuple(step / 100 for step in range(51)),
    reported=(0.1, 0.2, 0.3, 0.4, 0.5),
    has_curve=True,
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
    normaliser="torso_diagonal",
    pooled=True,
    threshold=0.2,
    thresholds=(0.05, 0.1, 0.15, 0.2),
    reported=(0.05, 0.1, 0.15, 0.2),
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
    normaliser="stick",
    pooled=False,
    threshold=0.5,
    thresholds=(0.5,),
    reported=(0.5,),
)

PROTOCOLS = {protocol.name: protocol for protocol in (MPII_PCKH, LSP_PCK, LSP_PCP)}


def named(name: str) -> Protocol:
    """The protocol of that name; a JaxposeError lists the names where there is none."""
    if name not in PROTOCOLS:
        raise JaxposeError(f"no protocol {name!r}; take one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def score(protocol: Protocol, predictions: Predictions) -> metrics.Counts:
    """Counts of the protocol's parts, joints matched by name.

    A joint that the truth does not annotate or that the prediction lacks is left out. Counts of any
    two data sets under one protocol can be merged.

    Raises:
      JaxposeError: arrays disagree, or the protocol's normaliser is missing.
    """
    prediction, truth, labelled, joints, names, head_size, _ = check_predictions(predictions)
    in_truth = joint_index(joints, protocol.joints)
    in_prediction = joint_index(names, protocol.joints)
    present = labelled[:, in_truth] & (in_truth >= 0) & (in_prediction >= 0)
    # Index -1 takes a wrong joint, which `present` leaves out.
    arrays = prediction[:, in_prediction], truth[:, in_truth], present
    if protocol.normaliser == "stick":
        return metrics.strict_pcp(*arrays, joints=protocol.joints, fractions=protocol.thresholds)
    if protocol.normaliser == "torso_diagonal":
        normaliser = metrics.torso_diagonal(truth, labelled, joints=joints)
    elif head_size is None:
        raise JaxposeError(f"{protocol.name} needs head_size (pixels, one a person); add it")
    else:
        normaliser = head_size
    return metrics.pck(*arrays, normaliser, thresholds=protocol.thresholds)


def result(protocol: Protocol, counts: metrics.Counts) -> dict[str, Any]:
    """All that a table says, as a dict of plain Python values; rates in percent, None where empty.

    Returns:
      ``columns``: the paper's, by key, and ``total``; ``pooled`` and ``mean_of_rates``: the two
      averages over the columns' parts, one of which is the total; ``parts``: rate and counts per
      joint or stick; ``parts_left_out``: those of which none was counted; ``at_threshold``: the
      total per threshold; ``persons``, ``persons_left_out``, ``not_labelled``: how many.
    """
    place = {part: index for index, part in enumerate(protocol.parts)}
    at = protocol.thresholds.index(protocol.threshold)
    rate = metrics.rates(counts)
    averaged = [place[part] for _, _, parts in protocol.columns for part in parts]
    pooled = metrics.pooled_rate(counts, averaged)
    mean = np.array([_mean(row[averaged]) for row in rate])
    total = pooled if protocol.pooled else mean
    found = {
        "protocol": protocol.name,
        "metric": protocol.metric,
        "threshold": protocol.threshold,
        "persons": int(counts.persons),
        "persons_left_out": int(counts.persons_left_out),
        "not_labelled": int(counts.not_labelled.sum()),
        "columns": {
            key: _number(_mean(rate[at, [place[part] for part in parts]]))
            for key, _, parts in protocol.columns
        },
        "total": _number(total[at]),
        "pooled": _number(pooled[at]),
        "mean_of_rates": _number(mean[at]),
        "at_threshold": {
            f"{t:g}": _number(total[protocol.thresholds.index(t)]) for t in protocol.reported
        },
        "parts": {
            part: {
                "rate": _number(rate[at, index]),
                "correct": int(counts.correct[at, index]),
                "counted": int(counts.counted[index]),
                "not_labelled": int(counts.not_labelled[index]),
            }
            for part, index in place.items()
        },
        "parts_left_out": [part for part, index in place.items() if counts.counted[index] == 0],
    }
    if protocol.has_curve:
        found["area_under_curve"] = _number(metrics.area_under_curve(total, protocol.thresholds))
    for key, parts in protocol.extras:
        found[key] = _number(metrics.pooled_rate(counts, [place[p] for p in parts])[at])
    return found


def _mean(values: np.ndarray) -> float:
    """Mean of those that are not NaN; NaN where all are."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def allowed_protocols(truth: dict[str, np.ndarray], truth_joints: Sequence[str]) -> list[str]:
    """Names of the protocols that a truth can be scored by; none, where nothing is labelled."""
    names = []
    if {"left_shoulder", "right_hip"} <= set(truth_joints):  # PCK's normaliser
        names += ["lsp-pck", "lsp-pcp"]
    if (truth["head_size"] > 0).any():
        names.append("mpii-pckh")
    return names if truth["labelled"].any() else []
