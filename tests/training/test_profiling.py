"""A trace holds the steps that were asked for, and no others."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.training import loop
from jaxpose.training.profiling import STEPS_BEFORE, StepProfiler
from tests.support import tiny_run


def traced_steps(folder) -> list[int]:
    """Numbers of the steps that the traces of a folder mark."""
    steps = []
    for file in folder.rglob("*.trace.json.gz"):  # JAX 0.12 aborts on reading .xplane.pb in Python
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
        train = [event for event in events if event.get("name") == "train"]
        steps += [int(event["args"]["step_num"]) for event in train]
    return sorted(steps)


@pytest.mark.parametrize(("asked", "done"), [(3, 20), (4, STEPS_BEFORE + 2), (0, 20), (3, 2)])
def test_these_steps_and_no_others(tmp_path, asked, done, capsys):
    """Where the run ends first, those that it still did."""
    add = jax.jit(lambda x: x + 1)
    x, start = jnp.zeros(()), 100
    with StepProfiler(tmp_path, steps=asked) as profiler:
        for step in range(start, start + done):
            with profiler.before_step(step, x):
                x = add(x)
    first = start + STEPS_BEFORE
    assert traced_steps(tmp_path) == list(range(first, min(first + asked, start + done)))
    assert ("no step was traced" in capsys.readouterr().err) == (asked and done <= STEPS_BEFORE)


def test_a_negative_number_of_steps_is_refused(tmp_path):
    config = tiny_run.config(tmp_path / "run", tmp_path / "data")
    with pytest.raises(JaxposeError, match="profile_steps is -3; it must be 0 or more"):
        loop.train(config, tmp_path / "run", profile_steps=-3)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_a_training_writes_its_trace_into_the_workdir(tmp_path):
    tiny_run.prepare(tmp_path / "data")
    config = tiny_run.config(tmp_path / "run", tmp_path / "data", num_epochs=2)
    assert loop.train(config, tmp_path / "run", profile_steps=4).step == 12
    assert traced_steps(tmp_path / "run" / "profile") == [5, 6, 7, 8]
