"""``LabeledPredictions``: predictions with their ground truth, and their file format.

The file is the .npz that evaluation writes and ``jaxpose score`` reads.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.npz import read_npz

# In files written before 0.1.0. Remove in 1.0.
_OLD_LABELED = "labelled"  # old spelling
_AS_NPZ = (
    "write numeric arrays with numpy.savez(FILE, prediction=..., ground_truth=..., labeled=...)"
)


class LabeledPredictions(NamedTuple):
    """Predictions and ground truth of N persons.

    Attributes:
      prediction: [N, P, 2] positions (x, y) in pixels of the release's image.
      ground_truth: [N, J, 2] in the same pixels.
      labeled: bool [N, J].
      joints: J names of the truth.
      prediction_joints: P names of the prediction.
      head_size: [N] pixels, or None; PCKh needs it.
      description: text for the table's title, such as the crop rule.
      separated: bool [N], whether the person is in MPII's single-person subset ("sufficiently
        separated"), or None.
      box: [N, 4] (x, y, width, height) in the same pixels, or None; PCK in units of the box's
        diagonal needs it.
    """

    prediction: np.ndarray
    ground_truth: np.ndarray
    labeled: np.ndarray
    joints: tuple[str, ...]
    prediction_joints: tuple[str, ...]
    head_size: np.ndarray | None = None
    description: str = ""
    separated: np.ndarray | None = None
    box: np.ndarray | None = None


_OF_PERSONS = ("prediction", "ground_truth", "labeled", "head_size", "separated", "box")
_JOINT_NAMES = {"joints": "joint_names", "prediction_joints": "prediction_joint_names"}

ARRAY_NAMES = {field: _JOINT_NAMES.get(field, field) for field in LabeledPredictions._fields}
"""The fields' names in prediction files and error messages."""


def check_predictions(predictions: LabeledPredictions) -> LabeledPredictions:
    """Check shapes and values, and convert positions to float64 and labels to bool.

    Raises:
      JaxposeError: an array has a wrong shape or wrong values; the message names it.
    """
    prediction, truth, labeled, joints, prediction_joints, head_size, _, separated, box = (
        predictions
    )
    persons = len(truth) if np.ndim(truth) else 0
    truth = _array(truth, "ground_truth", persons, joints, points=True)
    prediction = _array(prediction, "prediction", persons, prediction_joints, points=True)
    labeled = _array(labeled, "labeled", persons, joints)
    labeled = _bool(labeled, "labeled")
    bad = np.argwhere(labeled & ~np.isfinite(truth).all(axis=-1))
    if len(bad):
        person, joint = bad[0]
        raise JaxposeError(
            f"ground_truth of person {person}, joint {joints[joint]}, is labeled but not finite; "
            "set 'labeled' to False for it"
        )
    if head_size is not None:
        head_size = _array(head_size, "head_size", persons)
    if separated is not None:
        separated = _bool(_array(separated, "separated", persons), "separated")
    if box is not None:
        box = np.asarray(box)
        if box.shape != (persons, 4) or box.dtype.kind not in "biuf":
            raise JaxposeError(
                f"box has shape {box.shape} and dtype {box.dtype}; give numbers [persons, 4]"
            )
        box = box.astype(np.float64)
    return predictions._replace(
        prediction=prediction,
        ground_truth=truth,
        labeled=labeled,
        head_size=head_size,
        separated=separated,
        box=box,
    )


def select_persons(
    predictions: LabeledPredictions, index: np.ndarray | slice
) -> LabeledPredictions:
    """Select some of the N persons.

    Args:
      predictions: predictions and ground truth of N persons.
      index: index of the axis N, such as a bool [N] or a slice.
    """
    arrays = {name: getattr(predictions, name) for name in _OF_PERSONS}
    return predictions._replace(
        **{name: array[index] for name, array in arrays.items() if array is not None}
    )


def _bool(array: np.ndarray, name: str) -> np.ndarray:
    if not np.isin(array, (0, 1)).all():
        raise JaxposeError(f"{name} has values other than 0 and 1; convert it to bool")
    return array.astype(bool)


def _array(array, name, persons, joints=None, *, points=False) -> np.ndarray:
    """Check the shape [persons], [persons, joints] or [persons, joints, 2]; return float64."""
    array = np.asarray(array)
    axes = ["persons"] + ["joints"] * (joints is not None) + ["2"] * points
    shape = f"{name} has shape {array.shape}"
    if array.ndim != len(axes) or (points and array.shape[2] != 2):
        raise JaxposeError(f"{shape}; give [{', '.join(axes)}]")
    if len(array) != persons:
        raise JaxposeError(f"{shape}, but ground_truth has {persons} persons; give the same number")
    if joints is not None and (array.shape[1] != len(joints) or not joints):
        key = ARRAY_NAMES["prediction_joints" if name == "prediction" else "joints"]
        raise JaxposeError(
            f"{shape}, but there are {len(joints)} joint names; give one name per joint in {key}"
        )
    if array.dtype.kind not in "biuf":
        raise JaxposeError(f"{name} has dtype {array.dtype}; give numbers")
    return array.astype(np.float64)


def write_predictions(path: str | os.PathLike, predictions: LabeledPredictions) -> None:
    """Write predictions to an .npz file, for ``read_predictions``."""
    given = {field: value for field, value in predictions._asdict().items() if value is not None}
    arrays = {ARRAY_NAMES[field]: np.asarray(value) for field, value in given.items()}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def read_predictions(
    path: str | os.PathLike, *, default_joints: Sequence[str] = ()
) -> LabeledPredictions:
    """Read an .npz file of predictions; pickled objects are not loaded.

    The arrays are named like the fields of ``LabeledPredictions``, except for ``joint_names`` and
    ``prediction_joint_names``. ``prediction`` and ``ground_truth`` are required. Without
    ``labeled``, all joints are labeled; without ``prediction_joint_names``, the predictions have
    the joints of the truth.

    Args:
      path: path of the file.
      default_joints: joints of the truth if the file does not contain ``joint_names``; files
        written by jaxpose always do.

    Returns:
      The predictions, checked by ``check_predictions``.

    Raises:
      JaxposeError: the file is missing or corrupt, lacks an array, or shapes do not match.
    """
    arrays = _load(path)
    for name in ("prediction", "ground_truth"):
        if name not in arrays:
            raise JaxposeError(f"{path} has no array {name!r}; add it to the file")
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
    """Load the known arrays of an .npz file; any error is raised as a JaxposeError."""
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
        raise JaxposeError(
            f"{key} has shape {names.shape} and dtype {names.dtype}; give a list of strings"
        )
    return tuple(n.decode() if isinstance(n, bytes) else n for n in names.tolist())
