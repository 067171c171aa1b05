"""The demo: rendered people, a small network, a few minutes on two cores.

    make demo

or its two steps by hand:

    python -m tfds_builders synthetic_people --data_dir runs/data
    python launch.py --config=configs/synthetic.py --config.data_dir=runs/data --workdir=runs/demo
"""

import ml_collections

from configs import common


def get_config(preset: str = "small") -> ml_collections.ConfigDict:
    """The demo's config; "tiny" runs in seconds, for tests."""
    config = common.get_config()
    config.data = (("synthetic_people", 1.0),)
    config.validation = (("synthetic_people", "test", "scale", 1.0),)
    config.test = (("synthetic_people", "test", "scale"),)
    config.crop = "scale"
    config.image_size = 128
    config.network.width = 144
    config.network.num_blocks = 2
    config.augmentation = dict(rotation=15.0, scale=(0.9, 1.15), flip=True, color=0.0, shift=0.0)
    config.optimizer.schedule = "cosine"
    config.ema = 0.99
    config.batch_size = 16
    config.num_epochs = 6
    config.eval.batch_size = 50
    if preset == "tiny":
        config.network.width = 36
        config.network.num_blocks = 1
        config.image_size = 64
        config.num_epochs = 2
        config.log_every_steps = 2
    elif preset != "small":
        raise ValueError(f"no preset {preset!r}; choose small or tiny")
    return config
