"""What goes wrong around a run: corrupt images, lost files, a full disk, a clock that jumps."""

import os
import shutil
import time

import pytest

import launch
from jaxpose.checkpoints import store
from jaxpose.errors import JaxposeError
from jaxpose.training import loop
from jaxpose.training import run as train_run
from jaxpose.training.metric_log import read_records
from jaxpose.training.run import open_run, start_of
from tests.support import tiny_run
from tests.support.launches import Launch
from tests.support.tiny_run import assert_same_end, run

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, people):
    """A run of one epoch that nothing disturbed; copy it before going on with it."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    assert run(workdir, people, **ONE).step == 6
    return workdir


CONSTANT = {"optimizer__schedule": "constant", "optimizer__warmup_epochs": 0.0}
ONE, TWO = {**CONSTANT, "num_epochs": 1}, {**CONSTANT, "num_epochs": 2}


@pytest.fixture(scope="module")
def longer(tmp_path_factory, people):
    """The same of two epochs."""
    workdir = tmp_path_factory.mktemp("runs") / "longer"
    assert run(workdir, people, **TWO).step == 12
    return workdir


def at_step(monkeypatch, step, action):
    """Do something in the middle of a run, after the log's line of that step."""
    write_losses = loop.Loop.write_losses

    def then_act(self):
        write_losses(self)
        if self.step == step:
            action()

    monkeypatch.setattr(loop.Loop, "write_losses", then_act)


class Spoiled:
    """Examples of which some have an image that was cut off."""

    def __init__(self, source, broken):
        self.source, self.broken = source, broken

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        example = dict(self.source[index])
        if index in self.broken:
            example["image"] = example["image"][: len(example["image"]) // 2]
        return example


def spoil(monkeypatch, *broken):
    """Cut off the images of these persons of the training split."""
    open_split = train_run.prepared.open_split

    def opened(name, part, *, data_dir):
        split = open_split(name, part, data_dir=data_dir)
        return split._replace(source=Spoiled(split.source, broken)) if part == "train" else split

    monkeypatch.setattr(train_run.prepared, "open_split", opened)


@pytest.mark.slow
def test_a_corrupt_image_is_named_and_counted_and_training_goes_on(
    tmp_path, people, monkeypatch, capsys
):
    spoil(monkeypatch, 5)
    assert run(tmp_path / "run", people, **TWO).step == 12
    named = [
        x for x in capsys.readouterr().err.splitlines() if "could not be decoded; skipped" in x
    ]
    (line,) = named
    assert line.startswith("train_000005.jpg (person 0 of synthetic_people/tiny train)")
    records = read_records(tmp_path / "run" / "metrics.jsonl")
    counts = [record["unreadable"] for record in records if record["kind"] == "train"]
    assert counts[-1] == 2  # once an epoch


@pytest.mark.slow
def test_too_many_corrupt_images_stop_it(tmp_path, people, monkeypatch):
    spoil(monkeypatch, *range(0, 48, 4))
    with pytest.raises(JaxposeError, match=r"of \d+ images could not be decoded; check .* prepare"):
        run(tmp_path / "run", people)


@pytest.fixture
def moved(people, tmp_path):
    """The prepared people in a folder of their own, and their files."""
    folder = shutil.copytree(people, tmp_path / "data")
    return folder, sorted(folder.rglob("*.array_record*"))


def cut_off(files):
    for file in files:
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size // 2)


def delete(files):
    for file in files:
        file.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("way", [cut_off, delete])
def test_files_lost_while_it_trains(whole, moved, tmp_path, monkeypatch, way):
    """What the system still holds open goes on; else one line, and what was saved stays."""
    folder, files = moved
    workdir = shutil.copytree(whole, tmp_path / "copy")
    at_step(monkeypatch, 8, lambda: way(files))
    fields = {**TWO, "num_epochs": 20}
    try:
        assert run(workdir, folder, **fields).step == 120
    except JaxposeError as error:
        assert "prepare the data set again" in str(error) and "\n" not in str(error)
    assert store.restore_newest(workdir / "checkpoints" / "latest", like(whole, folder))


def like(workdir, people):
    config = tiny_run.config(workdir, people, **ONE)
    return start_of(open_run(config), workdir).state


@pytest.mark.parametrize("way", [cut_off, delete])
def test_files_lost_before_it_starts(copy, moved, capsys, way):
    folder, files = moved
    way(files)
    fails(capsys, tiny_run.command(copy, folder, **TWO), "prepare")


def fails(capsys, argv, says):
    """The command leaves with status 1 and one line of error on stderr, which has these words."""
    assert launch.main(argv) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert says in line


# Of a start.
PHASES = ("loading JAX", "opening", "initializing", "metric: ", "reading", "compiling")


# No file may grow beyond so many bytes: what a full disk does.
SMALL_DISK = """
import resource, runpy, sys
size = int(sys.argv.pop(1))
del sys.argv[0]
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("doing", ["saving", "logging"])
def test_a_disk_that_is_full(copy, longer, people, doing):
    """One line; the checkpoint before stays whole; with room again, as if nothing had been."""
    written = (copy / "metrics.jsonl").stat().st_size
    assert (copy / "config.json").stat().st_size < written < 10_000
    script = ("-c", SMALL_DISK, str(20_000 if doing == "saving" else written + 50))
    how = {"processes": 1, "devices": 4, "script": script, **TWO}
    with Launch(copy, people, "off", **how) as launched:
        assert launched.wait() == [1]
    progress = ("step ", "resumed", *PHASES)
    (line,) = [x for x in launched.said().splitlines() if not x.startswith(progress)]
    assert line.startswith("error: ") and "File too large" in line
    assert "free disk space" in line.lower()
    assert store.checkpoint_steps(copy / "checkpoints" / "latest")[0] == 6
    run(copy, people, **TWO)
    assert_same_end(copy, longer)


def test_a_folder_of_another_user(tmp_path, people, capsys):
    """Root may write everywhere, so it becomes another user for a moment."""
    (tmp_path / "run").mkdir(mode=0o555)
    argv = tiny_run.command(tmp_path / "run", people)
    tmp_path.chmod(0o755)
    if os.geteuid() != 0:
        return fails(capsys, argv, "cannot be written")
    os.seteuid(65534)
    try:
        fails(capsys, argv, "cannot be written")
    finally:
        os.seteuid(0)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("hours", [-26.0, 26.0])
def test_a_clock_that_jumps_changes_nothing(tmp_path, longer, people, monkeypatch, hours):
    now, jump = time.time, []
    monkeypatch.setattr(time, "time", lambda: now() + sum(jump))
    at_step(monkeypatch, 4, lambda: jump.append(3600 * hours))
    assert run(tmp_path / "run", people, **TWO).step == 12
    assert_same_end(tmp_path / "run", longer)
    seconds = [r["seconds"] for r in read_records(tmp_path / "run" / "metrics.jsonl")]
    assert seconds == sorted(seconds) and seconds[-1] < 3600
