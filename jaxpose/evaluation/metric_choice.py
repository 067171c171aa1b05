"""Select the protocols that a data set supports, and the metric that controls a run."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxpose.errors import JaxposeError
from jaxpose.evaluation import any_joints, oks
from jaxpose.evaluation.evaluation_set import EvaluationSet
from jaxpose.evaluation.protocols import PROTOCOLS, Protocol, allowed_protocols
from jaxpose.optional import import_optional
from jaxpose.skeleton import MPII, joint_index

AUTO = "auto"  # PCK if the data support it, otherwise the loss
LOSS = "loss"  # minus 100 times the validation loss
# Names in configs; PCK may be followed by a colon and its unit.
METRICS = (*PROTOCOLS, any_joints.NAME, oks.OKS_AP.name, LOSS, AUTO)
_USE = "selects the best checkpoint and drives the learning-rate plateau"


class Choice(NamedTuple):
    """The metric that selects the best checkpoint of a run and drives the learning-rate plateau.

    Attributes:
      metric: name of a protocol, ``LOSS``, or "" if there is neither; the newest checkpoint then
        counts as the best.
      weights: weights of the rows of ``config.validation`` in the mean, by row name.
      description: text for the first lines of the log.
    """

    metric: str
    weights: Mapping[str, float]
    description: str


def check_metric(metric: str) -> None:
    """Raise a JaxposeError for a metric or a unit that does not exist, or lacks its library."""
    name, unit = _parse(metric)
    if name not in METRICS or (unit != any_joints.AUTO and name != any_joints.NAME):
        raise JaxposeError(f"metric is {metric!r}; choose one of {', '.join(METRICS)}")
    if unit != any_joints.AUTO:
        any_joints.unit_named(unit)
    if name == oks.OKS_AP.name:
        import_optional("pycocotools.coco", extra="coco")


def _parse(metric: str) -> tuple[str, str]:
    """Split a metric such as "pck:nose,tail" into name and unit."""
    name, colon, unit = metric.partition(":")
    return name, unit if colon else any_joints.AUTO


def protocols_of(evaluation_set: EvaluationSet) -> dict[str, Protocol]:
    """Return the protocols that the truth supports, by name.

    - The paper's protocols that the data set supports.
    - PCK over all joints, if the data set has joints other than MPII's or supports none of the
      paper's protocols, or if the config's metric is "auto" or PCK.
    - OKS-AP, if the data set has the required fields and pycocotools is installed.

    Returns:
      Protocols by name; empty if nothing is labeled, or if no unit of PCK is known
      (``why_no_protocol``).
    """
    if not evaluation_set.truth.labeled.any():
        return {}
    papers = (PROTOCOLS[name] for name in allowed_protocols(evaluation_set))
    found = {
        protocol.name: protocol
        for protocol in papers
        if (joint_index(evaluation_set.truth_joints, protocol.joints) >= 0).any()
    }
    joints = evaluation_set.truth_joints
    wanted, unit_name = _parse(evaluation_set.metric)
    unit = any_joints.available_unit(evaluation_set.truth, joints, unit=unit_name)
    own = (joint_index(MPII.joints, joints) < 0).any()
    if unit is not None and (own or not found or wanted in (any_joints.NAME, AUTO)):
        found[any_joints.NAME] = any_joints.pck_protocol(
            joints, evaluation_set.flip_pairs, unit=unit
        )
    if not oks.lacks(evaluation_set) and (oks.installed() or wanted == oks.OKS_AP.name):
        found[oks.OKS_AP.name] = oks.OKS_AP
    return found


def why_no_protocol(evaluation_set: EvaluationSet) -> str:
    """Describe why ``protocols_of`` is empty, and what to do, to follow a colon."""
    if not evaluation_set.truth.labeled.any():
        return "no joint has a label"
    return (
        f"the data set has {any_joints.missing_unit(any_joints.AUTO)}; prepare it with boxes or "
        "head sizes, or use the distance between two joints as the unit of PCK: "
        "--config.metric=pck:JOINT,JOINT"
    )


def protocol_for(evaluation_set: EvaluationSet, name: str) -> Protocol | None:
    """Return the protocol of a row's tables: the requested one, or PCK for ``AUTO`` and ``LOSS``.

    Args:
      evaluation_set: set of the row, with the requested metric.
      name: name of the row, for the error.

    Returns:
      The protocol; None if nothing is labeled, or if none was requested and none is supported.

    Raises:
      JaxposeError: the row does not support the requested protocol.
    """
    allowed, (wanted, _) = protocols_of(evaluation_set), _parse(evaluation_set.metric)
    if not evaluation_set.truth.labeled.any():
        return None
    if wanted in PROTOCOLS or wanted in (any_joints.NAME, oks.OKS_AP.name):
        if wanted not in allowed:
            raise _cannot_score(name, evaluation_set, allowed)
        return allowed[wanted]
    return allowed.get(any_joints.NAME) or next(iter(allowed.values()), None)


def choose(metric: str, rows: Mapping[str, EvaluationSet], weights: Mapping[str, float]) -> Choice:
    """Choose the metric that selects the best checkpoint and drives the learning-rate plateau.

    Args:
      metric: the config's metric.
      rows: evaluation sets of the validation rows, made with this metric, by name.
      weights: weights of the rows in the mean, by name.

    Raises:
      JaxposeError: a row with a weight above 0 does not support that metric.
    """
    labeled = [name for name, found in rows.items() if found.truth.labeled.any()]
    if not labeled:
        why = "no row of config.validation has labels; the newest checkpoint counts as the best"
        return Choice("", {}, why)
    weighted = {name: weight for name, weight in weights.items() if weight}
    used = {name: weight for name, weight in weighted.items() if name in labeled}
    if not used:
        why = "every row of config.validation with labels has weight 0"
        description = f"{why}; the validation loss of {', '.join(labeled)} {_USE}"
        return Choice(LOSS, dict.fromkeys(labeled, 1.0), description)
    where = f"of {', '.join(used)}"
    if metric == LOSS:
        return Choice(LOSS, used, f"the validation loss {where} {_USE}")
    wanted = any_joints.NAME if metric == AUTO else _parse(metric)[0]
    allowed = {name: protocols_of(rows[name]) for name in (used if metric == AUTO else weighted)}
    refused = [name for name, found in allowed.items() if wanted not in found]
    if not refused:
        labels = dict.fromkeys(found[wanted].label for found in allowed.values())
        description = f"{' and '.join(labels)} ({wanted}) {where} {_USE}"
        return Choice(wanted, used, description)
    if metric == AUTO:
        lacks = any_joints.missing_unit(any_joints.AUTO)
        why = f"PCK cannot be computed, because {refused[0]} has {lacks}"
        return Choice(LOSS, used, f"{why}; the validation loss {where} {_USE}")
    raise _cannot_score(refused[0], rows[refused[0]], allowed[refused[0]])


def _cannot_score(
    name: str, evaluation_set: EvaluationSet, allowed: Mapping[str, Protocol]
) -> JaxposeError:
    metric, unit = _parse(evaluation_set.metric)
    supported = list(allowed)
    why = ""
    if metric == oks.OKS_AP.name:
        why = f" (the data set has no {oks.lacks(evaluation_set)})"
    if metric == any_joints.NAME:
        joints = evaluation_set.truth_joints
        why = f" (the data set has {any_joints.missing_unit(unit, joints)})"
        if any_joints.available_unit(evaluation_set.truth, joints) is not None:
            supported.append(any_joints.NAME)  # with another unit
    return JaxposeError(
        f"{name} cannot be evaluated by {evaluation_set.metric}{why}; the row supports "
        f"{', '.join(supported) or 'no metric'}; change config.metric, or remove the row"
    )
