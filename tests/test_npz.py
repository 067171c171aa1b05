"""Reading .npz files from anywhere: the arrays that are asked for, or one reason."""

import io

import numpy as np
import pytest

from jaxpose.npz import read_npz


def test_arrays_that_nobody_asked_for_are_not_read(tmp_path):
    np.savez(tmp_path / "file.npz", wanted=np.arange(3), pickled=np.array([{}], object))
    found = read_npz(tmp_path / "file.npz", names=("wanted", "absent"))
    assert list(found) == ["wanted"]
    np.testing.assert_array_equal(found["wanted"], [0, 1, 2])
    with pytest.raises(ValueError, match="it contains Python objects"):
        read_npz(tmp_path / "file.npz")


def test_an_npy_file_with_an_archive_behind_it_is_refused(tmp_path):
    archive = io.BytesIO()
    np.savez(archive, x=np.zeros(3))
    np.save(tmp_path / "file.npz.npy", np.zeros(3))
    file = tmp_path / "file.npz"
    file.write_bytes((tmp_path / "file.npz.npy").read_bytes() + archive.getvalue())
    with pytest.raises(ValueError, match="it is not an .npz file"):
        read_npz(file)


def test_a_file_that_is_absent_has_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_npz(tmp_path / "absent.npz")
