"""Set up a run from a config: data sets, network, optimizer, and the initial state.

Training starts from random variables, from the variables of another network (``init_from``) or from
the run's last checkpoint.
"""

import contextlib
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import optax

from jaxpose import geometry
from jaxpose.checkpoints import store
from jaxpose.checkpoints.metadata import CheckpointMetadata, read_json
from jaxpose.checkpoints.transfer import Transfer, transfer_variables
from jaxpose.data import prepared, sampling
from jaxpose.data.batches import labeled_joints
from jaxpose.errors import JaxposeError
from jaxpose.evaluation.evaluate import open_test_rows
from jaxpose.network import PoseNet, initial_variables, make_net
from jaxpose.runtime.devices import DEVICES
from jaxpose.skeleton import Skeleton, joint_index, skeleton_of
from jaxpose.training import optimizer
from jaxpose.training.config import data_rows
from jaxpose.training.step import TrainState, create_train_state

if TYPE_CHECKING:
    import ml_collections

MAX_STEPS = 2**31 - 1  # steps are counted in int32


class Run(NamedTuple):
    """A config with its data sets, network and optimizer; read-only.

    Attributes:
      config: the config.
      joints: joint names in the network's order, from the config or the first training split.
      arguments: arguments of the network, as a checkpoint records them.
      net: the network, with batch norm synchronized over the devices.
      rule: crop rule that a checkpoint records.
      rules: crop rule of each training split.
      category: name of the category that the training splits share.
      training: (split, weight) pairs.
      validation: (split, name of the crop rule, weight in the metric) triples.
      steps_per_epoch, num_steps: numbers of global batches.
      notes: lines about the config that a user should know, to be logged.
      schedule: learning rate as a function of the step, without the plateau's scale.
      optimizer: Optax optimizer.
      plateau_update: from ``make_plateau``.
    """

    config: "ml_collections.ConfigDict"
    joints: tuple[str, ...]
    arguments: dict[str, Any]
    net: PoseNet
    rule: geometry.CropRule
    rules: list[geometry.CropRule]
    category: str
    training: list[tuple[prepared.PreparedSplit, float]]
    validation: list[tuple[prepared.PreparedSplit, str, float]]
    steps_per_epoch: int
    num_steps: int
    notes: list[str]
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    plateau_update: Callable[[optax.OptState, float], optax.OptState]


def open_run(config: "ml_collections.ConfigDict") -> Run:
    """Open the data sets of a config and build its network and optimizer.

    Raises:
      JaxposeError: a data set cannot be used, or not with the others or the rest of the config.
    """
    training, rules = open_training(config)
    validation = open_validation(config)
    joints = tuple(config.joints) or first_joints(training)
    if not labeled_joints(training, joints).any():
        raise JaxposeError(
            f"no data set of config.data labels a joint of the network ({', '.join(joints)}); "
            "change config.joints, or add a data set that has some of them"
        )
    category = shared_category(training)
    if config.report:
        open_test_rows(config, joints)  # evaluated at the end of the run; fail early
    steps_per_epoch = sampling.steps_per_epoch(training, config.batch_size)
    num_steps = steps_per_epoch * config.num_epochs
    warmup_steps = round(config.optimizer.warmup_epochs * steps_per_epoch)
    for name, steps in (("num_epochs", num_steps), ("optimizer.warmup_epochs", warmup_steps)):
        if steps > MAX_STEPS:
            raise JaxposeError(
                f"{name} is too large: {steps} steps, more than {MAX_STEPS}; lower it, or the "
                "weights of config.data"
            )
    notes = []
    if warmup_steps >= num_steps:
        notes.append(
            f"the warm-up takes {warmup_steps} steps, but the run has {num_steps}: the learning "
            "rate never reaches optimizer.learning_rate; lower optimizer.warmup_epochs"
        )
    schedule = optimizer.make_schedule(
        config.optimizer.schedule,
        config.optimizer.learning_rate,
        num_steps=num_steps,
        warmup_steps=warmup_steps,
    )
    arguments = {"num_joints": len(joints), **config.network.to_dict()}
    return Run(
        config=config,
        joints=joints,
        arguments=arguments,
        net=make_net(
            arguments,
            dtype=config.dtype,
            axis_name=DEVICES,
            remat=config.remat,
        ),
        rule=geometry.crop_rule(config.crop),
        rules=rules,
        category=category,
        training=training,
        validation=validation,
        steps_per_epoch=steps_per_epoch,
        num_steps=num_steps,
        notes=notes,
        schedule=schedule,
        optimizer=optimizer.make_optimizer(
            config.optimizer.name,
            schedule,
            weight_decay=config.optimizer.weight_decay,
            clip_norm=config.optimizer.clip_norm,
        ),
        plateau_update=optimizer.make_plateau(**config.plateau.to_dict()),
    )


def open_training(
    config: "ml_collections.ConfigDict",
) -> tuple[list[tuple[prepared.PreparedSplit, float]], list[geometry.CropRule]]:
    """Open the training splits of ``config.data`` with their weights, and their crop rules."""
    if not config.data:
        raise JaxposeError("config.data is empty; add a data set to train on")
    opened, rules = [], []
    for row in data_rows(config):
        split = prepared.open_split(row.name, "train", data_dir=config.data_dir)
        opened.append((split, row.weight))
        rules.append(geometry.crop_rule(row.crop))
    return opened, rules


def open_validation(
    config: "ml_collections.ConfigDict",
) -> list[tuple[prepared.PreparedSplit, str, float]]:
    """Open the splits of ``config.validation``, each with its crop rule's name and its weight."""
    opened = []
    for name, split, crop, weight in config.validation:
        geometry.crop_rule(crop)
        opened.append(
            (prepared.open_split(name, split, data_dir=config.data_dir), crop, float(weight))
        )
    return opened


def first_joints(training: sampling.WeightedSplits) -> tuple[str, ...]:
    """Return the joints of the first training split that has people."""
    splits = [split for split, _ in training]
    return next((split for split in splits if split.has_people), splits[0]).joints


def shared_category(training: sampling.WeightedSplits) -> str:
    """Return the name of the category that all training splits share.

    Images without people have none.

    Raises:
      JaxposeError: the categories differ.
    """
    names = {split.name: split.category[1] for split, _ in training if split.has_people}
    if len(set(names.values())) > 1:
        listed = ", ".join(f"{name}: {category}" for name, category in names.items())
        raise JaxposeError(
            f"the data sets of config.data have different categories ({listed}), but a network "
            "predicts one category; remove data sets, or rename the category in their annotation "
            "files and prepare them again"
        )
    return next(iter(names.values()), "person")


class Start(NamedTuple):
    """State of a run at its start.

    Attributes:
      state: the training state, as host arrays.
      trained: names of the joints that a data set labels, and of those whose trained output was
        copied from ``init_from``.
      seconds: seconds spent on the run so far.
      notes: lines for the log.
    """

    state: TrainState
    trained: tuple[str, ...]
    seconds: float
    notes: list[str]


def start_of(run: Run, folder: pathlib.Path) -> Start:
    """Resume from the newest checkpoint in the run's folder, or start from scratch.

    Raises:
      JaxposeError: the checkpoints cannot be read, or belong to a different network or to data
        with different joints.
    """
    like = state_of(run, initial_variables(run.net, run.config.seed))
    latest = folder / "checkpoints" / "latest"
    try:
        restored = store.restore_newest(latest, like, free="sums")
    except JaxposeError:
        # Different joints often change the shapes, but are easier to understand.
        for step in store.checkpoint_steps(latest)[:1]:
            with contextlib.suppress(OSError, ValueError):
                path = latest / str(step)
                check_resumed(run, CheckpointMetadata.from_json(read_json(path), path), folder)
        raise
    if restored is None:
        return fresh_start(run)
    state, metadata = restored
    check_resumed(run, metadata, folder)
    return Start(
        state,
        metadata.trained_joints,
        metadata.seconds,
        [f"resumed at step {int(state.step)} of {run.num_steps}"],
    )


def check_resumed(run: Run, metadata: CheckpointMetadata, folder: pathlib.Path) -> None:
    """Raise a JaxposeError if a checkpoint's joints, flip pairs or crop rule are not the run's.

    With ``config.joints = ()`` they depend on the prepared data sets, which may have changed.
    """
    comparisons = (
        ("joints", _listed(metadata.joints), _listed(run.joints)),
        ("flip pairs", _pairs(metadata.flip_pairs), _pairs(skeleton_of_run(run).flip_pairs)),
        ("crop rule", _listed(metadata.crop), _listed(run.rule)),
    )
    for what, theirs, ours in comparisons:
        if theirs != ours:
            raise JaxposeError(
                f"the {what} of the run in {folder} were {theirs}, but its config and data now "
                f"give {ours}; prepare the same data again, or choose another --workdir with "
                f"--config.init_from={folder}, which matches joints by name"
            )


def _listed(values: Sequence) -> str:
    return ", ".join(map(str, values)) or "none"


def _pairs(pairs: Sequence[Sequence[str]]) -> str:
    """List pairs; their order and that of the two sides do not matter."""
    return _listed(sorted(" - ".join(sorted(pair)) for pair in pairs))


def fresh_start(run: Run) -> Start:
    """Start from random variables, or from those of ``config.init_from`` that match.

    Raises:
      JaxposeError: no variable of ``init_from`` matches, or there is no such checkpoint.
    """
    variables = initial_variables(run.net, run.config.seed)
    trained = labeled_joints(run.training, run.joints)
    notes = []
    if run.config.init_from:
        source, metadata, folder = store.load(run.config.init_from)
        variables, report = transfer_variables(variables, run.net, run.joints, source, metadata)
        if not report.taken:
            raise JaxposeError(
                f"no variable in {folder} matches this network; check config.init_from"
            )
        notes.append(f"init_from {folder}: {len(report.taken)} variables copied")
        notes += [f"  {note}" for note in report.notes]
        notes += [f"  {name} keeps its initial values: {why}" for name, why in report.fresh.items()]
        trained = trained | copied_joints(run, report, metadata)
    never = [name for name, there in zip(run.joints, trained, strict=True) if not there]
    if never:
        notes.append(f"joints without labels in the training data: {', '.join(never)}")
    names = tuple(name for name, there in zip(run.joints, trained, strict=True) if there)
    return Start(state_of(run, variables), names, 0.0, notes)


def copied_joints(run: Run, report: Transfer, metadata: CheckpointMetadata) -> np.ndarray:
    """Return which joints were trained in a checkpoint and have their output copied from it.

    Args:
      run: the run.
      report: what was copied.
      metadata: the checkpoint's metadata.

    Returns:
      bool [J]; false for all joints if the heat maps of the last block, which give the prediction,
      were not copied.
    """
    heatmaps = f"params/block{run.net.num_blocks}_b/heatmaps"
    trained = joint_index(metadata.trained_joints, run.joints) >= 0
    return trained & (heatmaps in report.taken)


def state_of(run: Run, variables: dict) -> TrainState:
    """Make the state before the first step, as host arrays."""
    state = create_train_state(variables, run.optimizer, ema=run.config.ema > 0)
    return jax.tree.map(np.asarray, state)


def complete_split(run: Run) -> prepared.PreparedSplit | None:
    """Return the first training split that has all joints of the network."""
    splits = (split for split, _ in run.training)
    return next((split for split in splits if set(run.joints) <= set(split.joints)), None)


def skeleton_of_run(run: Run) -> Skeleton:
    """Return the flip pairs and limbs of the network's joints.

    They come from the metadata of the first training split that has all of these joints, or are
    derived from the joints' names if there is no such split.
    """
    split = complete_split(run)
    if split is None:
        return skeleton_of(run.joints)
    pairs, limbs = (
        tuple(tuple(pair) for pair in pairs if set(pair) <= set(run.joints))
        for pairs in (split.flip_pairs, split.limbs)
    )
    return Skeleton(run.joints, pairs, limbs)


def metadata_of(
    run: Run, *, trained: tuple[str, ...], step: int, seconds: float
) -> CheckpointMetadata:
    """Return the metadata of this run's checkpoint of a step."""
    skeleton = skeleton_of_run(run)
    return CheckpointMetadata(
        network=run.arguments,
        joints=run.joints,
        flip_pairs=skeleton.flip_pairs,
        limbs=skeleton.limbs,
        trained_joints=trained,
        image_size=run.config.image_size,
        crop=run.rule,
        step=step,
        seconds=round(seconds, 1),
        category=run.category,
    )
