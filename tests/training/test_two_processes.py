"""Two processes, four devices, one device: the same run; and what happens when one of two ends."""

import json
import pathlib
import re
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from jaxpose.checkpoints import store
from jaxpose.evaluation.labeled_predictions import read_predictions
from jaxpose.training.metric_log import read_records
from tests.support.launches import Launch
from tests.support.tiny_run import assert_same_end

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]

TOPOLOGIES = {
    "one device": {"processes": 1, "devices": 1},
    "four devices": {"processes": 1, "devices": 4},
    "two processes of two": {"processes": 2, "devices": 2},
}
# Ten steps and two more. 12 persons a batch do not divide the 16: the rest is padding. Where two
# candidates of a pooling are equal but for rounding, topologies choose differently; the rate is low
# enough that a choice moves less than the tolerance.
FIELDS = {
    "optimizer__name": "sgd",
    "optimizer__learning_rate": 1e-3,
    "optimizer__schedule": "constant",
    "optimizer__warmup_epochs": 0.0,
    "eval__batch_size": 12,
}
STEP = 10
# Trains, then scores another run's checkpoint, in one process: the tables of one network.
TRAIN_AND_SCORE = """
import sys
import launch
from jaxpose.cli.launch_flags import parse
from jaxpose.evaluation import evaluate
values = parse(sys.argv[2:])
launch.run(values)
evaluate.evaluate_checkpoint(values.config, values.workdir + "-scored", path=sys.argv[1])
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def workdir_of(folder, topology):
    return folder / topology.replace(" ", "-")


@pytest.fixture(scope="module")
def ran(folder, people, cache):
    """All three have trained, and scored the one device's checkpoint."""
    source = workdir_of(folder, "one device")
    for topology, how in TOPOLOGIES.items():
        script = ("-c", TRAIN_AND_SCORE, str(source))
        with Launch(
            workdir_of(folder, topology), people, cache, script=script, **how, **FIELDS
        ) as launch:
            assert launch.wait() == [0] * how["processes"], launch.said()


OTHERS = [name for name in TOPOLOGIES if name != "one device"]


def at_step(workdir, step):
    return store.load(workdir / "checkpoints" / "latest" / str(step))[0]


def assert_close(ours, theirs, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), ours, theirs)


@pytest.mark.parametrize("topology", OTHERS)
def test_the_same_losses_and_parameters(ran, folder, topology):
    ours, theirs = workdir_of(folder, topology), workdir_of(folder, "one device")
    assert_close(at_step(ours, STEP), at_step(theirs, STEP), 1e-5)
    losses = [
        [
            record["loss"]
            for record in read_records(workdir / "metrics.jsonl")
            if record["kind"] == "train" and record["step"] <= STEP
        ]
        for workdir in (ours, theirs)
    ]
    assert len(losses[0]) == STEP / 2
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-5)


@pytest.mark.parametrize("topology", OTHERS)
def test_the_same_table_and_each_person_once(ran, folder, topology):
    reports, predictions = [], []
    for name in (topology, "one device"):
        scored = pathlib.Path(f"{workdir_of(folder, name)}-scored")
        report = json.loads((scored / "evaluation.json").read_text())
        del report["files"]  # paths
        reports.append(report)
        (file,) = (scored / "predictions").iterdir()
        predictions.append(read_predictions(file, default_joints=()).prediction)
    assert reports[0] == reports[1]
    # Who was counted twice would have twice its coordinates, who was left out none.
    assert predictions[0].shape == (16, 16, 2)
    np.testing.assert_allclose(predictions[0], predictions[1], atol=1e-2)


def test_a_checkpoint_of_one_topology_goes_on_on_another(ran, folder, people, cache, tmp_path):
    """Each begins a run, and another goes on with it: the ends are the same."""
    ends = []
    for first, second in (
        ("two processes of two", "one device"),
        ("one device", "four devices"),
        ("four devices", "two processes of two"),
    ):
        workdir = shutil.copytree(workdir_of(folder, first), workdir_of(tmp_path, first))
        how = TOPOLOGIES[second]
        with Launch(workdir, people, cache, num_epochs=3, **how, **FIELDS) as launch:
            assert launch.wait() == [0] * how["processes"], launch.said()
            assert "resumed at step 12 of 18" in launch.said()
        ends.append(at_step(workdir, 18))
    for end in ends[1:]:
        assert_close(end, ends[0], 1e-4)


LENGTH = {"num_epochs": 8}


@pytest.fixture(scope="module")
def whole(folder, people, cache):
    """A run of two processes that nothing disturbed."""
    workdir = folder / "whole"
    with Launch(workdir, people, cache, **LENGTH) as launch:
        assert launch.wait() == [0, 0], launch.said()
    return workdir


def test_sigterm_to_one_or_both_saves_the_same_step_and_changes_nothing(
    whole, people, cache, tmp_path
):
    workdir = tmp_path / "run"
    for lines, receivers in ((2, (0, 1)), (4, (1,)), (5, (0,))):
        with Launch(workdir, people, cache, **LENGTH) as launch:
            assert launch.until(lambda n=lines, one=launch: one.lines() >= n), launch.said()
            launch.signal(signal.SIGTERM, *receivers)
            assert launch.wait(seconds=60) == [0, 0], launch.said()
            (step,) = re.findall(r"stopped \(preemption\) at step (\d+)", launch.said())
        assert store.checkpoint_steps(workdir / "checkpoints" / "latest")[0] == int(step)
    with Launch(workdir, people, cache, **LENGTH) as launch:
        assert launch.wait() == [0, 0], launch.said()
        assert "resumed at step" in launch.said()
    assert_same_end(workdir, whole)


def test_one_killed_ends_the_other_within_a_minute(whole, people, cache, tmp_path):
    """The one that coordinates, and the other; then a launch of both goes on."""
    workdir = tmp_path / "run"
    for killed in (1, 0):
        with Launch(workdir, people, cache, **LENGTH) as launch:
            assert launch.until(lambda one=launch: one.lines() >= 3), launch.said()
            launch.signal(signal.SIGKILL, killed)
            began = time.monotonic()
            statuses = launch.wait(seconds=60)
            print(f"process {killed} killed: the other ended in {time.monotonic() - began:.1f} s")
            assert statuses[killed] == -signal.SIGKILL
            assert statuses[1 - killed] != 0
    with Launch(workdir, people, cache, **LENGTH) as launch:
        assert launch.wait() == [0, 0], launch.said()
        assert "resumed at step" in launch.said()
    assert_same_end(workdir, whole)


@pytest.mark.parametrize("broken", [0, 1])
def test_one_that_cannot_start_says_why_and_ends_the_other(people, cache, tmp_path, broken):
    nowhere = {broken: {"data_dir": tmp_path / "nowhere"}}
    with Launch(tmp_path / "run", people, cache, of_process=nowhere) as launch:
        statuses = launch.wait(seconds=120)
        assert statuses[broken] == 1 and statuses[1 - broken] != 0
        (line,) = [x for x in launch.said(broken).splitlines() if x.startswith("error: ")]
        assert "is not prepared in" in line


# Process 1 has a bug that shows after the fourth step.
A_BUG = """
import sys
import launch
from jaxpose.training import loop
write_losses = loop.Loop.write_losses
def then_fail(self):
    write_losses(self)
    if self.step == 4 and "--process_id=1" in sys.argv:
        raise RuntimeError("a bug")
loop.Loop.write_losses = then_fail
sys.exit(launch.main(sys.argv[1:]))
"""


def test_a_bug_in_one_ends_both(people, cache, tmp_path):
    """Python's own end would wait for the other process, and that for a sum with this one."""
    with Launch(tmp_path / "run", people, cache, script=("-c", A_BUG)) as launch:
        assert launch.until(lambda: launch.lines() >= 2), launch.said()
        statuses = launch.wait(seconds=60)
        assert statuses[1] == 1 and statuses[0] != 0
        assert "RuntimeError: a bug" in launch.said(1)
