"""Paths on this machine and in a bucket; what can be said of the latter without a store."""

import os
import pathlib
import sys

import numpy as np
import pytest

from jaxpose import export, storage
from jaxpose.checkpoints import packed
from jaxpose.errors import JaxposeError
from jaxpose.predict import Prediction
from jaxpose.predict.images import save_image
from jaxpose.storage import absolute, open_path, replace_file, temporary_path, written_file


def test_a_local_path_needs_no_library(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_path("~/x") == tmp_path / "x"
    assert open_path(tmp_path) == tmp_path and open_path("x") == pathlib.Path("x")


def test_an_address_without_its_library_names_the_extra(monkeypatch):
    storage.use_gcsfs.cache_clear()
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(
        JaxposeError, match=r"gcsfs is not installed; install the extra jaxpose\[cloud\]"
    ):
        open_path("gs://bucket/x", "workdir")


def test_other_addresses_are_refused_with_the_reason():
    with pytest.raises(JaxposeError, match="^workdir s3://b/x is a URL, .* Orbax and array_r"):
        open_path("s3://b/x", "workdir")


def test_a_file_is_replaced_in_one_move(tmp_path):
    file = tmp_path / "a.npz"
    replace_file(file, b"old")
    with pytest.raises(ZeroDivisionError), written_file(file) as local:
        local.write_bytes(b"half")
        assert local.suffix == ".npz" and file.read_bytes() == b"old"
        raise ZeroDivisionError
    assert file.read_bytes() == b"old"
    replace_file(file, b"new")
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_move_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    """Until the move the old file is intact; a failure leaves it, and nothing beside it."""
    file = tmp_path / "evaluation.json"
    replace_file(file, "ä\n")
    assert file.read_bytes() == b"\xc3\xa4\n"
    replace = os.replace

    def failing(source, target):
        assert file.read_bytes() == b"\xc3\xa4\n" and pathlib.Path(source).read_bytes() == b"new"
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        replace_file(file, b"new")
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [(file.name, b"\xc3\xa4\n")]
    monkeypatch.setattr(os, "replace", replace)
    replace_file(file, b"new")
    assert file.read_bytes() == b"new"


@pytest.mark.parametrize("name", ["none/a.json", "folder", "file/a.json"])
def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path, name):
    """A folder that is missing, a file in the place of a folder, and the other way round."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as caught:
        replace_file(tmp_path / name, b"new")
    assert caught.value.filename == str(tmp_path / name) and caught.value.filename2 is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_errors_about_other_files_keep_their_names(tmp_path):
    with pytest.raises(OSError) as caught, written_file(tmp_path / "a.json") as local:
        local.write_bytes((tmp_path / "absent").read_bytes())
    assert caught.value.filename == str(tmp_path / "absent")


def a_prediction():
    one = np.zeros((1, 1))
    image = np.zeros((8, 8, 3), np.uint8)
    return Prediction(np.zeros((1, 1, 2)), one, np.ones((1, 4)), ("a",), one, one[0], (), image)


def export_to(path):
    return export.export_network("small", path)


WRITERS = {
    "small.npz": lambda path: packed.pack_record({"params": {}}, {}, path),
    "drawn.png": lambda path: save_image(np.zeros((8, 8, 3), np.uint8), path),
    "saved.png": lambda path: a_prediction().save(path),
    "saved.json": lambda path: a_prediction().save(path),
    "pose.jax": export_to,
    "pose.jax.json": lambda path: export_to(path.with_suffix("")),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_names_its_file_in_one_line(tmp_path, monkeypatch, name):
    """The name of the temporary file is taken by a folder."""
    temporary_path(tmp_path / name).mkdir()
    answer = (np.zeros((2, 16, 2)), np.zeros((2, 16)))
    monkeypatch.setattr(export, "crop_program", lambda *_: lambda crops: answer)
    monkeypatch.setitem(export.FORMATS, "jax", (lambda *_: b"", lambda data: lambda crops: answer))
    with pytest.raises(JaxposeError) as caught:
        WRITERS[name](tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name} cannot be written (Is a directory)"
    assert not (tmp_path / name).exists()


def test_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute(pathlib.Path("x")) == tmp_path / "x"
    epath = pytest.importorskip("etils.epath")
    assert str(absolute(epath.Path("gs://bucket/x"))) == "gs://bucket/x"
