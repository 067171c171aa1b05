r"""A custom joint set: a small network with five joints on drawn stick figures (docs/own_data.md).

Prepare the data, then train::

    python -m examples.five_joints --data_dir runs/data
    python launch.py --config=examples/five_joints/config.py --config.data_dir=runs/data \
        --workdir=runs/five_joints
"""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
    """Return the config; its joints are matched to the data set's by name."""
    config = common.get_config()
    config.data = (("five_joints", 1.0),)
    config.validation = (("five_joints", "validation", "scale", 1.0),)
    config.test = (("five_joints", "test", "scale"),)
    config.joints = ("head_top", "right_wrist", "left_wrist", "right_ankle", "left_ankle")
    config.metric = "mpii-pckh"  # the figures have a head_size
    config.crop = "scale"
    config.image_size = 64
    config.augmentation.rotation = 20.0
    config.augmentation.scale = (0.9, 1.2)
    # Red is right and blue is left.
    config.augmentation.color = 0.0
    config.augmentation.flip = False
    config.network.width = 36
    config.network.num_blocks = 1
    config.num_epochs = 8
    config.eval.batch_size = 100
    return config
