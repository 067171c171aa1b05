"""Training and evaluation of a config: data, loop, log, checkpoints.

`train(config, workdir)` runs or resumes a run; `evaluate_checkpoint(config, workdir)` scores one.
The loop's position is the number of steps done: data, random numbers and learning rate are pure
functions of it, so a run that was stopped anywhere continues as if nothing had happened.
"""

import contextlib
import math
import pathlib
from typing import TYPE_CHECKING, Any

import jax

from jaxpose import checkpoint, cluster
from jaxpose.errors import JaxposeError
from jaxpose.network import make_net
from jaxpose.phases import phase
from jaxpose.run_log import RunLog
from jaxpose.train.loop import Loop
from jaxpose.train.run import (
    Run,
    augmentation_of,
    check_config,
    network_arguments,
    open_run,
)
from jaxpose.train.scoring import evaluate_checkpoint, validation_table
from jaxpose.train.start import fresh_start, start_of
from jaxpose.train_step import unreplicate
from jaxpose.workdir import prepare_workdir

if TYPE_CHECKING:
    import ml_collections

__all__ = [
    "Run",
    "augmentation_of",
    "check_config",
    "evaluate_checkpoint",
    "fresh_start",
    "make_net",
    "network_arguments",
    "open_run",
    "start_of",
    "train",
    "validation_table",
]


def train(config: "ml_collections.ConfigDict", workdir: str | pathlib.Path) -> dict[str, Any]:
    """Train, or go on with what lies in `workdir`, until the config's last epoch.

    Returns:
      {"step", "num_steps", "score", "stopped"}: steps done and planned, the best validation score
      (None before the first), and "preemption", "max_minutes" or None: what ended it before the
      last epoch.

    Raises:
      JaxposeError: config, data, workdir or a loss that is not finite.
    """
    check_config(config)
    with prepare_workdir(workdir, config.to_dict()) as folder:
        with _phase("opening the data sets"):
            run = open_run(config)
        return _train_in(run, folder)


def _phase(text: str) -> contextlib.AbstractContextManager:
    """`phase` on process 0, nothing on the others."""
    return phase(text) if jax.process_index() == 0 else contextlib.nullcontext()


def _train_in(run: Run, folder: pathlib.Path) -> dict[str, Any]:
    with _phase("initializing the network"):
        start = start_of(run, folder)
    step = int(start.state.step)
    cluster.meet()
    if not cluster.same_everywhere(step):
        raise JaxposeError(
            f"process {jax.process_index()} found step {step} in {folder}, others another one; "
            "give all processes the same workdir on a disk that they share"
        )
    first = jax.process_index() == 0
    with contextlib.ExitStack() as stack:
        run_log = RunLog(folder, step=step, num_steps=run.num_steps, active=first)
        stack.callback(run_log.close)
        preemption = stack.enter_context(cluster.Preemption())
        managers = {}
        for name, keep in (("latest", 2), ("best", 1)):
            managers[name] = checkpoint.open_manager(folder / "checkpoints" / name, keep=keep)
            stack.callback(checkpoint.finish, managers[name])
        for note in start.notes:
            run_log.say(note)
        loop = Loop(run, run_log, managers, start)
        cluster.meet()
        stopped = loop.go(preemption) if step < run.num_steps else None
        score = float(unreplicate(loop.state.best_score))
        return {
            "step": loop.step,
            "num_steps": run.num_steps,
            "score": score if score > -math.inf else None,
            "stopped": stopped,
        }
