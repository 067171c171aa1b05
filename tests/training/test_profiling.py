"""A trace holds the steps that were asked for, and no others."""

import jax
import jax.numpy as jnp
import pytest

from jaxpose.training import loop
from jaxpose.training.profiling import STEPS_BEFORE, StepProfiler
from tests.support import tiny_run


def traced_steps(folder) -> list[int]:
    """Numbers of the steps that the traces of a folder mark."""
    steps = []
    for file in folder.rglob("*.xplane.pb"):
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                for event in line.events:
                    if event.name == "train":
                        steps.append(dict(event.stats)["step_num"])
    return sorted(steps)


@pytest.mark.parametrize(("asked", "done"), [(3, 20), (4, STEPS_BEFORE + 2), (0, 20), (3, 2)])
def test_these_steps_and_no_others(tmp_path, asked, done):
    """Where the run ends first, those that it still did."""
    add = jax.jit(lambda x: x + 1)
    x, start = jnp.zeros(()), 100
    with StepProfiler(tmp_path, steps=asked) as profiler:
        for step in range(start, start + done):
            with profiler.before_step(step, x):
                x = add(x)
    first = start + STEPS_BEFORE
    assert traced_steps(tmp_path) == list(range(first, min(first + asked, start + done)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_a_training_writes_its_trace_into_the_workdir(tmp_path):
    tiny_run.prepare(tmp_path / "data")
    config = tiny_run.config(tmp_path / "run", tmp_path / "data", num_epochs=2)
    assert loop.train(config, tmp_path / "run", profile_steps=4).step == 12
    assert traced_steps(tmp_path / "run" / "profile") == [5, 6, 7, 8]
