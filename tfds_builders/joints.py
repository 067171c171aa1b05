"""Joint names, left-right pairs and limbs of the data sets, in their releases' order."""

from collections.abc import Sequence
from typing import NamedTuple


class JointSet(NamedTuple):
    """What a data set annotates.

    Attributes:
      joints: names in the release's order.
      flip_pairs: pairs of names that exchange places in a mirrored picture.
      limbs: pairs of names that a drawing joins by a line.
    """

    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...]
    limbs: tuple[tuple[str, str], ...]


def flip_pairs(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(right_X, left_X) for every X of which `names` have both."""
    parts = [name.removeprefix("right_") for name in names if name.startswith("right_")]
    return tuple((f"right_{part}", f"left_{part}") for part in parts if f"left_{part}" in names)


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
