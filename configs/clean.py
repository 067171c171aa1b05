"""Train on cleanly labeled people (LSP, MPII, COCO, PARSE), plus LSPET at a lower weight.

    python -m tfds_builders lsp --source PATH
    python -m tfds_builders lspet --source PATH
    python -m tfds_builders mpii/crops --source PATH MORE
    python -m tfds_builders coco --source COCO.json --images DIR --name persons --holdout 0.1
    python -m tfds_builders coco --source PARSE.json --images DIR --name parse
    python -m tfds_builders backgrounds --source DIR
    python launch.py --config=configs/clean.py:small --workdir=runs/clean

This trains from random weights. The shipped network `small` continues from the stages of
configs/combined.py, with `--config.init_from=runs/small128 --config.num_epochs=9`. PATH and MORE
are folders or archives of MPII's release.

Crops use LSP's rule (a square around the joints' box; its side is the box's longer side / 0.76) or
the whole image. A loss on the context maps' positions and a divergence of the part maps from
Gaussians keep the part maps localized. Images without people, and crops that miss the person, train
the joint probabilities. The best checkpoint is selected by the mean PCK@0.2 of the four validation
splits.

Presets:
  small: width 288, K = 2, 128x128: 1.2 M parameters, for a CPU.
  medium: width 432, K = 4, 192x192, bfloat16: 4.5 M parameters, for a GPU.
"""

import ml_collections

from configs import common
from jaxpose.errors import UsageError


def get_config(preset: str = "small") -> ml_collections.ConfigDict:
    """Return the config of a preset: "small" or "medium"."""
    config = common.get_config()
    config.data = (
        ("lsp/person_centric", 3.0),
        ("lsp/person_centric", 3.0, "image"),
        ("mpii/crops", 3.0),
        ("coco/persons", 3.0),
        ("coco/parse", 4.0),
        ("lspet", 1.0),
        ("backgrounds", 5.0, "image"),
    )
    config.validation = (
        ("lsp/person_centric", "validation", "joints", 1.0),
        ("lsp/person_centric", "validation", "image", 0.0),
        ("lspet", "validation", "joints", 1.0),
        ("mpii/crops", "validation", "joints", 1.0),
        ("coco/persons", "validation", "joints", 1.0),
    )
    config.test = (("lsp/person_centric", "test", "image"),)
    config.augmentation.update(rotation=40.0, scale=(0.7, 1.35), color=0.3, shift=0.06)
    config.augmentation.update(stray=0.1, turned=0.1, erase=0.3)
    config.context_weight = 0.3
    config.heatmap_weight = 0.05
    config.probability_weight = 0.05
    common.use_adam(config, warmup_epochs=0.2)
    config.plateau.patience = 1000  # disable the plateau rule; the cosine schedule is enough
    config.log_every_steps = 100
    config.eval.batch_size = 64
    if preset == "small":
        config.network.update(common.SMALL)
        config.network.window = 5
        config.image_size = 128
        config.num_epochs = 30
        config.optimizer.learning_rate = 7e-4
    elif preset == "medium":
        config.network.update(common.MEDIUM)
        config.network.window = 7
        config.image_size = 192
        config.dtype = "bfloat16"
        config.batch_size = 128
        config.num_epochs = 60
        config.optimizer.learning_rate = 1.5e-3
        config.optimizer.weight_decay = 0.01
    else:
        raise UsageError(f"no preset {preset!r}; choose small or medium")
    return config
