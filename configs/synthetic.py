"""Train a small network on rendered people, in a few minutes on two cores.

    make demo

or, step by step:

    python -m tfds_builders synthetic_people --data_dir runs/data
    python launch.py --config=configs/synthetic.py --config.data_dir=runs/data --workdir=runs/demo
"""

import ml_collections

from configs import common
from jaxpose.errors import UsageError


def get_config(preset: str = "small") -> ml_collections.ConfigDict:
    """Return the config of a preset: "small", or "tiny", which runs in seconds, for tests."""
    name = "synthetic_people/tiny" if preset == "tiny" else "synthetic_people/demo"
    config = common.get_config()
    config.data = ((name, 1.0),)
    config.validation = ((name, "validation", "scale", 1.0),)
    config.test = ((name, "test", "scale"),)
    config.crop = "scale"
    config.image_size = 64
    config.network.width = 144
    config.network.num_blocks = 2
    # The rendered people already vary in rotation and scale like the test set; stronger
    # augmentation than flipping would make training harder than the test.
    config.augmentation.update(rotation=0.0, scale=(0.95, 1.05), color=0.0)
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 0.05
    config.ema = 0.99
    config.context_weight = 0.3
    # Small batches learn more from the same number of crops.
    config.batch_size = 8
    config.num_epochs = 8
    config.log_every_steps = 100
    config.eval.batch_size = 50
    if preset == "tiny":
        config.network.width = 36
        config.network.num_blocks = 1
        config.num_epochs = 2
        config.eval.batch_size = 8
        config.log_every_steps = 2
    elif preset != "small":
        raise UsageError(f"no preset {preset!r}; choose small or tiny")
    return config
