"""Where a run begins: at drawn variables, at another network's, or at its own last checkpoint."""

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpose import checkpoint
from jaxpose.errors import JaxposeError
from jaxpose.network import initial_variables
from jaxpose.skeleton import joint_index, skeleton_of
from jaxpose.train.run import Run
from jaxpose.train_step import TrainState, create_train_state
from jaxpose.transfer import transfer


class Start(NamedTuple):
    """A run before its next step.

    Attributes:
      state: host arrays.
      trained: names of the joints that ever had a label, those of `init_from` included.
      seconds: spent on the run so far.
      notes: lines to say.
    """

    state: TrainState
    trained: tuple[str, ...]
    seconds: float
    notes: list[str]


def start_of(run: Run, folder: pathlib.Path) -> Start:
    """Go on with the newest checkpoint in the run's folder, or start afresh.

    Raises:
      JaxposeError: checkpoints that cannot be read, or of another network.
    """
    like = state_of(run, initial_variables(run.net, run.config.seed))
    restored = checkpoint.restore_newest(folder / "checkpoints" / "latest", like)
    if restored is None:
        return fresh_start(run)
    state, described = restored
    return Start(
        state,
        tuple(described["trained_joints"]),
        described["seconds"],
        [f"resumed at step {int(state.step)} of {run.num_steps}"],
    )


def fresh_start(run: Run) -> Start:
    """Drawn variables, or those of `config.init_from` as far as they fit.

    Raises:
      JaxposeError: nothing of `init_from` fits, or there is no such checkpoint.
    """
    variables = initial_variables(run.net, run.config.seed)
    trained = set(annotated_joints(run))
    notes = []
    if run.config.init_from:
        source, described, folder = checkpoint.load(run.config.init_from)
        variables, report = transfer(variables, run.arguments, run.joints, source, described)
        if not report.taken:
            raise JaxposeError(f"nothing in {folder} fits this network; check config.init_from")
        notes.append(f"init_from {folder}: {len(report.taken)} variables taken")
        notes += [f"  {note}" for note in report.notes]
        notes += [f"  {name} starts fresh: {why}" for name, why in report.fresh.items()]
        known = joint_index(described["trained_joints"], run.joints) >= 0
        trained |= {name for name, there in zip(run.joints, known, strict=True) if there}
    never = [name for name in run.joints if name not in trained]
    if never:
        notes.append(f"joints that no training data have a label for: {', '.join(never)}")
    names = tuple(name for name in run.joints if name in trained)
    return Start(state_of(run, variables), names, 0.0, notes)


def state_of(run: Run, variables: dict) -> TrainState:
    """The state before the first step, as host arrays."""
    state = create_train_state(variables, run.optimizer, run.plateau_init(), ema=run.config.ema > 0)
    return jax.tree.map(np.asarray, state)


def annotated_joints(run: Run) -> list[str]:
    """Names of the run's joints that a training split annotates."""
    found = np.zeros(len(run.joints), bool)
    for split, _ in run.training:
        place = joint_index(split.joints, run.joints)
        found |= np.where(place >= 0, np.asarray(split.annotated)[place], False)
    return [name for name, there in zip(run.joints, found, strict=True) if there]


def metadata(run: Run, trained: tuple[str, ...], step: int, seconds: float) -> dict[str, Any]:
    """What a checkpoint of this run says of itself."""
    skeleton = skeleton_of(run.joints)
    return {
        "network": run.arguments,
        "joints": list(run.joints),
        "flip_pairs": [list(pair) for pair in skeleton.flip_pairs],
        "limbs": [list(pair) for pair in skeleton.limbs],
        "trained_joints": list(trained),
        "image_size": run.config.image_size,
        "crop": run.rule._asdict(),
        "step": step,
        "seconds": round(seconds, 1),
    }
