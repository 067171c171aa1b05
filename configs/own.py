r"""Train on your own images and joints, from a file in COCO's format (docs/own_data.md).

    python -m tfds_builders coco --source ANNOTATIONS.json --images DIR --name own --holdout 0.2
    python launch.py --config=configs/own.py:small --workdir=runs/own

Joints, skeleton and flip pairs are those of the data set. The data set is `coco/own`;
`configs/own.py:small:NAME` selects `coco/NAME` instead. The metric of the split "validation"
selects the best checkpoint, and the report evaluates this split, too; set --config.test to evaluate
another split. Crops are squares around the boxes of the annotations.

The preset small starts from the network `small` that ships with jaxpose, with joints matched by
name. This is recommended for up to a few thousand objects. With an empty value
(--config.init_from=), training starts from random weights.

Presets:
  small: width 288, K = 2, 128x128: 1.2 M parameters, for a CPU.
  medium: width 432, K = 4, 192x192, bfloat16: 4.5 M parameters, for a GPU, from random weights.
"""

import ml_collections

from configs import common
from jaxpose.errors import UsageError


def get_config(preset: str = "small") -> ml_collections.ConfigDict:
    """Return the config of a preset: "small" or "medium", optionally followed by ":NAME"."""
    size, _, name = preset.partition(":")
    name = f"coco/{name or 'own'}"
    config = common.get_config()
    config.data = ((name, 1.0),)
    config.validation = ((name, "validation", "box", 1.0),)
    config.test = ((name, "validation", "box"),)
    config.joints = ()  # the data set's
    config.crop = "box"
    config.metric = "auto"
    config.augmentation.update(rotation=30.0, scale=(0.75, 1.3), color=0.3, shift=0.06)
    config.context_weight = 0.3
    config.heatmap_weight = 0.05
    config.probability_weight = 0.05
    common.use_adam(config, warmup_epochs=1.0)
    config.plateau.patience = 1000  # disable the plateau rule; the cosine schedule is enough
    config.ema = 0.99
    config.batch_size = 8
    config.num_epochs = 60
    if size == "small":
        config.network.update(common.SMALL)
        config.network.window = 5
        config.image_size = 128
        config.init_from = "small"
        config.optimizer.learning_rate = 7e-4
    elif size == "medium":
        config.network.update(common.MEDIUM)
        config.network.window = 7
        config.image_size = 192
        config.dtype = "bfloat16"
        config.batch_size = 32
        config.num_epochs = 120
        config.optimizer.learning_rate = 1e-3
    else:
        raise UsageError(f"no preset {preset!r}; choose small or medium")
    return config
