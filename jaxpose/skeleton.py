"""Joint sets and the mappings between them, by joint name and never by position.

``MPII`` is the network's own order, ``LSP`` that of the Leeds Sports Pose data, ``COCO`` that of
COCO's persons, ``AUTHORS`` that of the weights which the paper's authors published. LSP's ``neck``
and MPII's ``upper_neck`` are the same joint.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError


class Skeleton(NamedTuple):
    """Joint names in channel order, with the pairs that a flip exchanges and the limbs to draw.

    Attributes:
      joints: J names, such as ``"right_ankle"``; the index is the channel.
      flip_pairs: (right, left) names that a horizontal flip of the image exchanges.
      limbs: pairs of names to connect in drawings.
    """

    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...]
    limbs: tuple[tuple[str, str], ...]


_SAME_JOINT = {"neck": "upper_neck", "upper_neck": "neck"}

_ARMS_AND_LEGS = (
    ("right_ankle", "right_knee"),
    ("right_knee", "right_hip"),
    ("left_ankle", "left_knee"),
    ("left_knee", "left_hip"),
    ("right_wrist", "right_elbow"),
    ("right_elbow", "right_shoulder"),
    ("left_wrist", "left_elbow"),
    ("left_elbow", "left_shoulder"),
)
_LOWER_TRUNK = (("right_hip", "pelvis"), ("left_hip", "pelvis"))
_SPINE = (("pelvis", "thorax"),)
_UPPER_TRUNK = (("right_shoulder", "thorax"), ("left_shoulder", "thorax"))
_THROAT = (("thorax", "upper_neck"),)
_HIPS = (("right_hip", "left_hip"),)
_SIDES = (("right_hip", "right_shoulder"), ("left_hip", "left_shoulder"))
_SHOULDERS = (("right_shoulder", "left_shoulder"),)
_FACE = (
    ("nose", "right_eye"),
    ("nose", "left_eye"),
    ("right_eye", "left_eye"),
    ("right_eye", "right_ear"),
    ("left_eye", "left_ear"),
    ("right_ear", "right_shoulder"),
    ("left_ear", "left_shoulder"),
)


def _trunk(joints: set[str], neck: str) -> tuple[tuple[str, str], ...]:
    """The trunk's limbs: along the spine if there are pelvis and thorax, otherwise the outline."""
    shoulders_to_neck = (("right_shoulder", neck), ("left_shoulder", neck))
    lower = _LOWER_TRUNK if "pelvis" in joints else _HIPS
    outline = shoulders_to_neck if neck in joints else _SHOULDERS
    upper = _UPPER_TRUNK + _THROAT if "thorax" in joints else outline
    spine = _SPINE if {"pelvis", "thorax"} <= joints else _SIDES
    return lower + spine + upper


def _refuse_doubles(joints: Sequence[str]) -> None:
    doubled = sorted({name for name in joints if list(joints).count(name) > 1})
    if doubled:
        raise JaxposeError(
            f"duplicate joint names: {', '.join(doubled)}; give each joint a unique name"
        )


def skeleton_of(joints: Sequence[str]) -> Skeleton:
    """Build the skeleton for any joint names, such as those that a network was trained on.

    Args:
      joints: names in channel order. Unknown names get no limbs; ``right_X`` and ``left_X`` form a
        flip pair for any X.

    Returns:
      The skeleton, with the flip pairs and limbs among the given joints. Without pelvis or thorax,
      the trunk is drawn along its outline.

    Raises:
      JaxposeError: a name occurs twice.
    """
    joints = tuple(joints)
    _refuse_doubles(joints)
    present = set(joints)
    neck = "neck" if "neck" in present else "upper_neck"
    limbs = (*_ARMS_AND_LEGS, *_trunk(present, neck), (neck, "head_top"), *_FACE)
    pairs = [(name, "left_" + name.removeprefix("right_")) for name in joints]
    return Skeleton(
        joints,
        tuple((a, b) for a, b in pairs if a.startswith("right_") and b in present),
        tuple((a, b) for a, b in limbs if a in present and b in present),
    )


MPII = skeleton_of(
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck "
    "head_top right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist".split()
)

LSP = skeleton_of(
    "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow "
    "right_shoulder left_shoulder left_elbow left_wrist neck head_top".split()
)

AUTHORS = skeleton_of(
    "pelvis thorax upper_neck head_top right_shoulder left_shoulder right_elbow left_elbow "
    "right_wrist left_wrist right_hip left_hip right_knee left_knee right_ankle left_ankle".split()
)


COCO = skeleton_of(
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow "
    "right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle".split()
)


def joint_index(source_joints: Sequence[str], target_joints: Sequence[str]) -> np.ndarray:
    """Return the index of each target joint among the source joints, by name.

    Args:
      source_joints: names in the source's channel order.
      target_joints: names in the desired order.

    Returns:
      int array [len(target_joints)]: index into the source, -1 if the source has no such joint.

    Raises:
      JaxposeError: a name occurs twice in one of the two arguments.

    Example:
      >>> joint_index(MPII.joints, ("neck", "left_wrist", "nose")).tolist()
      [8, 15, -1]
    """
    _refuse_doubles(source_joints)
    _refuse_doubles(target_joints)
    place = {name: index for index, name in enumerate(source_joints)}
    other_name = {_SAME_JOINT[name]: index for name, index in place.items() if name in _SAME_JOINT}
    return np.array(
        [place.get(name, other_name.get(name, -1)) for name in target_joints], dtype=np.int64
    )


def flip_permutation(
    joints: Sequence[str], flip_pairs: Sequence[Sequence[str]] | None = None
) -> np.ndarray:
    """Return the permutation of the joints under a horizontal flip.

    Args:
      joints: J names in channel order.
      flip_pairs: pairs of names to exchange; by default every ``right_X`` with its ``left_X``.

    Returns:
      int array [J]: ``keypoints[permutation]`` are the joints of the flipped person (their x
      coordinates must still be flipped). Applying it twice changes nothing.

    Raises:
      JaxposeError: a name occurs twice, one side of a pair is missing, or two pairs share a name.

    Example:
      >>> flip_permutation(("left_wrist", "head_top", "right_wrist")).tolist()
      [2, 1, 0]
    """
    _refuse_doubles(joints)
    if flip_pairs is None:
        flip_pairs = [_sides(name) for name in joints if name.startswith(("right_", "left_"))]
    place = {name: index for index, name in enumerate(joints)}
    permutation = np.arange(len(joints))
    for a, b in flip_pairs:
        for name in (a, b):
            if name not in place:
                raise JaxposeError(
                    f"flip pair ({a}, {b}) contains {name!r}, which is not one of the joints: "
                    f"{', '.join(joints)}"
                )
        for name, other in ((a, b), (b, a)):
            if permutation[place[name]] not in (place[name], place[other]):
                raise JaxposeError(
                    f"flip pair ({a}, {b}) contains {name!r}, which is in another flip pair; a "
                    "flip exchanges a joint with at most one other"
                )
        permutation[place[a]], permutation[place[b]] = place[b], place[a]
    return permutation


def _sides(name: str) -> tuple[str, str]:
    side_free = name.split("_", 1)[1]
    return f"right_{side_free}", f"left_{side_free}"
