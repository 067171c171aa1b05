"""Predictions beside their truth, and their .npz: what is written is read, a fault is one line."""

import io
import zipfile

import numpy as np
import pytest
import scipy.io

from jaxpose.errors import JaxposeError
from jaxpose.evaluation.labeled_predictions import (
    LabeledPredictions,
    read_predictions,
    select_persons,
    write_predictions,
)
from jaxpose.skeleton import LSP, MPII

LSP_ARRAYS = {
    "prediction": np.zeros((3, 14, 2), np.float32),
    "ground_truth": np.zeros((3, 14, 2), np.int16),
}


def saved(tmp_path, **arrays):
    path = tmp_path / "file.npz"
    np.savez(path, **{name: a for name, a in (LSP_ARRAYS | arrays).items() if a is not None})
    return path


def read(path):
    return read_predictions(path, default_joints=LSP.joints)


def test_what_is_written_is_read(tmp_path):
    rng = np.random.default_rng(0)
    written = LabeledPredictions(
        prediction=rng.normal(size=(5, 14, 2)),
        ground_truth=rng.normal(size=(5, 16, 2)),
        labeled=rng.random((5, 16)) < 0.5,
        joints=MPII.joints,
        prediction_joints=LSP.joints,
        head_size=rng.random(5),
        description="whole image",
        separated=np.array([True, False, True, True, False]),
    )
    write_predictions(tmp_path / "a.npz", written)
    for ours, theirs in zip(read(tmp_path / "a.npz"), written, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_file_without_head_sizes_or_separated_persons_has_none(tmp_path):
    write_predictions(tmp_path / "a.npz", read(saved(tmp_path)))
    found = read(tmp_path / "a.npz")
    assert found.head_size is None and found.separated is None


def test_labels_and_names_have_defaults(tmp_path):
    predictions = read(saved(tmp_path))
    assert predictions.labeled.all()
    assert predictions.joints == predictions.prediction_joints == LSP.joints


def test_files_with_the_labels_under_their_old_name_are_read(tmp_path):
    flags = np.arange(3 * 14).reshape(3, 14) % 2 == 0
    path = saved(tmp_path)
    np.savez(path, **LSP_ARRAYS, **{"labelled": flags})  # old spelling
    np.testing.assert_array_equal(read(path).labeled, flags)
    write_predictions(path, read(path))
    with np.load(path) as written:
        assert "labeled" in written.files


def test_labels_may_be_numbers_and_names_bytes(tmp_path):
    labeled = np.ones((3, 14), np.uint8)
    labeled[0, 0] = 0
    names = np.array(LSP.joints, "S20")
    predictions = read(saved(tmp_path, labeled=labeled, joint_names=names))
    assert predictions.labeled.sum() == 3 * 14 - 1 and predictions.joints == LSP.joints


WRONG = {
    "no prediction": (dict(prediction=None), "no array 'prediction'"),
    "no truth": (dict(ground_truth=None), "no array 'ground_truth'"),
    "other persons": (
        dict(prediction=np.zeros((4, 14, 2))),
        r"prediction.*\(4, 14, 2\).*3 persons",
    ),
    "several blocks": (dict(prediction=np.zeros((2, 3, 14, 2))), r"give \[persons, joints, 2\]"),
    "3-D positions": (dict(ground_truth=np.zeros((3, 14, 3))), r"give \[persons, joints, 2\]"),
    "unnamed joints": (
        dict(prediction=np.zeros((3, 16, 2))),
        "one name per joint in prediction_joint_names",
    ),
    "too few names": (dict(joint_names=np.array(["neck"])), "there are 1 joint names.*joint_names"),
    "no names": (
        dict(
            joint_names=np.zeros(0, "U9"),
            **dict.fromkeys(("prediction", "ground_truth"), np.zeros((3, 0, 2))),
        ),
        "0 joint names",
    ),
    "names in a table": (dict(joint_names=np.array([["neck"]])), "list of strings"),
    "names as numbers": (dict(joint_names=np.arange(14)), "list of strings"),
    "objects": (dict(head_size=np.array([None, 1, 2])), "cannot be read"),
    "text": (dict(prediction=np.full((3, 14, 2), "1")), "has dtype <U1"),
    "complex": (dict(prediction=np.zeros((3, 14, 2), complex)), "has dtype complex128"),
    "labels in one row": (dict(labeled=np.ones(14)), r"labeled.*\[persons, joints\]"),
    "labels above 1": (dict(labeled=np.full((3, 14), 2)), "other than 0 and 1"),
    "labels NaN": (dict(labeled=np.full((3, 14), np.nan)), "other than 0 and 1"),
    "head sizes": (dict(head_size=np.ones((3, 1))), r"head_size.*\[persons\]"),
    "separated in a table": (dict(separated=np.ones((3, 1))), r"separated.*\[persons\]"),
    "separated above 1": (dict(separated=np.full(3, 2)), "separated has values other than 0 and 1"),
    "a single number": (dict(ground_truth=np.float64(1)), "ground_truth has shape"),
    "truth NaN": (
        dict(ground_truth=np.where(np.arange(14)[:, None] == 12, np.nan, np.zeros((3, 14, 2)))),
        "person 0, joint neck",
    ),
}


@pytest.mark.parametrize("arrays, message", WRONG.values(), ids=WRONG)
def test_an_array_that_does_not_fit_is_named(tmp_path, arrays, message):
    path = saved(tmp_path, **arrays)
    with pytest.raises(JaxposeError, match=message) as error:
        read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_files_and_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(JaxposeError, match="no file"):
        read(tmp_path / "absent.npz")
    with pytest.raises(JaxposeError, match="cannot be read"):
        read(tmp_path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "keypoints.json").write_text('{"annotations": []}')
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": np.zeros(3)})
    for name in ("one.npy", "keypoints.json", "joints.mat"):
        with pytest.raises(JaxposeError, match="it is not an .npz file.*numpy.savez") as caught:
            read(tmp_path / name)
        assert "pickle" not in str(caught.value) and "\n" not in str(caught.value)


def test_the_files_that_jaxpose_writes_name_their_joints(tmp_path):
    points, joints = np.zeros((3, 2, 2)), ("tail", "ear")
    file = tmp_path / "written.npz"
    write_predictions(
        file, LabeledPredictions(points, points, np.ones((3, 2), bool), joints, joints)
    )
    assert read_predictions(file).joints == joints


def test_pickles_are_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was executed",))

    np.savez(tmp_path / "bomb.npz", **LSP_ARRAYS, labeled=np.array([Bomb()], object))
    with pytest.raises(JaxposeError, match="cannot be read .it contains Python objects") as caught:
        read(tmp_path / "bomb.npz")
    assert "allow_pickle" not in str(caught.value)  # NumPy's advice
    (tmp_path / "pickle.npz").write_bytes(b"\x80\x04.")
    with pytest.raises(JaxposeError, match="cannot be read"):
        read(tmp_path / "pickle.npz")


def test_an_array_larger_than_memory_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 44, 14, 2)}
    )
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("prediction.npy", header.getvalue())
    with pytest.raises(JaxposeError, match="cannot be read"):
        read(tmp_path / "huge.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_files_are_read_or_refused_and_never_crash(tmp_path, save):
    path = tmp_path / "file.npz"
    save(path, **LSP_ARRAYS, joint_names=np.array(LSP.joints))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(300):
        data = bytearray(whole)
        if trial % 3 == 0:
            data = data[: rng.integers(len(data))]
        else:
            for place in rng.integers(len(data), size=rng.integers(1, 4)):
                data[place] = rng.integers(256)
        path.write_bytes(bytes(data))
        try:
            read(path)
        except JaxposeError:
            refused += 1
    assert refused > 150


def test_persons_are_selected_from_every_array():
    rng = np.random.default_rng(0)
    whole = LabeledPredictions(
        prediction=rng.random((3, 1, 2)),
        ground_truth=rng.random((3, 2, 2)),
        labeled=rng.random((3, 2)) < 0.5,
        joints=("nose", "tail"),
        prediction_joints=("tail",),
        head_size=rng.random(3),
        box=rng.random((3, 4)),
    )
    some = select_persons(whole, np.array([True, False, True]))
    for name in ("prediction", "ground_truth", "labeled", "head_size", "box"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[[0, 2]])
    assert some.separated is None and some.joints == whole.joints
