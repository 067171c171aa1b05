"""Joint names, left-right pairs and limbs of the data sets, in their releases' order."""

import re
from collections.abc import Sequence
from typing import NamedTuple


class JointSet(NamedTuple):
    """The joints that a data set annotates.

    Attributes:
      joints: names in the release's order.
      flip_pairs: pairs of names that a horizontal flip exchanges.
      limbs: pairs of names that drawings connect by a line.
    """

    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...]
    limbs: tuple[tuple[str, str], ...]


def flip_pairs(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the (right, left) pairs of names that differ only in the side.

    A side is the word ``right`` or ``left``, or the separate letter ``r`` or ``l``: ``left_ear``,
    ``ear-left``, ``LeftEar``, ``l_ear``. If a name has several sides, all of them are exchanged:
    ``right_eye_left_corner`` and ``left_eye_right_corner`` are a pair, in this order, because the
    first side decides.
    """
    by_words = {_words(name): name for name in names}
    pairs = []
    for words, name in by_words.items():
        sides = [word for word in words if word in _OTHER_SIDE]
        mirrored = tuple(_OTHER_SIDE.get(word, word) for word in words)
        if sides and sides[0] in ("right", "r") and mirrored in by_words:
            pairs.append((name, by_words[mirrored]))
    return tuple(pairs)


_OTHER_SIDE = {"right": "left", "left": "right", "r": "l", "l": "r"}


def _words(name: str) -> tuple[str, ...]:
    """Split a name at capitals and non-letters into its words, in lower case."""
    return tuple(word.lower() for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+", name))


_LEGS = ("ankle", "knee", "hip")
_ARMS = ("wrist", "elbow", "shoulder")
_FLIP_PAIRS = tuple((f"right_{part}", f"left_{part}") for part in _LEGS + _ARMS)
_LIMBS_OF_A_SIDE = (("ankle", "knee"), ("knee", "hip"), ("shoulder", "elbow"), ("elbow", "wrist"))
_LIMBS = tuple(
    (f"{side}_{start}", f"{side}_{end}")
    for side in ("right", "left")
    for start, end in _LIMBS_OF_A_SIDE
)

LSP = JointSet(
    joints=(
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
        *("right_wrist", "right_elbow", "right_shoulder"),
        *("left_shoulder", "left_elbow", "left_wrist"),
        *("neck", "head_top"),
    ),
    flip_pairs=_FLIP_PAIRS,
    limbs=_LIMBS
    + (
        ("right_hip", "left_hip"),
        ("right_hip", "right_shoulder"),
        ("left_hip", "left_shoulder"),
        ("right_shoulder", "neck"),
        ("left_shoulder", "neck"),
        ("neck", "head_top"),
    ),
)

MPII = JointSet(
    joints=(
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
        *("pelvis", "thorax", "upper_neck", "head_top"),
        *("right_wrist", "right_elbow", "right_shoulder"),
        *("left_shoulder", "left_elbow", "left_wrist"),
    ),
    flip_pairs=_FLIP_PAIRS,
    limbs=_LIMBS
    + (
        ("right_hip", "pelvis"),
        ("left_hip", "pelvis"),
        ("pelvis", "thorax"),
        ("right_shoulder", "thorax"),
        ("left_shoulder", "thorax"),
        ("thorax", "upper_neck"),
        ("upper_neck", "head_top"),
    ),
)
