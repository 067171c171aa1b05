"""Train on MPII: the paper's Table 5 network (section 4.1), evaluated by PCKh on validation.

    python -m tfds_builders mpii/crops --source PATH
    python -m tfds_builders mpii/full --source PATH
    python launch.py --config=configs/mpii.py --workdir=runs/mpii
    python launch.py --config=configs/mpii.py --workdir=runs/mpii --mode=eval

The network has K = 8 blocks and 256x256 crops; it is trained with batch size 16 for 120 epochs.
RMSProp starts with learning rate 1e-3, which is multiplied by 0.4 when PCKh stops improving. The
paper's training took three days on one Tesla K20. No result of this config has been measured.
"""

import ml_collections

from configs import common
from jaxpose.errors import UsageError


def get_config(preset: str = "full") -> ml_collections.ConfigDict:
    """Return the config of the only preset, "full"."""
    config = common.get_config()
    config.data = (("mpii/crops", 1.0),)
    config.validation = (("mpii/crops", "validation", "scale", 1.0),)
    config.test = (("mpii/full", "validation", "scale"),)
    config.crop = "scale"
    config.metric = "mpii-pckh"
    if preset != "full":
        raise UsageError(f"no preset {preset!r}; choose full")
    return config
