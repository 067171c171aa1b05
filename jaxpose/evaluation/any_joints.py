"""PCK for any joints: columns from the flip pairs; head size, box or two joints as the unit."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxpose.data.prepared import Annotations
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import metrics
from jaxpose.evaluation.protocols import Protocol

NAME = "pck"  # of the protocol
AUTO = "auto"  # the head size if it is known, otherwise the box
MAX_COLUMNS = 12  # of a table; with more columns, only the per-joint list is shown


class Unit(NamedTuple):
    """A normalizer of distances, with suitable thresholds.

    Attributes:
      normalizer: as in ``Protocol``.
      words: description for tables.
      lacking: what a person without the normalizer lacks, in words, such as ``"head size"``.
      threshold: threshold of the table.
      thresholds: all reported thresholds, increasing.
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
_TWO_JOINTS = (0.2, (0.05, 0.1, 0.15, 0.2))  # threshold and thresholds, as for PCK on LSP


def unit_named(name: str) -> Unit:
    """Return the unit of the given name.

    Args:
      name: "head", "box", or the names of two joints with a comma between them. Two joints stand
        for the true distance between them.

    Raises:
      JaxposeError: the name is none of these.

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
            f"PCK has no unit {name!r}; write pck:head, pck:box, or two joints such as "
            "pck:nose,tail"
        )
    words = f"the distance {ends[0]} to {ends[1]}"
    lacking = " or ".join(name.replace("_", " ") for name in ends)
    return Unit((ends[0], ends[1]), words, lacking, *_TWO_JOINTS)


def available_unit(truth: Annotations, joints: Sequence[str], *, unit: str = AUTO) -> Unit | None:
    """Return the unit in which the persons can be evaluated.

    Args:
      truth: annotations of N persons with J joints; only ``keypoints``, ``labeled``, ``head_size``
        and ``box`` are read.
      joints: names of the J joints.
      unit: as in ``unit_named``, or "auto": the head size if all labeled persons have one,
        otherwise the box.

    Returns:
      The unit; None if its length is unknown for all labeled persons.

    Raises:
      JaxposeError: ``unit`` is not a valid name.

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
    if isinstance(chosen.normalizer, tuple) and not set(chosen.normalizer) <= set(joints):
        return None
    return chosen if (unit_length(truth, joints, unit=chosen)[persons] > 0).any() else None


def unit_length(truth: Annotations, joints: Sequence[str], *, unit: Unit) -> np.ndarray:
    """Return the length of the unit for each person.

    Args:
      truth: as in ``available_unit``.
      joints: names of the J joints.
      unit: result of ``available_unit``.

    Returns:
      [N] in pixels; 0 for persons without the unit.

    Example:
      >>> truth = Annotations(*[np.zeros(1)] * 11)._replace(box=np.array([[5, 5, 30.0, 40.0]]))
      >>> unit_length(truth, ["nose"], unit=UNITS["box"]).tolist()
      [50.0]
    """
    if isinstance(unit.normalizer, tuple):
        return metrics.joint_distance(
            truth.keypoints, truth.labeled, joints=joints, ends=unit.normalizer
        )
    if unit.normalizer == "head_size":
        return truth.head_size
    return metrics.box_diagonal(truth.box)


def missing_unit(unit: str, joints: Sequence[str] | None = None) -> str:
    """Describe what is missing if ``available_unit`` returns None, to follow "the data set has".

    Args:
      unit: the unit.
      joints: joint names of the truth, to tell an unknown joint from an unlabeled one.

    Example:
      >>> missing_unit("box"), missing_unit("nose,tail"), missing_unit("nose,tail", ["nose", "ear"])
      ('no boxes', 'no person with both nose and tail labeled', 'no joint tail; it has nose, ear')
    """
    if unit == AUTO:
        return "neither boxes nor a head size for every person"
    normalizer = unit_named(unit).normalizer
    if isinstance(normalizer, tuple):
        for joint in normalizer:
            if joints is not None and joint not in joints:
                return f"no joint {joint}; it has {', '.join(joints)}"
        return f"no person with both {normalizer[0]} and {normalizer[1]} labeled"
    return "no head sizes" if unit == "head" else "no boxes"


def pck_protocol(
    joints: Sequence[str], flip_pairs: Sequence[Sequence[str]] = (), *, unit: Unit
) -> Protocol:
    """Make a protocol for PCK and NME of any joints.

    Args:
      joints: joint names of the truth.
      flip_pairs: pairs of these names that share a column, and for which inversions are reported;
        every other joint has its own column.
      unit: result of ``available_unit``.

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
        flip_pairs=tuple((first, second) for first, second in flip_pairs),
    )


def _columns(
    joints: Sequence[str], flip_pairs: Sequence[Sequence[str]]
) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Make the columns, in the joints' order; () if there are too many for a table."""
    partner = {name: pair for pair in flip_pairs for name in pair}
    columns = {}
    for name in joints:
        parts = tuple(partner.get(name, (name,)))
        columns[parts] = (parts[0], _header(parts), parts)
    return tuple(columns.values()) if len(columns) <= MAX_COLUMNS else ()


def _header(parts: Sequence[str]) -> str:
    """Return a joint's name; for a pair, the name without its side."""
    if len(parts) == 1:
        return parts[0].replace("_", " ")
    without = re.sub(r"(?<![a-z])([Rr]ight|RIGHT)(?![a-z])", " ", parts[0])
    words = [word for word in re.split(r"[_\W]+", without) if word]
    return " ".join(words) if words and without != parts[0] else ", ".join(parts)
