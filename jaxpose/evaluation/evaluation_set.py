"""`EvaluationSet`: the truth of a split, and how a network's joints map to it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose.data import prepared


class EvaluationSet(NamedTuple):
    """What a network's predictions for N persons are compared with.

    Attributes:
      joints: the network's joint names, in channel order.
      trained_joints: those of them that had a label in training; the others are not scored.
      truth_joints: names of the truth's J joints.
      truth: `prepared.annotations` of the N persons, in pixels of the stored images.
      flip_pairs: pairs of the truth's joints that a mirror exchanges.
      sigmas: of OKS, one for each of the truth's joints; () where they are not known.
      ignored: persons of the same images that are no examples, as `PreparedSplit` has them.
      score: name of the score that is wanted in any case; "" for none.
      pck_unit: of PCK, as `any_joints.available_unit` has it.
    """

    joints: tuple[str, ...]
    trained_joints: tuple[str, ...]
    truth_joints: tuple[str, ...]
    truth: Mapping[str, np.ndarray]
    flip_pairs: tuple[tuple[str, str], ...] = ()
    sigmas: tuple[float, ...] = ()
    ignored: tuple[Mapping[str, Any], ...] = ()
    score: str = ""
    pck_unit: str = "auto"


def evaluation_set_of(
    split: prepared.PreparedSplit,
    joints: Sequence[str],
    trained_joints: Sequence[str] | None = None,
    *,
    score: str = "",
    pck_unit: str = "auto",
) -> EvaluationSet:
    """Read the annotations of a prepared split.

    Args:
      split: from `prepared.open_split`.
      joints: the network's joint names, in channel order.
      trained_joints: those of them to score; all by default.
      score: name of the score that is wanted in any case; "" for none.
      pck_unit: of PCK, as `any_joints.available_unit` has it.

    Raises:
      JaxposeError: the split's files are missing or corrupt.
    """
    return EvaluationSet(
        joints=tuple(joints),
        trained_joints=tuple(joints if trained_joints is None else trained_joints),
        truth_joints=tuple(split.joints),
        truth=prepared.annotations(split),
        flip_pairs=split.flip_pairs,
        sigmas=split.sigmas,
        ignored=split.ignored,
        score=score,
        pck_unit=pck_unit,
    )
