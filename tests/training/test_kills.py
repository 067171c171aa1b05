"""Twenty SIGKILLs and five SIGTERMs at moments drawn by a seed change nothing in the end."""

import random
import signal
import time

import pytest

from tests.support import tiny_run
from tests.support.launches import Launch

pytestmark = [
    pytest.mark.slow,
]

SEED = 19
# 240 steps, a line and a checkpoint at every second one.
HOW = {"processes": 1, "devices": 2, "num_epochs": 40, "workers": 1}
MOMENTS = ["running"] * 10 + ["saving"] * 10 + ["terminated"] * 5
MAX_LINES = 5  # between two kills


@pytest.mark.timeout(3600)
def test_kills_change_nothing(tmp_path):
    tiny_run.prepare(tmp_path / "data")
    place = (tmp_path / "data", tmp_path / "compiled")
    with Launch(tmp_path / "whole", *place, **HOW) as launch:
        assert launch.wait(seconds=900) == [0], launch.said()

    rng = random.Random(SEED)
    moments = rng.sample(MOMENTS, len(MOMENTS))
    hits, resumed = dict.fromkeys(MOMENTS, 0), 0
    for moment in moments:
        with Launch(tmp_path / "killed", *place, **HOW) as launch:
            hits[moment] += strike(launch, moment, tmp_path / "killed", rng)
            resumed += "resumed at step" in launch.said()
    with Launch(tmp_path / "killed", *place, **HOW) as launch:
        assert launch.wait(seconds=900) == [0], launch.said()
    # Each hit a run under way, and each start but the first went on with another's.
    assert hits == {"running": 10, "saving": 10, "terminated": 5}
    assert resumed == len(moments) - 1

    tiny_run.assert_same_end(tmp_path / "killed", tmp_path / "whole")


def strike(launch, moment, workdir, rng) -> bool:
    """End a run at such a moment, once it has got somewhere; whether it was one."""
    goal = rng.randint(2, MAX_LINES)
    assert launch.until(lambda: launch.lines() >= goal), launch.said()
    if moment == "saving":
        # A checkpoint under this name is being written.
        hit = launch.until(lambda: any(workdir.glob("checkpoints/*/*.orbax-checkpoint-tmp*")))
    else:
        time.sleep(rng.uniform(0, 0.2))
        hit = launch.processes[0].poll() is None
    launch.signal(signal.SIGTERM if moment == "terminated" else signal.SIGKILL)
    (status,) = launch.wait(seconds=60)
    assert status == (0 if moment == "terminated" else -signal.SIGKILL), launch.said()
    return hit
