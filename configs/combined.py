r"""LSP, LSPET and MPII's training people: the first stages of the shipped networks.

    python -m tfds_builders lsp --source PATH
    python -m tfds_builders lspet --source PATH
    python -m tfds_builders mpii/crops --source PATH MORE
    python launch.py --config=configs/lsp_lspet.py:small --workdir=runs/lsp_small
    python launch.py --config=configs/combined.py:small --workdir=runs/small \
        --config.init_from=runs/lsp_small
    python launch.py --config=configs/combined.py:small --workdir=runs/small128 \
        --config.init_from=runs/small --config.image_size=128 --config.num_epochs=7 \
        --config.optimizer.learning_rate=7e-4 --config.augmentation.rotation=40

All crops use LSP's rule (a square around the joints' box; its side is the box's longer side /
0.76). LSP and MPII have cleaner labels and are drawn more often than LSPET, whose labels are less
accurate. The mean PCK@0.2 of the validation splits of LSP and LSPET selects the best checkpoint and
controls the learning-rate plateau. The next stage is configs/clean.py. PATH and MORE are folders or
archives of MPII's release.

Presets:
  small: width 288, K = 2, 96x96: 1.2 M parameters, for a CPU.
  medium: width 432, K = 4, 192x192, bfloat16.
  full: the paper's network, bfloat16, batch 64.
"""

import ml_collections

from configs import common
from jaxpose.errors import UsageError


def get_config(preset: str = "full") -> ml_collections.ConfigDict:
    """Return the config of a preset: "small", "medium" or "full"."""
    config = common.get_config()
    config.data = (("lsp/person_centric", 6.0), ("lspet", 1.0), ("mpii/crops", 5.0))
    config.validation = (
        ("lsp/person_centric", "validation", "joints", 1.0),
        ("lspet", "validation", "joints", 1.0),
        ("lsp/person_centric", "validation", "image", 0.0),
        ("mpii/crops", "validation", "joints", 0.0),
    )
    config.test = (("lsp/person_centric", "test", "image"),)
    config.augmentation.update(rotation=30.0, scale=(0.75, 1.3), shift=0.06)
    common.use_adam(config, warmup_epochs=0.2)
    config.log_every_steps = 100
    config.eval.batch_size = 64
    if preset == "small":
        config.network.update(common.SMALL)
        config.image_size = 96
        config.num_epochs = 15
        config.optimizer.learning_rate = 1e-3
        config.probability_weight = 0.05
    elif preset in ("medium", "full"):
        config.dtype = "bfloat16"
        config.batch_size = 64
        config.num_epochs = 50
        config.context_weight = 0.3
        config.heatmap_weight = 0.05
        config.probability_weight = 0.05
        config.optimizer.learning_rate = 1e-3
        config.augmentation.rotation = 40.0
        if preset == "medium":
            config.network.update(common.MEDIUM)
            config.image_size = 192
    else:
        raise UsageError(f"no preset {preset!r}; choose small, medium or full")
    return config
