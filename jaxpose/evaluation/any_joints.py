"""PCK for any joints: columns that follow from the flip pairs, in a unit that the data have."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxpose.data.prepared import Annotations
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import metrics
from jaxpose.evaluation.protocols import Protocol

NAME = "pck"  # of the protocol
AUTO = "auto"  # takes the head size where it is known, else the box
MAX_COLUMNS = 12  # of a table; with more, the joints are listed one below the other only


class Unit(NamedTuple):
    """What distances are divided by, and the thresholds that suit it.

    Attributes:
      normalizer: as `Protocol` has it.
      words: for tables.
      lacking: what persons without it lack, in words.
      threshold: of the table.
      thresholds: all that are reported, rising.
    """

    normalizer: str | tuple[str, str]
    words: str
    lacking: str
    threshold: float
    thresholds: tuple[float, ...]


UNITS = {
    "head": Unit("head_size", "the head size", "head size", 0.5, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "box": Unit("box_diagonal", "the box diagonal", "a box", 0.1, (0.02, 0.05, 0.1, 0.2)),
}
_TWO_JOINTS = (0.2, (0.05, 0.1, 0.15, 0.2))  # threshold and thresholds, those of PCK on LSP


def unit_named(name: str) -> Unit:
    """The unit of a name.

    Args:
      name: "head", "box", or the names of two joints with a comma between them, for the true
        distance of these joints.

    Raises:
      JaxposeError: it is none of these.

    Example:
      >>> unit_named("box").words
      'the box diagonal'
      >>> unit_named("nose, tail").normalizer
      ('nose', 'tail')
    """
    if name in UNITS:
        return UNITS[name]
    ends = tuple(part.strip() for part in name.split(","))
    if len(ends) != 2 or not all(ends) or ends[0] == ends[1]:
        raise JaxposeError(
            f"the unit of PCK is {name!r}; write pck:head, pck:box, or two joints such as "
            "pck:nose,tail"
        )
    words = f"the distance {ends[0]} to {ends[1]}"
    lacking = " or ".join(name.replace("_", " ") for name in ends)
    return Unit((ends[0], ends[1]), words, lacking, *_TWO_JOINTS)


def available_unit(truth: Annotations, joints: Sequence[str], *, unit: str = AUTO) -> Unit | None:
    """The unit by which the persons of a truth can be evaluated.

    Args:
      truth: of N persons with J joints; ``keypoints``, ``labeled``, ``head_size`` and ``box`` are
        read.
      joints: names of the J joints.
      unit: as `unit_named` has it, or "auto": the head size if all labeled persons have one, else
        the box.

    Returns:
      The unit; None if none of the labeled persons has it.

    Raises:
      JaxposeError: as `unit_named`.

    Example:
      >>> truth = Annotations(*[np.zeros(2)] * 11)._replace(
      ...     keypoints=np.ones((2, 1, 2)), labeled=np.ones((2, 1), bool),
      ...     head_size=np.array([0.0, 9.0]), box=np.array([[0, 0, 30.0, 40.0]] * 2),
      ... )
      >>> available_unit(truth, ["nose"]).words
      'the box diagonal'
    """
    persons = np.asarray(truth.labeled, bool).any(axis=1)
    if unit == AUTO:
        if persons.any() and (truth.head_size[persons] > 0).all():
            return UNITS["head"]
        unit = "box"
    chosen = unit_named(unit)
    if isinstance(chosen.normalizer, tuple):
        if not set(chosen.normalizer) <= set(joints):
            return None
        length = metrics.joint_distance(
            truth.keypoints, truth.labeled, joints=joints, ends=chosen.normalizer
        )
    elif chosen.normalizer == "head_size":
        length = truth.head_size
    else:
        length = metrics.box_diagonal(truth.box)
    return chosen if (length[persons] > 0).any() else None


def pck_protocol(
    joints: Sequence[str], flip_pairs: Sequence[Sequence[str]] = (), *, unit: Unit
) -> Protocol:
    """PCK and NME of any joints.

    Args:
      joints: the truth's names.
      flip_pairs: pairs of them that share a column; the other joints have one each.
      unit: of `available_unit`.

    Example:
      >>> pairs = [("right_ear", "left_ear")]
      >>> found = pck_protocol(["nose", "left_ear", "right_ear"], pairs, unit=UNITS["box"])
      >>> found.label, [header for _, header, _ in found.columns]
      ('PCK@0.1 of the box diagonal', ['nose', 'ear'])
    """
    return Protocol(
        name=NAME,
        metric="PCK",
        parts=tuple(joints),
        joints=tuple(joints),
        columns=_columns(joints, flip_pairs),
        total="PCK",
        normalizer=unit.normalizer,
        pooled=True,
        threshold=unit.threshold,
        thresholds=unit.thresholds,
        reported=unit.thresholds,
        unit=unit.words,
        lacking=unit.lacking,
        has_error=True,
    )


def _columns(
    joints: Sequence[str], flip_pairs: Sequence[Sequence[str]]
) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Columns in the joints' order; none if they are too many for a table."""
    partner = {name: pair for pair in flip_pairs for name in pair}
    columns = {}
    for name in joints:
        parts = tuple(partner.get(name, (name,)))
        columns[parts] = (parts[0], _header(parts), parts)
    return tuple(columns.values()) if len(columns) <= MAX_COLUMNS else ()


def _header(parts: Sequence[str]) -> str:
    """A joint's name; of a pair, the name without its side."""
    if len(parts) == 1:
        return parts[0].replace("_", " ")
    without = re.sub(r"(?<![a-z])([Rr]ight|RIGHT)(?![a-z])", " ", parts[0])
    words = [word for word in re.split(r"[_\W]+", without) if word]
    return " ".join(words) if words and without != parts[0] else ", ".join(parts)
