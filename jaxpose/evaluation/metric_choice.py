"""Which protocols a data set allows, and which metric steers a run."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxpose.errors import JaxposeError
from jaxpose.evaluation import any_joints, oks
from jaxpose.evaluation.evaluation_set import EvaluationSet
from jaxpose.evaluation.protocols import PROTOCOLS, Protocol, allowed_protocols
from jaxpose.skeleton import MPII, joint_index

AUTO = "auto"  # PCK where the data allow it, else the loss
LOSS = "loss"  # minus 100 times the validation loss
# As a config names them; the name of PCK may be followed by a colon and its unit.
METRICS = (*PROTOCOLS, any_joints.NAME, oks.OKS_AP.name, LOSS, AUTO)


class Choice(NamedTuple):
    """What steers the plateau and the best checkpoint of a run.

    Attributes:
      metric: name of a protocol, `LOSS`, or "" where there is neither; then the newest checkpoint
        is the best.
      weights: of the validation rows whose mean it is, by name.
      description: for the first lines of a run.
    """

    metric: str
    weights: Mapping[str, float]
    description: str


def check_metric(metric: str) -> None:
    """Raise a JaxposeError for a metric or a unit that does not exist."""
    name, unit = _parse(metric)
    if name not in METRICS or (unit != any_joints.AUTO and name != any_joints.NAME):
        raise JaxposeError(f"metric is {metric!r}; choose one of {', '.join(METRICS)}")
    if unit != any_joints.AUTO:
        any_joints.unit_named(unit)


def _parse(metric: str) -> tuple[str, str]:
    """Name and unit of a metric: "pck:nose,tail" has both."""
    name, colon, unit = metric.partition(":")
    return name, unit if colon else any_joints.AUTO


def protocols_of(evaluation_set: EvaluationSet) -> dict[str, Protocol]:
    """The protocols that a truth allows, by name.

    These are the paper's that it allows; PCK of all its joints, if it has joints that the paper
    does not name, if nothing else is allowed, or if it is wanted; and OKS-AP, if the data set has
    what it needs and pycocotools is installed.

    Returns:
      An empty dict if nothing is labeled.
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


def protocol_for(evaluation_set: EvaluationSet, name: str) -> Protocol | None:
    """The protocol that a row is compared by: the wanted one, PCK in place of `AUTO` and `LOSS`.

    Args:
      evaluation_set: of the row, with the wanted metric.
      name: of the row, for the error.

    Returns:
      None if nothing is labeled, or if no protocol is possible where none was named.

    Raises:
      JaxposeError: the row cannot be evaluated by the protocol that is wanted.
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
    """Decide what steers a run.

    Args:
      metric: as a config has it.
      rows: the truth of each validation row with this metric, by name.
      weights: of the rows in its mean, by name.

    Raises:
      JaxposeError: a row with a weight cannot be evaluated by that metric.
    """
    labeled = [name for name, found in rows.items() if found.truth.labeled.any()]
    if not labeled:
        why = "no validation row has labels: the newest checkpoint counts as the best"
        return Choice("", {}, why)
    weighted = {name: weight for name, weight in weights.items() if weight}
    steering = {name: weight for name, weight in weighted.items() if name in labeled}
    if not steering:
        why = "no validation row with labels has a weight"
        description = f"the validation loss of {', '.join(labeled)} steers the run: {why}"
        return Choice(LOSS, dict.fromkeys(labeled, 1.0), description)
    where = f"of {', '.join(steering)}"
    if metric == LOSS:
        return Choice(LOSS, steering, f"the validation loss {where} steers the run")
    wanted = any_joints.NAME if metric == AUTO else _parse(metric)[0]
    allowed = {
        name: protocols_of(rows[name]) for name in (steering if metric == AUTO else weighted)
    }
    refused = [name for name, found in allowed.items() if wanted not in found]
    if not refused:
        labels = dict.fromkeys(found[wanted].label for found in allowed.values())
        description = f"{' and '.join(labels)} ({wanted}) {where} steers the run"
        return Choice(wanted, steering, description)
    if metric == AUTO:
        why = "there is no unit for PCK, neither head sizes nor boxes"
        return Choice(LOSS, steering, f"the validation loss {where} steers the run: {why}")
    raise _cannot_score(refused[0], rows[refused[0]], allowed[refused[0]])


def _cannot_score(
    name: str, evaluation_set: EvaluationSet, allowed: Mapping[str, Protocol]
) -> JaxposeError:
    metric, unit = _parse(evaluation_set.metric)
    why = ""
    if metric == oks.OKS_AP.name:
        why = f" (the data set has no {oks.lacks(evaluation_set)})"
    if metric == any_joints.NAME:
        why = f" (no example has the unit {unit})"
    return JaxposeError(
        f"{name} cannot be evaluated by {metric}{why}, but by {', '.join(allowed) or 'nothing'}; "
        "change config.metric, or leave the row out"
    )
