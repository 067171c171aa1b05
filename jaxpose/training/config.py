"""Checks of a config before a run, and conversion of its values."""

import math
from typing import TYPE_CHECKING, NamedTuple

import jax

from jaxpose.data.augment import Augmentation
from jaxpose.errors import JaxposeError
from jaxpose.evaluation.config import RowForm, check_evaluation, check_rows
from jaxpose.network import SIZE_MULTIPLE
from jaxpose.skeleton import skeleton_of

if TYPE_CHECKING:
    import ml_collections

DATA_ROW: RowForm = (
    "(name, weight) or (name, weight, crop)",
    [(str, float), (str, float, str)],
)
VALIDATION_ROW: RowForm = ("(name, split, crop, weight)", [(str, str, str, float)])

# Counts of a config that must be 1 or more.
COUNTS = (
    "batch_size", "accumulation_steps", "num_epochs", "log_every_steps", "validate_every_epochs",
)  # fmt: skip


def check_config(config: "ml_collections.ConfigDict") -> None:
    """Raise a JaxposeError for values that are invalid on their own or in combination."""
    check_evaluation(config)
    check_rows(config, "data", DATA_ROW)
    check_rows(config, "validation", VALIDATION_ROW)
    skeleton_of(config.joints)  # raises an error if a name occurs twice
    for name in COUNTS:
        if config[name] < 1:
            raise JaxposeError(f"{name} is {config[name]}; it must be 1 or more")
    devices = jax.device_count()
    parts = devices * config.accumulation_steps
    if config.batch_size % parts:
        several = config.accumulation_steps > 1
        times = f" times accumulation_steps ({config.accumulation_steps})" if several else ""
        raise JaxposeError(
            f"batch_size {config.batch_size} is not divisible by the number of devices ({devices})"
            f"{times}; use {math.ceil(config.batch_size / parts) * parts}"
        )
    size, by = config.image_size, SIZE_MULTIPLE
    if size < by or size % by:
        raise JaxposeError(
            f"image_size {size} is not divisible by {by}; use {max(math.ceil(size / by), 1) * by}"
        )
    if not 0.0 <= config.ema < 1.0:
        raise JaxposeError(f"ema is {config.ema}; it must be at least 0 and below 1")
    scale = config.augmentation.scale
    if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise JaxposeError(
            f"augmentation.scale is {scale}; write (low, high), with 0 < low <= high"
        )
    for name in ("stray", "turned", "erase"):
        if not 0 <= config.augmentation[name] <= 1:
            raise JaxposeError(
                f"augmentation.{name} is {config.augmentation[name]}; it is a fraction, from 0 to 1"
            )
    for name in ("rotation", "color", "shift"):
        if not config.augmentation[name] >= 0:
            raise JaxposeError(
                f"augmentation.{name} is {config.augmentation[name]}; it must be 0 or more"
            )
    if config.context_weight and not config.network.num_context_maps:
        raise JaxposeError(
            "context_weight needs context maps, but network.num_context_maps is 0; set "
            "context_weight to 0, or network.num_context_maps to 1 or more"
        )


class DataRow(NamedTuple):
    """A data set to train on.

    Attributes:
      name: name with its configuration, such as ``"lsp/person_centric"``.
      weight: average number of times each person is drawn per epoch.
      crop: name of the crop rule.
    """

    name: str
    weight: float
    crop: str


def data_rows(config: "ml_collections.ConfigDict") -> list[DataRow]:
    """Return the checked rows of ``config.data``; a row without a crop gets ``config.crop``."""
    check_rows(config, "data", DATA_ROW)
    rows = ((*row, config.crop)[:3] for row in config.data)
    return [DataRow(name, float(weight), crop) for name, weight, crop in rows]


def augmentation_of(config: "ml_collections.ConfigDict") -> Augmentation:
    """Return the config's augmentation as plain values."""
    values = config.augmentation.to_dict()
    return Augmentation(**{**values, "scale": tuple(values["scale"])})
