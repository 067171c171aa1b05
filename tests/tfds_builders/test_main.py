"""`python -m tfds_builders`: a mistake is one line that says what to do; a bad file is named."""

import io
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
import tensorflow_datasets as tfds

from tfds_builders import draw_dummy_data
from tfds_builders.__main__ import REPORT, main

HERE = draw_dummy_data.HERE
BROKEN = "im0002.jpg"


@pytest.fixture
def lsp(tmp_path):
    """A copy of LSP's dummy data."""
    return shutil.copytree(HERE / "lsp" / "dummy_data", tmp_path / "release")


def run(tmp_path, *arguments):
    return main([*map(str, arguments), "--data_dir", str(tmp_path / "data")])


def fails(capsys, status, says):
    """Status 1, and one line on stderr, progress bars aside, which has these words."""
    assert status == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    for words in says:
        assert words in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lps"], ["no data set is called 'lps'; choose one of lsp, lspet, mpii"]),
        (["lsp/oc"], ["no config 'oc'; choose one of person_centric, observer_centric"]),
        (["lsp"], ["lsp needs its files; add --source PATH"]),
        (["lsp", "--source", "nowhere"], ["--source nowhere does not exist"]),
        (
            ["lsp", "--source", HERE / "lspet" / "dummy_data"],
            ["no LSP in", "(expected a folder with joints.mat and images/im0001.jpg)"],
        ),
        (
            ["mpii", "--source", HERE / "lsp" / "dummy_data"],
            ["no mpii_human_pose_v1_u12_1.mat in", "as --source"],
        ),
        (
            ["mpii", "--source", HERE / "mpii" / "dummy_data" / "mpii_human_pose_v1_u12_1.mat"],
            ["no images next to", "give their archive or folder as a further --source"],
        ),
    ],
)
def test_wrong_arguments(capsys, tmp_path, arguments, says):
    fails(capsys, run(tmp_path, *arguments), says)


@pytest.mark.parametrize("option", ["--data_dir", "--source", "--images", "--corrections"])
def test_an_address_is_refused(capsys, tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    status = main(["lsp", "--source", str(HERE / "lsp" / "dummy_data"), f"{option}=s3://b/x"])
    fails(capsys, status, [f"{option} s3://b/x is a URL, not a local path"])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--data_dir", "--data-dir"])
def test_a_tilde_is_the_home_folder(capsys, tmp_path, monkeypatch, lsp, option):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["lsp", "--source=~/release", f"{option}=~/data"]) == 0
    assert (tmp_path / "data" / "lsp").is_dir() and not (tmp_path / "~").exists()


def test_wrong_options_exit_with_status_2(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["lsp", "--sauce", "x"])
    assert exit.value.code == 2 and "--sauce" in capsys.readouterr().err


def test_names_that_cannot_be_printed_are_reported(tmp_path, monkeypatch, lsp):
    folder = tmp_path / os.fsdecode(b"J\xfcrgen")
    folder.mkdir()
    lsp.rename(folder / "release")
    (folder / "release" / "images" / BROKEN).write_bytes(b"")
    out = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", out)
    assert run(tmp_path, "lsp", "--source", tmp_path) == 0
    report = tmp_path / "data" / "lsp" / "person_centric" / "1.0.0" / REPORT
    out.flush()
    line = f"J\\udcfcrgen/release/images/{BROKEN}"
    assert line in report.read_text() and line in out.buffer.getvalue().decode("cp1252")


def test_an_archive_that_is_cut_off(capsys, tmp_path):
    whole = shutil.make_archive(tmp_path / "whole", "zip", HERE / "lsp" / "dummy_data")
    archive = tmp_path / "lsp_dataset.zip"
    archive.write_bytes(pathlib.Path(whole).read_bytes()[:-100])
    fails(capsys, run(tmp_path, "lsp", "--source", archive), ["is not an intact archive"])


def test_a_joints_file_that_is_cut_off(capsys, tmp_path, lsp):
    file = lsp / "joints.mat"
    file.write_bytes(file.read_bytes()[:300])
    fails(capsys, run(tmp_path, "lsp", "--source", lsp), ["joints.mat", "download it again"])


@pytest.mark.parametrize("archived", [False, True])
def test_from_folder_and_zip_it_says_what_it_found(capsys, tmp_path, lsp, archived):
    if archived:
        lsp = shutil.make_archive(tmp_path / "lsp_dataset", "zip", lsp.parent, lsp.name)
    assert run(tmp_path, "lsp", "--source", lsp) == 0
    shown = capsys.readouterr().out
    assert "train: 2 persons in 2 images, 28 of 28 joints labeled (100.0 %)" in shown
    folder = tmp_path / "data" / "lsp" / "person_centric" / "1.0.0"
    assert f"is prepared in {folder}" in shown
    assert len(tfds.builder_from_directory(folder).as_data_source("test")) == 1


@pytest.mark.parametrize(
    ("module", "named"),
    [
        ("tensorflow_datasets", "tensorflow_datasets"),
        ("PIL", "pillow (imported as PIL)"),
        ("cv2", "opencv-python-headless (imported as cv2)"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(module, named):
    code = f"import sys; sys.modules[{module!r}] = None; from tfds_builders.__main__ import main; "
    command = [sys.executable, "-c", code + "sys.exit(main(['lsp']))"]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    advice = f"error: {named} is not installed; install the extra train: pip install '.[train]'\n"
    assert (done.returncode, done.stderr) == (1, advice)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 no more", None])
def test_an_image_that_cannot_be_read_is_named_and_counted(capsys, tmp_path, lsp, content):
    image = lsp / "images" / BROKEN
    image.write_bytes(image.read_bytes()[:-400] if content is None else content)
    assert run(tmp_path, "lsp", "--source", lsp) == 0
    shown = capsys.readouterr().out
    assert f"1 file unreadable: images/{BROKEN} (" in shown
    assert "train: 1 persons in 1 images" in shown
    report = tmp_path / "data" / "lsp" / "person_centric" / "1.0.0" / REPORT
    assert BROKEN in report.read_text()


def test_with_strict_it_ends_the_build_and_nothing_is_prepared(capsys, tmp_path):
    release = shutil.copytree(HERE / "mpii" / "dummy_data", tmp_path / "release")
    assert run(tmp_path, "mpii", "--source", release, "--strict") == 0
    broken = release / "images" / "200000001.jpg"
    broken.write_bytes(broken.read_bytes()[:-400])
    status = run(tmp_path, "mpii/crops", "--source", release, "--strict")
    fails(capsys, status, ["images/200000001.jpg cannot be read", "build without --strict"])
    assert not (tmp_path / "data" / "mpii" / "crops" / "1.0.0").exists()


def test_a_damaged_member_of_a_zip_is_named(capsys, tmp_path, lsp):
    archive = tmp_path / "lsp_dataset.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(lsp.rglob("*")):
            packed.write(path, path.relative_to(lsp))
        place = packed.getinfo(f"images/{BROKEN}").header_offset
    data = bytearray(archive.read_bytes())
    data[place + 200] ^= 0xFF
    archive.write_bytes(data)
    assert run(tmp_path, "lsp", "--source", archive) == 0
    assert f"1 file unreadable: images/{BROKEN} (Bad CRC-32" in capsys.readouterr().out


def test_what_is_prepared_stays_until_it_is_overwritten(capsys, tmp_path, lsp):
    for _ in range(2):
        assert run(tmp_path, "lsp", "--source", lsp) == 0
    assert "add --overwrite to rebuild it" in capsys.readouterr().out
    (lsp / "images" / BROKEN).unlink()
    assert run(tmp_path, "lsp", "--source", lsp, "--overwrite") == 0
    shown = capsys.readouterr().out
    assert "train: 1 persons" in shown and BROKEN in shown


def test_an_overwrite_that_fails_leaves_what_was_there(capsys, tmp_path, lsp):
    assert run(tmp_path, "lsp", "--source", lsp) == 0
    (lsp / "joints.mat").write_bytes(b"")
    fails(capsys, run(tmp_path, "lsp", "--source", lsp, "--overwrite"), ["joints.mat"])
    folder = tmp_path / "data" / "lsp" / "person_centric" / "1.0.0"
    assert len(tfds.builder_from_directory(folder).as_data_source("train")) == 2
