"""Runs whose workdir and data lie on object storage: an emulator of Google Cloud Storage."""

import json
import pathlib
import signal
import time

import numpy as np
import pytest

from jaxpose.checkpoints import packed, store
from jaxpose.errors import JaxposeError
from jaxpose.evaluation.labeled_predictions import read_predictions
from jaxpose.storage import open_path, replace_file
from tests.checkpoints import test_store
from tests.support import object_store, tiny_run
from tests.support.launches import EVALUATE, Launch

pytest.importorskip("gcsfs", reason="object storage: the extra cloud is not installed")
pytest.importorskip("gcp_storage_emulator", reason="object storage: no gcp-storage-emulator")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    # ml_collections loads a config file in a way that importlib wants to drop.
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),
]

LENGTH = {"num_epochs": 5}  # of six steps; a checkpoint is saved at every second step
# Leases of a second instead of ten, so that a launch after a kill waits for five.
SHORT_LEASES = """
import sys
import launch
from jaxpose.cli.exits import silence_library_logs
from jaxpose.training import lease
lease.RENEW_SECONDS = 1.0
silence_library_logs()
sys.exit(launch.main(sys.argv[1:]))
"""
OUTAGE_SECONDS = 60


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A running store, which this process uses too."""
    with (
        object_store.ObjectStore(tmp_path_factory.mktemp("store")) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture(scope="module")
def remote_people(bucket, people):
    """The same data set in the bucket."""
    from etils import epath

    address = f"gs://{object_store.BUCKET}/data"
    for file in people.rglob("*"):
        if file.is_file():
            name = file.relative_to(people).as_posix()
            epath.Path(address, name).write_bytes(file.read_bytes())
    return address


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, people, cache):
    """Local runs that nothing disturbed, by their number of processes."""
    folder = tmp_path_factory.mktemp("runs")
    for processes in (1, 2):
        how = {"processes": processes, "devices": 4 // processes, **LENGTH}
        with Launch(folder / str(processes), people, cache, **how) as launch:
            assert launch.wait() == [0] * processes, launch.said()
    return folder


@pytest.fixture
def remote(bucket, remote_people, cache, tmp_path):
    """Starts a launch of a number of processes on the workdir of this test in the bucket."""
    workdir = f"gs://{object_store.BUCKET}/{tmp_path.name}"

    def launch(processes=1, **options):
        how = {
            "processes": processes,
            "devices": 4 // processes,
            "script": ("-c", SHORT_LEASES),
            "logs": tmp_path / "log",
            "environment": bucket.environment,
            "workers": 1,  # a process that reads the bucket too
        }
        return Launch(workdir, remote_people, cache, **{**how, **LENGTH, **options})

    launch.workdir, launch.files = workdir, bucket.folder / tmp_path.name
    launch.environment = bucket.environment
    return launch


def is_saving(files: pathlib.Path) -> bool:
    """Whether a checkpoint is there that is not complete."""
    steps = [f for f in files.glob("checkpoints/latest/*") if f.name.isdigit()]
    return any(not (step / "commit_success.txt").exists() for step in steps)


@pytest.fixture
def folder(bucket, tmp_path):
    """An empty folder of checkpoints in the bucket."""
    return open_path(f"gs://{object_store.BUCKET}/{tmp_path.name}")


def test_checkpoints_that_are_saved_again_replace_the_old_ones(folder):
    test_store.save(folder, 1, 2, 3)
    assert store.checkpoint_steps(folder) == [3, 2]
    test_store.save(folder, 2, tree=lambda step: test_store.state(20))
    assert [path.name for path in folder.iterdir()] == ["2"]
    found, _ = store.restore_newest(folder, test_store.state())
    test_store.assert_same(found, test_store.state(20))


def test_a_workdir_and_a_packed_file_are_found_there(folder, tmp_path):
    test_store.save(folder / "checkpoints" / "best", 3)
    variables, metadata, found = store.load(str(folder))
    assert str(found) == f"{folder}/checkpoints/best/3"
    packed.pack(variables, metadata, tmp_path / "small.npz")
    replace_file(folder / "small.npz", (tmp_path / "small.npz").read_bytes())
    ours, theirs = (store.load(f"{place}/small.npz")[0] for place in (folder, tmp_path))
    test_store.assert_same(ours, theirs)


@pytest.mark.parametrize("killed", ["while it is set aside", "before the new one is complete"])
def test_a_kill_while_a_checkpoint_is_replaced_loses_nothing(folder, monkeypatch, killed):
    test_store.save(folder, 3, keep=1)
    manager = store.open_manager(folder, keep=1)
    with monkeypatch.context() as patched:
        if killed == "while it is set aside":
            patched.setattr(type(folder), "rmtree", lambda path: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                store._set_aside(manager, 3)
        else:
            store._set_aside(manager, 3)
    assert store.checkpoint_steps(folder) == []
    manager.close()
    store.finish(store.open_manager(folder, keep=1))
    assert [path.name for path in folder.iterdir()] == ["3"]
    found, _ = store.restore_newest(folder, test_store.state())
    test_store.assert_same(found, test_store.state(3))


def test_killed_twice_it_ends_as_the_local_run(whole, remote):
    with remote() as launch:
        assert launch.until(lambda: launch.lines() >= 3), launch.said()
        launch.signal(signal.SIGKILL)
        launch.wait(seconds=60)
    with remote() as launch:
        assert launch.until(lambda: launch.lines() >= 3), launch.said()
        assert launch.until(lambda: is_saving(remote.files)), launch.said()
        launch.signal(signal.SIGKILL)
        launch.wait(seconds=60)
        assert "resumed at step" in launch.said()
    with remote() as launch:
        assert launch.wait() == [0], launch.said()
        assert (
            "resumed at step" in launch.said()
            and "checking whether it is still running" in launch.said()
        )
    tiny_run.assert_same_end(remote.workdir, whole / "1")
    assert not (remote.files / ".lease").exists()


def test_one_of_two_processes_killed(whole, remote):
    with remote(processes=2) as launch:
        assert launch.until(lambda: launch.lines() >= 3), launch.said()
        launch.signal(signal.SIGKILL, 1)
        statuses = launch.wait(seconds=120)
        assert statuses[1] == -signal.SIGKILL and statuses[0] != 0
    with remote(processes=2) as launch:
        assert launch.wait() == [0, 0], launch.said()
        assert "resumed at step" in launch.said()
    tiny_run.assert_same_end(remote.workdir, whole / "2")


def test_a_store_that_is_away_for_a_minute_while_a_checkpoint_is_saved(whole, bucket, remote):
    with remote() as launch:
        # The outage lasts into the first validation, whose workers open the data set.
        assert launch.until(lambda: launch.lines() >= 3), launch.said()
        assert launch.until(lambda: is_saving(remote.files)), launch.said()
        bucket.stop()
        try:
            time.sleep(OUTAGE_SECONDS)
            assert launch.processes[0].poll() is None, launch.said()
        finally:
            bucket.start()
        assert launch.wait() == [0], launch.said()
    tiny_run.assert_same_end(remote.workdir, whole / "1")


def test_a_second_launch_is_refused(remote, tmp_path):
    with remote(num_epochs=100) as first:
        assert first.until(lambda: first.lines() >= 1), first.said()
        with remote(num_epochs=100, logs=tmp_path / "second") as second:
            assert second.wait(seconds=120) == [1], second.said()
            (line,) = [x for x in second.said().splitlines() if x.startswith("error: ")]
            assert line.startswith("error: another launch (process ")
            assert f"is using {remote.workdir}" in line
        assert first.processes[0].poll() is None


def test_evaluation_predictions_and_report_are_written_there(people, cache, remote, tmp_path):
    """Those of a run, then of its checkpoint on a local disk; the same as of a local run."""
    fields = {"num_epochs": 2, "report": True}
    local = {"processes": 1, "devices": 4}
    with Launch(tmp_path / "run", people, cache, **local, **fields) as launch:
        assert launch.wait() == [0], launch.said()
    with remote(**fields) as launch:
        assert launch.wait() == [0], launch.said()
        assert f"report: {remote.workdir}/report.html" in launch.said()
    how = {"environment": remote.environment, **local, **fields}
    script = ("-c", EVALUATE, remote.workdir)
    with Launch(tmp_path / "scored", people, cache, script=script, **how) as launch:
        assert launch.wait() == [0], launch.said()
    reports, predictions = [], []
    for folder in (tmp_path / "run", remote.files, tmp_path / "scored"):
        report = json.loads((folder / "evaluation.json").read_text())
        reports.append({name: report[name] for name in ("step", "metric", "rows", "decodings")})
        (file,) = (folder / "predictions").iterdir()
        predictions.append(read_predictions(file).prediction)
        assert (folder / "report.html").read_text().endswith("</html>\n")
    for report, found in zip(reports, predictions, strict=True):
        assert report == reports[0]
        np.testing.assert_array_equal(found, predictions[0])


def test_a_bucket_that_is_not_there_is_one_line(bucket):
    with pytest.raises(JaxposeError, match="there is no bucket gs://nowhere") as caught:
        open_path("gs://nowhere/x", "workdir")
    assert "\n" not in str(caught.value)
    open_path(f"gs://{object_store.BUCKET}/not/yet/there")
    assert not (bucket.folder.parent / "nowhere").exists()


@pytest.mark.parametrize("place", ["workdir", "data_dir", "init_from"])
def test_without_credentials_it_is_one_line(people, cache, tmp_path, place):
    address = f"gs://{object_store.BUCKET}/x"
    with object_store.ObjectStore(tmp_path / "store", refuse=True) as refusing:
        environment = {**refusing.environment, "FSSPEC_GCS_TOKEN": "anon"}
        fields = {} if place == "workdir" else {place: address}
        how = {"processes": 1, "logs": tmp_path / "log", "environment": environment, **fields}
        workdir = address if place == "workdir" else tmp_path / "run"
        with Launch(workdir, people, cache, script=("-c", SHORT_LEASES), **how) as launch:
            assert launch.wait() == [1], launch.said()
    (line,) = [
        x
        for x in launch.said().splitlines()
        if not x.startswith(("loading", "opening", "initializing"))
    ]
    assert line.startswith("error: ") and f"{address} cannot be reached" in line
    assert object_store.REFUSAL in line and "gcloud auth application-default login" in line
