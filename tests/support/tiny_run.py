"""A run small enough for tests: a few drawn people on disk, the smallest network, twelve steps."""

import contextlib
import pathlib

import jax
import numpy as np

from jaxpose.checkpoints import store
from jaxpose.cli.launch_flags import parse
from jaxpose.storage import open_path
from jaxpose.training import loop
from jaxpose.training.metric_log import read_records
from tests.support import kept_programs
from tfds_builders import __main__ as builders

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS_PER_EPOCH, NUM_STEPS = 6, 12
# Of a record of metrics.jsonl, those that differ between otherwise identical runs.
TIME_FIELDS = ("time", "seconds", "images_per_second", "data_wait")
PEOPLE = "synthetic_people/tiny"
FIELDS = {
    "data": f"(('{PEOPLE}', 1.0),)",
    "validation": f"(('{PEOPLE}', 'validation', 'scale', 1.0),)",
    "test": f"(('{PEOPLE}', 'test', 'scale'),)",
    "network.width": "18",
    "network.kernel_size": "3",
    "image_size": "32",
    "batch_size": "8",
    "log_every_steps": "2",
    "checkpoint_every_minutes": "1e-9",  # at every line of the log
    "report": "False",
}


@contextlib.contextmanager
def compiled_once(cache):
    """Runs of this process compile the same programs: kept in a folder, they are compiled once."""
    with kept_programs.kept_in(cache):
        before = jax.config.read("jax_disable_most_optimizations")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", before)


def prepare(data_dir) -> None:
    """Draw the people."""
    assert builders.main([PEOPLE, "--data_dir", str(data_dir)]) == 0


def command(workdir, data_dir, *, mode="train", **fields) -> list[str]:
    """Arguments of launch.py; a field's dots are written as two underscores."""
    overrides = FIELDS | {"data_dir": str(data_dir)}
    overrides |= {name.replace("__", "."): str(value) for name, value in fields.items()}
    return [
        str(ROOT / "launch.py"),
        f"--config={ROOT / 'configs' / 'synthetic.py'}:tiny",
        f"--workdir={workdir}",
        f"--mode={mode}",
        *(f"--config.{name}={value}" for name, value in overrides.items()),
    ]


def config(workdir, data_dir, **fields):
    """The config that launch.py makes of that command."""
    return parse(command(workdir, data_dir, **fields)).config


def end_of(workdir) -> tuple[dict[str, np.ndarray], list[dict]]:
    """What is to be the same of two runs: the variables by checkpoint, and metrics.jsonl."""
    variables = {which: store.load(workdir, which=which)[0] for which in ("latest", "best")}
    records = read_records(open_path(workdir) / "metrics.jsonl")
    for record in records:
        for name in TIME_FIELDS:
            record.pop(name, None)
    return variables, records


def run(workdir, data_dir, **fields) -> loop.TrainResult:
    """Train by that config in this process."""
    return loop.train(config(workdir, data_dir, **fields), workdir)


def assert_same_end(workdir, other) -> None:
    """Two runs left the same, bit for bit."""
    (ours, our_records), (theirs, their_records) = map(end_of, (workdir, other))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert our_records == their_records
