"""Checks of a config before a run, and conversion of its values."""

import functools
import math
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from jaxpose import network
from jaxpose.data.augment import Augmentation
from jaxpose.errors import JaxposeError
from jaxpose.evaluation.config import RowForm, check_distinct, check_evaluation, check_rows
from jaxpose.network import SIZE_MULTIPLE
from jaxpose.skeleton import skeleton_of

if TYPE_CHECKING:
    import ml_collections

DATA_ROW: RowForm = (
    "(name, weight) or (name, weight, crop)",
    [(str, float), (str, float, str)],
)
VALIDATION_ROW: RowForm = ("(name, split, crop, weight)", [(str, str, str, float)])

# Smallest and largest value of numeric fields; infinity itself is not valid. Without a limit, some
# typing errors would be found only when memory or process numbers run out.
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "image_size": (SIZE_MULTIPLE, 4096),
    "workers": (0, 1024),
    "batch_size": (1, math.inf),  # limited by the persons of an epoch
    "accumulation_steps": (1, math.inf),
    "num_epochs": (1, math.inf),  # limited by the number of steps
    "log_every_steps": (1, math.inf),
    "validate_every_epochs": (1, math.inf),
    "checkpoint_every_minutes": (0, math.inf),
    "max_minutes": (0, math.inf),
    "probability_weight": (0, math.inf),
    "context_weight": (0, math.inf),
    "heatmap_weight": (0, math.inf),
    "augmentation.rotation": (0, 360),
    "augmentation.color": (0, 10),
    "augmentation.shift": (0, 10),
    "augmentation.stray": (0, 1),
    "augmentation.turned": (0, 1),
    "augmentation.erase": (0, 1),
    **{
        f"network.{name}": limits for name, limits in network.RANGES.items() if name != "num_joints"
    },
    "optimizer.learning_rate": (0, math.inf),
    "optimizer.warmup_epochs": (0, 1e9),
    "optimizer.weight_decay": (0, math.inf),
    "optimizer.clip_norm": (0, math.inf),
    "plateau.factor": (0, 1),
    "plateau.patience": (1, 2**31 - 1),  # validations are counted in int32
    "plateau.min_delta": (0, math.inf),
    "plateau.min_scale": (0, 1),
    "ema": (0, 1),
    "eval.batch_size": (1, 65_536),
}
# Fields without a range.
OTHER_FIELDS = (
    *("data", "validation", "test", "data_dir", "joints", "crop", "dtype", "remat", "init_from"),
    *("augmentation.scale", "augmentation.flip", "network.grid", "optimizer.name"),
    *("optimizer.schedule", "frozen_norm", "metric", "report"),
    *("eval.flip_test", "eval.num_crops", "eval.checkpoint"),
)
MAX_SCALE = 100.0  # of augmentation.scale


def check_fields(config: "ml_collections.ConfigDict") -> None:
    """Raise a JaxposeError for a missing field, or a number that is outside of ``RANGES``."""
    for name in (*OTHER_FIELDS, *RANGES):
        _field(config, name)
    for name, (low, high) in RANGES.items():
        check_range(name, _field(config, name), low, high)


def _field(config: "ml_collections.ConfigDict", name: str) -> Any:
    try:
        return functools.reduce(operator.getitem, name.split("."), config)
    except (KeyError, TypeError):
        section, _, field = name.rpartition(".")
        advice = f"start from configs/common.py, and set single fields (config.{name} = ...)"
        if section:
            advice = (
                f"set single fields (config.{name} = ...), because config.{section} = ... removes "
                "all others"
            )
        raise JaxposeError(f"the config lacks the field {name}; {advice}") from None


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Raise a JaxposeError if a field's value is not a finite number from ``low`` to ``high``."""
    if not isinstance(value, int | float) or not low <= value <= high or value == math.inf:
        wanted = f"{low} or more, and finite" if high == math.inf else f"from {low} to {high}"
        raise JaxposeError(f"{name} is {value!r}; it must be {wanted}")


def check_config(config: "ml_collections.ConfigDict") -> None:
    """Raise a JaxposeError for values that are invalid on their own or in combination."""
    check_fields(config)
    check_evaluation(config)
    check_rows(config, "data", DATA_ROW)
    check_rows(config, "validation", VALIDATION_ROW)
    check_distinct(config, "validation")
    for name, split, _, weight in config.validation:
        check_range(f"the weight of {name} {split} in config.validation", weight, 0, math.inf)
    unnamed = [name for name in config.joints if not isinstance(name, str)]
    if unnamed:
        raise JaxposeError(f"config.joints contains {unnamed[0]!r}; write names, in quotes")
    lists = [name for name in config.joints if "," in name]
    if lists:
        raise JaxposeError(
            f"config.joints contains the name {lists[0]!r}; write a list of names as "
            '--config.joints=\'("nose", "tail")\''
        )
    skeleton_of(config.joints)  # raises an error if a name occurs twice
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
    if size % by:
        raise JaxposeError(
            f"image_size {size} is not divisible by {by}; use {math.ceil(size / by) * by}"
        )
    if not 0.0 <= config.ema < 1.0:
        raise JaxposeError(f"ema is {config.ema}; it must be at least 0 and below 1")
    scale = config.augmentation.scale
    valid = len(scale) == 2 and all(isinstance(value, int | float) for value in scale)
    if not valid or not 1 / MAX_SCALE <= scale[0] <= scale[1] <= MAX_SCALE:
        raise JaxposeError(
            f"augmentation.scale is {scale}; write (low, high), with {1 / MAX_SCALE:g} <= low <= "
            f"high <= {MAX_SCALE:g}"
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
