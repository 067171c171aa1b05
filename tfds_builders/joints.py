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
    ``ear-left``, ``LeftEar``, ``leftear``, ``l_ear``, ``LEar``. If a name has several sides, all of
    them are exchanged: ``right_eye_left_corner`` and ``left_eye_right_corner`` are a pair, in this
    order, because the first side decides.
    """
    by_words = {_words(name): name for name in names}
    pairs = []
    for words, name in by_words.items():
        sides = [word for word in words if word in _OTHER_SIDE]
        mirrored = tuple(_OTHER_SIDE.get(word, word) for word in words)
        if sides and sides[0] in ("right", "r") and mirrored in by_words:
            pairs.append((name, by_words[mirrored]))
    # Names such as "righteye" and "RIGHTEye", which capitals do not split at the side.
    by_text = _by_text(names, pairs)
    for text, name in by_text.items():
        sides = re.findall("right|left", text)
        mirrored_text = re.sub("right|left", lambda side: _OTHER_SIDE[side[0]], text)
        if sides and sides[0] == "right" and mirrored_text in by_text:
            pairs.append((name, by_text[mirrored_text]))
    return tuple(pairs)


def unpaired_sides(names: Sequence[str], pairs: Sequence[Sequence[str]]) -> list[str]:
    """Return the names that are in no flip pair although they seem to have a side.

    They have one of the sides of ``flip_pairs``, or another name differs from them only by ``l``
    instead of ``r``: ``LKNEE`` and ``RKNEE``, ``lf_paw`` and ``rf_paw``.

    Args:
      names: all names.
      pairs: pairs of these names.
    """

    def has_side(name: str) -> bool:
        words = _words(name)
        return any(word in _OTHER_SIDE or word.startswith(("left", "right")) for word in words)

    def exchanged(text: str) -> set[str]:
        letters = [(place, letter) for place, letter in enumerate(text) if letter in "lr"]
        return {text[:place] + _OTHER_SIDE[letter] + text[place + 1 :] for place, letter in letters}

    by_text = _by_text(names, pairs)
    return [
        name for text, name in by_text.items() if has_side(name) or exchanged(text) & by_text.keys()
    ]


_OTHER_SIDE = {"right": "left", "left": "right", "r": "l", "l": "r"}
_WORD = re.compile(
    r"[LR](?=[A-Z][^\W\d_A-Z])"  # the side of "RShoulder"
    r"|[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+"
)


def _words(name: str) -> tuple[str, ...]:
    """Split a name at capitals and non-letters into its words, in lower case."""
    return tuple(word.lower() for word in _WORD.findall(name))


def _by_text(names: Sequence[str], pairs: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the names that are in no pair, by their text in lower case."""
    paired = {name for pair in pairs for name in pair}
    return {name.casefold(): name for name in names if name not in paired}


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
