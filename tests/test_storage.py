"""Paths on this machine and in a bucket; what can be said of the latter without a store."""

import os
import pathlib
import sys

import pytest

from jaxpose import storage
from jaxpose.errors import JaxposeError
from jaxpose.storage import absolute, open_path, replace_file, written_file


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


def test_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute(pathlib.Path("x")) == tmp_path / "x"
    epath = pytest.importorskip("etils.epath")
    assert str(absolute(epath.Path("gs://bucket/x"))) == "gs://bucket/x"
