"""Predictions beside their truth: the .npz that evaluation writes and ``jaxpose score`` reads."""

import os
from collections.abc import Sequence

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.evaluation.labeled_predictions import (
    ARRAY_NAMES,
    LabeledPredictions,
    check_predictions,
)
from jaxpose.npz import read_npz

# In files written before 0.1.0. Remove in 1.0.
_OLD_LABELED = "labelled"  # old spelling
_AS_NPZ = (
    "write numeric arrays with numpy.savez(FILE, prediction=..., ground_truth=..., labeled=...)"
)


def write_predictions(path: str | os.PathLike, predictions: LabeledPredictions) -> None:
    """Write the file that ``read_predictions`` reads; ``path`` ends in .npz."""
    given = {field: value for field, value in predictions._asdict().items() if value is not None}
    arrays = {ARRAY_NAMES[field]: np.asarray(value) for field, value in given.items()}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def read_predictions(
    path: str | os.PathLike, *, default_joints: Sequence[str] = ()
) -> LabeledPredictions:
    """Read an .npz file of predictions; nothing in it is executed (no pickles).

    Its arrays have the names of `LabeledPredictions`' fields, but for ``joint_names`` and
    ``prediction_joint_names``. ``prediction`` and ``ground_truth`` are needed; without ``labeled``
    all joints are labeled, without ``prediction_joint_names`` they are those of the truth.

    Args:
      path: the file.
      default_joints: the truth's joints where the file names none; files that jaxpose writes name
        theirs.

    Returns:
      `LabeledPredictions`, checked by ``check_predictions``.

    Raises:
      JaxposeError: the file is missing or damaged, lacks an array, or shapes disagree.
    """
    arrays = _load(path)
    for name in ("prediction", "ground_truth"):
        if name not in arrays:
            raise JaxposeError(f"{path} has no array {name!r}; save it under that name")
    try:
        joints = _names(arrays, "joint_names", default_joints)
        truth = arrays["ground_truth"]
        return check_predictions(
            LabeledPredictions(
                prediction=arrays["prediction"],
                ground_truth=truth,
                labeled=arrays.get("labeled", np.ones(truth.shape[:2], bool)),
                joints=joints,
                prediction_joints=_names(arrays, "prediction_joint_names", joints),
                head_size=arrays.get("head_size"),
                description=str(arrays.get("description", "")),
                separated=arrays.get("separated"),
                box=arrays.get("box"),
            )
        )
    except JaxposeError as error:
        raise JaxposeError(f"{path}: {error}") from None


def _load(path) -> dict[str, np.ndarray]:
    """The arrays that are ours, of an .npz whose every fault becomes a JaxposeError."""
    try:
        arrays = read_npz(path, names=(*ARRAY_NAMES.values(), _OLD_LABELED))
    except FileNotFoundError:
        raise JaxposeError(f"no file {path}; give the .npz of predictions") from None
    except ValueError as error:
        raise JaxposeError(f"{path} cannot be read ({error}); {_AS_NPZ}") from None
    return {"labeled" if name == _OLD_LABELED else name: found for name, found in arrays.items()}


def _names(arrays, key, default) -> tuple[str, ...]:
    if key not in arrays:
        return tuple(default)
    names = arrays[key]
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise JaxposeError(f"{key} has shape {names.shape} of {names.dtype}; give a list of text")
    return tuple(n.decode() if isinstance(n, bytes) else n for n in names.tolist())
