r"""COCO's people with their 17 joints, in square crops around the ground-truth boxes.

    python -m tfds_builders coco --name person --min_joints 5 --images COCO \
        --split train=COCO/annotations/person_keypoints_train2017.json \
        validation=COCO/annotations/person_keypoints_val2017.json
    python launch.py --config=configs/coco.py:small --workdir=runs/coco
    python launch.py --config=configs/coco.py:small --workdir=runs/coco --mode=eval

COCO is the folder that contains train2017, val2017 and annotations, as downloaded. OKS-AP selects
the best checkpoint and needs the extra `coco` (pycocotools). Boxes come from the annotations, so
the AP measures the pose given a correct box and is higher than with a detector's boxes. People with
fewer than 5 labeled joints (`--min_joints`) are neither trained on nor evaluated.

Presets:
  small: width 288, K = 2, 128x128: 1.2 M parameters, for a CPU.
  full: the paper's network, 256x256, bfloat16, batch 64, for a GPU.
"""

import ml_collections

from configs import common
from jaxpose import skeleton
from jaxpose.errors import UsageError


def get_config(preset: str = "full") -> ml_collections.ConfigDict:
    """Return the config of a preset: "small" or "full"."""
    config = common.get_config()
    config.data = (("coco/person", 1.0),)
    config.validation = (("coco/person", "validation", "box", 1.0),)
    config.test = (("coco/person", "validation", "box"),)
    config.joints = skeleton.COCO.joints
    config.crop = "box"
    config.metric = "oks-ap"
    config.augmentation.update(rotation=40.0, scale=(0.7, 1.35), shift=0.06)
    common.use_adam(config, warmup_epochs=0.2)
    config.plateau.patience = 1000  # disable the plateau rule; the cosine schedule is enough
    config.probability_weight = 0.05
    config.log_every_steps = 100
    config.eval.batch_size = 64
    if preset == "small":
        config.network.update(common.SMALL)
        config.image_size = 128
        config.num_epochs = 10
        config.optimizer.learning_rate = 7e-4
    elif preset == "full":
        config.dtype = "bfloat16"
        config.batch_size = 64
        config.num_epochs = 100
        config.optimizer.learning_rate = 1e-3
    else:
        raise UsageError(f"no preset {preset!r}; choose small or full")
    return config
