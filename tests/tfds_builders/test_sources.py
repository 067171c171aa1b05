"""Folders, zips and tars are read alike, member by member, and nothing is ever written."""

import io
import pathlib
import tarfile
import zipfile

import pytest

from tfds_builders import sources
from tfds_builders.errors import BuildError

FILES = {"release/joints.mat": b"joints", "release/images/im0001.jpg": b"image" * 100}


def as_folder(path):
    for name, data in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def as_zip(path, files=FILES):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def as_tar(path, files=FILES):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(params=["folder", "lsp.zip", "lsp.tar", "lsp.tar.gz"])
def source(request, tmp_path):
    write = {"folder": as_folder, "lsp.zip": as_zip}.get(request.param, as_tar)
    return write(tmp_path / request.param)


def test_every_kind_gives_the_same_bytes_by_the_same_names(source):
    (files,) = sources.open_sources([str(source)], "lsp")
    assert {name: files.read(name) for name in files.names} == FILES


def test_archives_in_a_folder_are_opened_by_their_name(tmp_path):
    as_zip(tmp_path / "lsp_dataset.zip")
    as_zip(tmp_path / "other.zip")
    folder, archive = sources.open_sources([str(tmp_path)], "lsp")
    assert folder.names == ["lsp_dataset.zip", "other.zip"]
    assert archive.path.name == "lsp_dataset.zip"


def test_a_single_file_is_a_folder_of_one(tmp_path):
    as_folder(tmp_path)
    (files,) = sources.open_sources([str(tmp_path / "release/joints.mat")], "lsp")
    assert files.names == ["joints.mat"] and files.read("joints.mat") == b"joints"


def test_a_path_that_does_not_exist():
    with pytest.raises(BuildError, match="nowhere does not exist"):
        sources.open_sources(["nowhere"], "lsp")


@pytest.mark.parametrize("name", ["lsp.zip", "lsp.tar", "lsp.tar.gz"])
def test_an_archive_that_is_none(tmp_path, name):
    (tmp_path / name).write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(BuildError, match="not an intact archive"):
        sources.open_sources([str(tmp_path / name)], "lsp")


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_zip(tmp_path, keep):
    data = as_zip(tmp_path / "whole.zip").read_bytes()
    (tmp_path / "lsp.zip").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(BuildError, match="not an intact archive"):
        sources.open_sources([str(tmp_path / "lsp.zip")], "lsp")


def test_a_member_whose_bytes_changed(tmp_path):
    data = as_zip(tmp_path / "lsp.zip").read_bytes()
    place = data.index(b"im0001.jpg") + 14
    (tmp_path / "lsp.zip").write_bytes(data[:place] + b"\xff\xff" + data[place + 2 :])
    (files,) = sources.open_sources([str(tmp_path / "lsp.zip")], "lsp")
    with pytest.raises(sources.ReadError):
        files.read("release/images/im0001.jpg")


@pytest.mark.parametrize("write", [as_zip, as_tar])
def test_names_that_lead_out_of_the_archive_write_nothing(tmp_path, write):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    suffix = "zip" if write is as_zip else "tar"
    path = write(inner / f"lsp.{suffix}", {"../../evil.txt": b"evil", "/evil.txt": b"evil"})
    before = set(tmp_path.rglob("*"))
    (files,) = sources.open_sources([str(path)], "lsp")
    for name in files.names:
        files.read(name)
    assert set(tmp_path.rglob("*")) == before
    assert not pathlib.Path("/evil.txt").exists()


def test_links_in_a_tar_are_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    with tarfile.open(tmp_path / "lsp.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            member = tarfile.TarInfo("joints.mat")
            member.type, member.linkname = kind, str(tmp_path / "secret")
            archive.addfile(member)
    (files,) = sources.open_sources([str(tmp_path / "lsp.tar")], "lsp")
    assert files.names == []


def test_a_member_too_large_to_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_BYTES", 10)
    for path in (as_zip(tmp_path / "lsp.zip"), as_tar(tmp_path / "lsp.tar"), as_folder(tmp_path)):
        files = sources.open_sources([str(path)], "lsp")[0]
        with pytest.raises(sources.ReadError, match="larger than 10 bytes"):
            files.read("release/images/im0001.jpg")


def test_a_folder_of_far_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILES", 1)
    with pytest.raises(BuildError, match="more than 1 files"):
        sources.open_sources([str(as_folder(tmp_path))], "lsp")
