"""`python -m tfds_builders`: what it says, what it refuses, and what it leaves on the disk."""

import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import pytest
import tensorflow_datasets as tfds

import tfds_builders
from tfds_builders import __main__ as command
from tfds_builders import draw_dummy_data, image_files
from tfds_builders.lsp import lsp_dataset_builder

ROOT = pathlib.Path(__file__).resolve().parents[2]
DRAW = {
    "lsp": draw_dummy_data.draw_lsp,
    "lspet": draw_dummy_data.draw_lspet,
    "mpii": draw_dummy_data.draw_mpii,
}
DEFAULT = {"lsp": "lsp/person_centric", "lspet": "lspet", "mpii": "mpii/full"}
PERSONS = {"lsp": 4, "lspet": 3, "mpii": 5}


def release(tmp_path, name, form="folder"):
    folder = tmp_path / "release"
    DRAW[name](folder)
    if form == "folder":
        return folder
    kind = form.removeprefix("holding ")
    path = shutil.make_archive(str(tmp_path / f"archives/{name}_dataset"), kind, folder)
    return pathlib.Path(path).parent if form.startswith("holding") else pathlib.Path(path)


def run(*arguments):
    return command.main([str(argument) for argument in arguments])


def prepared(data_dir, name):
    builder = tfds.builder_from_directory(data_dir / name / "1.0.0")
    return {split: list(builder.as_data_source(split)) for split in builder.info.splits}


@pytest.mark.parametrize("form", ["folder", "zip", "tar", "gztar", "holding zip"])
@pytest.mark.parametrize("name", DRAW)
def test_builds_from_whatever_holds_the_release(tmp_path, capsys, name, form):
    assert run(name, "--source", release(tmp_path, name, form), "--data_dir", tmp_path) == 0
    examples = sum(prepared(tmp_path, DEFAULT[name]).values(), [])
    assert len(examples) == PERSONS[name]
    assert "train: 2 persons" in capsys.readouterr().out


def test_says_what_it_found_and_keeps_every_name(tmp_path, capsys):
    run("lspet", "--source", release(tmp_path, "lspet"), "--data_dir", tmp_path)
    out = capsys.readouterr().out
    assert "27 of 28 joints labeled" in out
    assert "17 files missing: im00003.jpg, im00004.jpg" in out
    assert "im00019.jpg" in (tmp_path / "lspet/1.0.0" / command.REPORT).read_text()


def test_draws_its_progress_bar_on_the_error_stream(tmp_path, capsys):
    run("lspet", "--source", release(tmp_path, "lspet"), "--data_dir", tmp_path)
    assert "2/2" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [b"", b"no image", None])
def test_an_unreadable_image_is_named_and_the_build_goes_on(tmp_path, damage):
    source = release(tmp_path, "lsp")
    image = source / "images/im0002.jpg"
    image.write_bytes(image.read_bytes()[:600] if damage is None else damage)
    assert run("lsp", "--source", source, "--data_dir", tmp_path) == 0
    assert len(prepared(tmp_path, "lsp/person_centric")["train"]) == 1
    report = (tmp_path / "lsp/person_centric/1.0.0" / command.REPORT).read_text()
    assert "1 file unreadable: images/im0002.jpg (" in report


def test_strict_ends_at_an_unreadable_image(tmp_path, capsys):
    source = release(tmp_path, "mpii")
    (source / "images/100000001.jpg").write_bytes(b"no image")
    assert run("mpii", "--strict", "--source", source, "--data_dir", tmp_path) == 1
    error = capsys.readouterr().err
    assert "error: images/100000001.jpg cannot be read (not an image)" in error
    assert not list((tmp_path / "mpii").rglob("dataset_info.json"))


@pytest.mark.parametrize("name", DRAW)
def test_a_missing_image_is_named_and_strict_ends_there(tmp_path, capsys, name):
    source = release(tmp_path, name)
    gone = {"lsp": "im0002.jpg", "lspet": "im00002.jpg", "mpii": "200000001.jpg"}[name]
    (source / "images" / gone).unlink()
    assert run(name, "--source", source, "--data_dir", tmp_path) == 0
    assert gone in (tmp_path / DEFAULT[name] / "1.0.0" / command.REPORT).read_text()
    assert run(name, "--strict", "--overwrite", "--source", source, "--data_dir", tmp_path) == 1
    assert "is not among the images" in capsys.readouterr().err


def test_a_prepared_data_set_is_left_alone(tmp_path, capsys):
    source = release(tmp_path, "lsp")
    run("lsp", "--source", source, "--data_dir", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run("lsp", "--source", source, "--data_dir", tmp_path) == 0
    assert "already prepared" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_overwrite_builds_again(tmp_path):
    source = release(tmp_path, "lsp")
    run("lsp", "--source", source, "--data_dir", tmp_path)
    (source / "images/im0002.jpg").unlink()
    assert run("lsp", "--overwrite", "--source", source, "--data_dir", tmp_path) == 0
    assert len(prepared(tmp_path, "lsp/person_centric")["train"]) == 1
    assert [path.name for path in (tmp_path / "lsp/person_centric").iterdir()] == ["1.0.0"]


@pytest.mark.parametrize("error", [OSError("disk gone"), KeyboardInterrupt(), ValueError("a bug")])
def test_a_build_that_ends_early_leaves_what_was_there(tmp_path, monkeypatch, error):
    source = release(tmp_path, "lsp")
    arguments = ("lsp", "--overwrite", "--source", source, "--data_dir", tmp_path)
    run(*arguments)

    def fail(data):
        raise error

    monkeypatch.setattr(image_files, "prepare", fail)
    if isinstance(error, ValueError):
        with pytest.raises(ValueError):
            run(*arguments)
    else:
        assert run(*arguments) != 0
    assert len(prepared(tmp_path, "lsp/person_centric")["train"]) == 2
    shutil.rmtree(tmp_path / "lsp")
    with pytest.raises(ValueError) if isinstance(error, ValueError) else pytest.raises(SystemExit):
        raise SystemExit(run(*arguments))
    assert not list((tmp_path / "lsp").rglob("dataset_info.json"))


def test_sigterm_ends_a_rebuild_like_ctrl_c(tmp_path, monkeypatch, capsys):
    source = release(tmp_path, "lsp")
    arguments = ("lsp", "--overwrite", "--source", source, "--data_dir", tmp_path / "data")
    run(*arguments)
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(image_files, "prepare", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert run(*arguments) == 143
    assert "error: terminated; nothing was prepared" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before
    folder = tmp_path / "data/lsp/person_centric"
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]
    assert len(prepared(tmp_path / "data", "lsp/person_centric")["train"]) == 2


@pytest.mark.slow
def test_sigterm_from_outside_leaves_the_data_set_in_place(tmp_path):
    arguments = ["synthetic_people/tiny", "--data_dir", str(tmp_path), "--overwrite"]
    assert run(*arguments) == 0
    folder = tmp_path / "synthetic_people" / "tiny"
    program = [sys.executable, "-m", "tfds_builders", *arguments]
    with subprocess.Popen(program, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not list(folder.glob("incomplete.*")):
            time.sleep(0.01)
        assert not (folder / "1.0.0").exists()
        process.terminate()
        _, error = process.communicate()
    assert process.returncode == 143
    assert error.endswith("error: terminated; nothing was prepared\n")
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]
    assert len(prepared(tmp_path, "synthetic_people/tiny")["train"]) == 48


@pytest.fixture
def killed(tmp_path):
    """The command for LSP and its folder after `--overwrite` was killed."""
    arguments = ("lsp", "--source", release(tmp_path, "lsp"), "--data_dir", tmp_path / "data")
    run(*arguments)
    folder = tmp_path / "data/lsp/person_centric"
    (folder / "1.0.0").rename(folder / "replaced_1.0.0")
    (folder / "incomplete.G9FI8Z_1.0.0").mkdir()
    return arguments, folder


def test_a_data_set_is_restored_after_its_rebuild_was_killed(killed, capsys):
    arguments, folder = killed
    capsys.readouterr()
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    assert f"{folder / '1.0.0'} is restored (an earlier --overwrite was interrupted)" in out
    assert "already prepared" in out
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]
    assert len(prepared(folder.parents[1], "lsp/person_centric")["train"]) == 2


@pytest.mark.parametrize("fails", [False, True])
def test_a_rebuild_after_a_killed_one_keeps_the_data_set_if_it_fails(killed, fails, tmp_path):
    arguments, folder = killed
    (tmp_path / "release" / ("joints.mat" if fails else "images/im0002.jpg")).unlink()
    assert run(*arguments, "--overwrite") == int(fails)
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]
    assert len(prepared(folder.parents[1], "lsp/person_centric")["train"]) == 1 + fails


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_two_commands_do_not_build_the_same_data_set(killed, capsys, more):
    arguments, folder = killed
    found = sorted(folder.iterdir())
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert run(*arguments, *more) == 1
    assert "another process is preparing a data set in" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == found
    os.close(other)
    assert run(*arguments, *more) == 0


def test_a_build_in_python_keeps_the_command_away(tmp_path, monkeypatch):
    source = release(tmp_path, "lsp")
    prepare, errors = image_files.prepare, []

    def build_again(data):
        monkeypatch.setattr(image_files, "prepare", prepare)
        program = [sys.executable, "-m", "tfds_builders", "lsp", "--source", str(source)]
        program += ["--data_dir", str(tmp_path)]
        done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
        errors.append(done.stderr)
        return prepare(data)

    monkeypatch.setattr(image_files, "prepare", build_again)
    builder = lsp_dataset_builder.Builder(data_dir=tmp_path, sources=[source])
    builder.download_and_prepare(file_format="array_record")
    assert errors[0].startswith("error: another process is preparing a data set in ")
    assert len(prepared(tmp_path, "lsp/person_centric")["train"]) == 2


SHARD = "lsp-train.array_record-00000-of-00001"


@pytest.mark.parametrize(
    ("damaged", "content", "says"),
    [
        (None, None, "dataset_info.json, features.json, metadata.json are missing or empty"),
        (SHARD, None, f"{SHARD} is missing or empty"),
        (SHARD, b"", f"{SHARD} is missing or empty"),
        ("dataset_info.json", None, "dataset_info.json is missing or empty"),
        ("dataset_info.json", b"{", "its metadata cannot be read (ParseError)"),
        ("dataset_info.json", b"{}", "its metadata cannot be read"),
    ],
)
def test_an_incomplete_data_set_is_not_prepared(tmp_path, capsys, damaged, content, says):
    arguments = ("lsp", "--source", release(tmp_path, "lsp"), "--data_dir", tmp_path / "data")
    folder = tmp_path / "data/lsp/person_centric/1.0.0"
    if damaged is None:
        folder.mkdir(parents=True)
    else:
        run(*arguments)
        (folder / damaged).unlink()
        if content is not None:
            (folder / damaged).write_bytes(content)
    capsys.readouterr()
    assert run(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder} is incomplete: {says}")
    assert error.endswith("; add --overwrite to rebuild it\n") and error.count("\n") == 1
    assert run(*arguments, "--overwrite") == 0
    assert len(prepared(tmp_path / "data", "lsp/person_centric")["train"]) == 2


def test_a_killed_build_is_not_taken_for_a_whole_one(tmp_path):
    source = release(tmp_path, "lsp")
    program = (
        "import os, signal, sys\n"
        "from tfds_builders import __main__ as command, image_files\n"
        "image_files.prepare = lambda data: os.kill(os.getpid(), signal.SIGKILL)\n"
        "command.main(sys.argv[1:])\n"
    )
    arguments = ["lsp", "--source", str(source), "--data_dir", str(tmp_path)]
    killed = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT)
    assert killed.returncode == -9
    assert run(*arguments) == 0
    assert len(prepared(tmp_path, "lsp/person_centric")["train"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lps", "--source", "."], "no data set is called 'lps'; choose one of lsp, lspet"),
        (["lsp/side", "--source", "."], "lsp has no config 'side'; choose one of person_centric"),
        (["lspet/side", "--source", "."], "lspet has no config 'side'"),
        (["lsp"], "lsp needs its files; add --source PATH"),
        (["lsp", "--source", "nowhere"], "--source nowhere does not exist"),
        (["lsp", "--source", "EMPTY"], "no LSP in"),
        (["lspet", "--source", "EMPTY"], "no LSPET in"),
        (["mpii", "--source", "EMPTY"], "no mpii_human_pose_v1_u12_1.mat in"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    arguments = [str(tmp_path / "empty") if a == "EMPTY" else a for a in arguments]
    assert run(*arguments, "--data_dir", tmp_path / "data") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error
    assert message in error and ";" in error


TOY = {
    "__init__.py": "",
    "options.py": "def add_options(parser):\n    parser.add_argument('--color')\n",
    "toy_dataset_builder.py": (
        "from tfds_builders.errors import BuildError\n"
        "class Builder:\n"
        "    @classmethod\n"
        "    def configure(cls, name, options):\n"
        "        raise BuildError(f'{name} is not painted {options.color}; paint it')\n"
    ),
}


def test_a_data_set_brings_its_own_options(tmp_path, capsys, monkeypatch):
    (tmp_path / "toy").mkdir()
    for name, text in TOY.items():
        (tmp_path / "toy" / name).write_text(text)
    monkeypatch.setattr(tfds_builders, "__path__", [*tfds_builders.__path__, str(tmp_path)])
    monkeypatch.setattr(command, "NAMES", (*command.NAMES, "toy"))
    assert run("toy/car", "--color", "red") == 1
    assert capsys.readouterr().err == "error: car is not painted red; paint it\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["lsp", "--source", "x", "--holdout", "0.2", "--images", "y", "--corrections", "z"],
            "lsp does not use --corrections, --holdout, --images; remove these options",
        ),
        (["lsp", "--source=x", "--name=n"], "lsp does not use --name; remove this option"),
        (["lspet", "--holdout=0"], "lspet does not use --holdout; remove this option"),
        (["mpii", "--limb", "a", "b"], "mpii does not use --limb; remove this option"),
        (["coco", "--corrections", "z"], "coco does not use --corrections; remove this option"),
        (["backgrounds", "--split", "train=x"], "backgrounds does not use --split; remove this"),
        (
            ["synthetic_people/tiny", "--source", "x"],
            "synthetic_people does not use --source; remove this option",
        ),
    ],
)
def test_options_of_another_data_set_are_refused(tmp_path, capsys, arguments, says):
    assert run(*arguments, "--data_dir", tmp_path / "data") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {says}") and error.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_lspet_is_not_taken_for_lsp(tmp_path, capsys):
    assert run("lsp", "--source", release(tmp_path, "lspet"), "--data_dir", tmp_path) == 1
    assert "no LSP in" in capsys.readouterr().err


def test_observer_centric_needs_its_file(tmp_path, capsys):
    source = release(tmp_path, "lsp")
    (source / "lsp-joints-OC.mat").unlink()
    arguments = ("lsp/observer_centric", "--source", source, "--data_dir", tmp_path)
    assert run(*arguments) == 1
    assert "needs lsp-joints-OC.mat" in capsys.readouterr().err


def test_observer_centric_finds_its_file_beside_the_archive(tmp_path):
    folder = release(tmp_path, "lsp")
    archive = release(tmp_path, "lsp", "zip")
    (folder / "lsp-joints-OC.mat").rename(archive.parent / "lsp-joints-OC.mat")
    with zipfile.ZipFile(archive) as zipped, zipfile.ZipFile(tmp_path / "lsp.zip", "w") as bare:
        for name in zipped.namelist():
            if "OC" not in name:
                bare.writestr(name, zipped.read(name))
    archive.unlink()
    (tmp_path / "lsp.zip").rename(archive)
    assert run("lsp/observer_centric", "--source", archive, "--data_dir", tmp_path) == 0


def test_a_damaged_joints_file_is_one_line(tmp_path, capsys):
    source = release(tmp_path, "lsp")
    joints = source / "joints.mat"
    joints.write_bytes(joints.read_bytes()[:400])
    assert run("lsp", "--source", source, "--data_dir", tmp_path) == 1
    assert "joints.mat is not an intact .mat file" in capsys.readouterr().err


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("write() failed: No space left on device; writing ...")

    monkeypatch.setattr(tfds.core.GeneratorBasedBuilder, "download_and_prepare", fail)
    assert run("lsp", "--source", release(tmp_path, "lsp"), "--data_dir", tmp_path) == 1
    assert "the disk is full" in capsys.readouterr().err


def test_loads_no_tensorflow(tmp_path):
    program = (
        "import sys\n"
        "from tfds_builders import __main__ as command\n"
        "sys.exit(command.main(sys.argv[1:]) or 'tensorflow' in sys.modules)\n"
    )
    arguments = ["lsp", "--source", str(release(tmp_path, "lsp")), "--data_dir", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT)
    assert done.returncode == 0
