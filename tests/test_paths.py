"""Paths as users type them: home folders, addresses, names of files and folders."""

import os
import pathlib

import pytest

from jaxpose.errors import JaxposeError
from jaxpose.paths import local_path, names_a_file, stored_path


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/x") == str(tmp_path / "x")
    assert local_path(pathlib.Path("~/x")) == str(tmp_path / "x")
    assert local_path("x/~") == "x/~"


def test_a_tilde_without_such_a_user_is_a_name():
    path = local_path("~no_such_user/x")
    assert path == os.path.abspath("~no_such_user/x")
    assert pathlib.Path(path).expanduser() == pathlib.Path(path)  # which raises for "~no_such_user"


@pytest.mark.parametrize("scheme", ["gs", "s3", "S3", "hdfs", "https", "file", "abfs+ssl"])
def test_an_address_is_refused_in_one_line(scheme):
    with pytest.raises(
        JaxposeError, match=f"^--workdir {scheme}://b/x is a URL".replace("+", r"\+")
    ) as error:
        local_path(f"{scheme}://b/x", "--workdir")
    assert "\n" not in str(error.value)


def test_where_files_may_lie_in_a_bucket_one_kind_of_address_passes():
    assert stored_path("gs://b/x", "--workdir") == "gs://b/x"
    assert stored_path("runs/demo") == "runs/demo"
    for scheme in ("s3", "GS", "hdfs", "https"):
        with pytest.raises(JaxposeError, match=f"^--workdir {scheme}://b/x is a URL") as error:
            stored_path(f"{scheme}://b/x", "--workdir")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["runs/demo", "a:b", "s3:", "x/gs://y", "C://x", "://", "a.b/c:d"])
def test_other_paths_are_left_alone(path):
    assert local_path(path) == path


def test_a_folder_that_exists_names_no_file(tmp_path):
    (tmp_path / "a.csv").mkdir()
    assert not names_a_file(tmp_path / "a.csv")
    assert names_a_file(tmp_path / "b.csv")
