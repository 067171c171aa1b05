"""A config, opened: its data sets, network and optimiser."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import optax

from jaxpose import checkpoint, evaluate, geometry, input_pipeline, optimizer, protocols
from jaxpose.augment import Augmentation
from jaxpose.errors import JaxposeError
from jaxpose.network import STRIDE, PoseNet, make_net
from jaxpose.skeleton import skeleton_of
from jaxpose.train_step import DEVICES

if TYPE_CHECKING:
    import ml_collections

# Counts of a config that must be 1 or more.
COUNTS = (
    "batch_size", "accumulation_steps", "num_epochs", "log_every_steps", "validate_every_epochs",
)  # fmt: skip
# Rows of a config: how to write one, and the types of its columns.
ROWS = {
    "data": ("(name, weight) or (name, weight, crop)", [(str, float), (str, float, str)]),
    "validation": ("(name, split, crop, weight)", [(str, str, str, float)]),
    "test": ("(name, split, crop)", [(str, str, str)]),
}


class Run(NamedTuple):
    """What a config describes, opened; built once, then only read.

    Attributes:
      config: as the command gave it.
      joints: names, the network's order.
      arguments: the network's, as a checkpoint records them.
      net: with batch norm synchronised over the devices.
      rule: how crops are cut, as a checkpoint records it.
      rules: how those of each training split are.
      training: (split, weight) pairs.
      validation: (split, crop's name, weight in the score).
      steps_per_epoch, num_steps: of the global batch.
      schedule: step to learning rate, without the plateau's scale.
      optimizer: Optax's.
      plateau_init, plateau_update: of `make_plateau`.
    """

    config: "ml_collections.ConfigDict"
    joints: tuple[str, ...]
    arguments: dict[str, Any]
    net: PoseNet
    rule: geometry.CropRule
    rules: list[geometry.CropRule]
    training: list[tuple[input_pipeline.PreparedSplit, float]]
    validation: list[tuple[input_pipeline.PreparedSplit, str, float]]
    steps_per_epoch: int
    num_steps: int
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    plateau_init: Any
    plateau_update: Any


def open_run(config: "ml_collections.ConfigDict") -> Run:
    """Open the data sets of a config and build its network and optimiser."""
    training, rules = open_training(config)
    validation = open_validation(config)
    if config.report:
        open_tests(config)  # the run's end scores them; what is missing is said at its start
    steps_per_epoch = input_pipeline.steps_per_epoch(training, config.batch_size)
    if steps_per_epoch < 1:
        raise JaxposeError(
            f"batch_size is {config.batch_size}, more than the persons of an epoch; lower it"
        )
    num_steps = steps_per_epoch * config.num_epochs
    schedule = optimizer.make_schedule(
        config.optimizer.schedule,
        config.optimizer.learning_rate,
        num_steps=num_steps,
        warmup_steps=round(config.optimizer.warmup_epochs * steps_per_epoch),
    )
    plateau_init, plateau_update = optimizer.make_plateau(**config.plateau.to_dict())
    arguments = network_arguments(config)
    return Run(
        config=config,
        joints=tuple(config.joints),
        arguments=arguments,
        net=make_net(
            arguments,
            dtype=config.dtype,
            axis_name=DEVICES,
            rematerialise=config.rematerialise,
        ),
        rule=evaluate.crop_rule(config.crop),
        rules=rules,
        training=training,
        validation=validation,
        steps_per_epoch=steps_per_epoch,
        num_steps=num_steps,
        schedule=schedule,
        optimizer=optimizer.make_optimizer(
            config.optimizer.name,
            schedule,
            weight_decay=config.optimizer.weight_decay,
            clip_norm=config.optimizer.clip_norm,
        ),
        plateau_init=plateau_init,
        plateau_update=plateau_update,
    )


def open_training(
    config: "ml_collections.ConfigDict",
) -> tuple[list[tuple[input_pipeline.PreparedSplit, float]], list[geometry.CropRule]]:
    """The training splits of `config.data` with their weights, and their crop rules."""
    if not config.data:
        raise JaxposeError("config.data is empty; name a data set to train on")
    opened, rules = [], []
    for entry in config.data:
        name, weight, crop = (*entry, config.crop)[:3]
        split = input_pipeline.open_split(name, "train", data_dir=config.data_dir)
        opened.append((split, float(weight)))
        rules.append(evaluate.crop_rule(crop))
    return opened, rules


def open_validation(
    config: "ml_collections.ConfigDict",
) -> list[tuple[input_pipeline.PreparedSplit, str, float]]:
    """The splits of `config.validation`, each with its crop's name and weight in the score."""
    opened = []
    for name, split, crop, weight in config.validation:
        evaluate.crop_rule(crop)
        opened.append(
            (input_pipeline.open_split(name, split, data_dir=config.data_dir), crop, float(weight))
        )
    return opened


def open_tests(
    config: "ml_collections.ConfigDict",
) -> list[tuple[input_pipeline.PreparedSplit, str]]:
    """The splits of `config.test`, each with its crop's name."""
    return [
        (input_pipeline.open_split(name, split, data_dir=config.data_dir), crop)
        for name, split, crop in config.test
    ]


def check_config(config: "ml_collections.ConfigDict") -> None:
    """Raise a JaxposeError for values that cannot work, alone or together."""
    check_evaluation(config)
    skeleton_of(config.joints)  # no name twice
    for name in COUNTS:
        if config[name] < 1:
            raise JaxposeError(f"{name} is {config[name]}; it must be 1 or more")
    devices = jax.device_count()
    parts = devices * config.accumulation_steps
    if config.batch_size % parts:
        several = config.accumulation_steps > 1
        times = f" times {config.accumulation_steps} accumulation steps" if several else ""
        raise JaxposeError(
            f"batch_size {config.batch_size} is not divisible by {devices} devices{times}; the "
            f"next one that is: {math.ceil(config.batch_size / parts) * parts}"
        )
    if config.image_size < STRIDE or config.image_size % STRIDE:
        raise JaxposeError(
            f"image_size {config.image_size} is not divisible by {STRIDE}; the next one that is: "
            f"{max(math.ceil(config.image_size / STRIDE), 1) * STRIDE}"
        )
    if not 0.0 <= config.ema < 1.0:
        raise JaxposeError(f"ema is {config.ema}; it must be at least 0 and below 1")
    scale = config.augmentation.scale
    if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise JaxposeError(f"augmentation.scale is {scale}; write (low, high), both above 0")


def check_evaluation(config: "ml_collections.ConfigDict") -> None:
    """Raise a JaxposeError for values with which nothing can be scored."""
    check_rows(config)
    if config.dtype not in ("float32", "bfloat16"):
        raise JaxposeError(f"dtype is {config.dtype!r}; choose 'float32' or 'bfloat16'")
    if config.score not in protocols.PROTOCOLS:
        raise JaxposeError(
            f"score is {config.score!r}; choose one of {', '.join(protocols.PROTOCOLS)}"
        )
    if config.eval.batch_size < 1:
        raise JaxposeError(f"eval.batch_size is {config.eval.batch_size}; it must be 1 or more")
    if config.eval.checkpoint not in checkpoint.KINDS:
        raise JaxposeError(
            f"eval.checkpoint is {config.eval.checkpoint!r}; choose one of "
            f"{', '.join(checkpoint.KINDS)}"
        )
    evaluate.crop_sizes(config.eval.num_crops)
    for *_, crop in config.test:
        evaluate.crop_rule(crop)


def check_rows(config: "ml_collections.ConfigDict") -> None:
    """Raise a JaxposeError for a row of data, validation or test that is none."""
    for field, (form, kinds) in ROWS.items():
        for row in config[field]:
            columns = row if isinstance(row, tuple | list) else (row,)
            found = tuple(float if type(value) is int else type(value) for value in columns)
            if found not in kinds:
                raise JaxposeError(f"config.{field} has {row!r}; write rows of {form}")


def network_arguments(config: "ml_collections.ConfigDict") -> dict[str, Any]:
    """`PoseNet`'s arguments as a plain dict, as a checkpoint records them."""
    return {"num_joints": len(config.joints), **config.network.to_dict()}


def augmentation_of(config: "ml_collections.ConfigDict") -> Augmentation:
    """The config's augmentation as plain values."""
    values = config.augmentation.to_dict()
    return Augmentation(**{**values, "scale": tuple(values["scale"])})
