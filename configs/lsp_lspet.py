"""Train on LSP and LSPET, with fixed validation splits held out; test on LSP.

    python -m tfds_builders lsp --source PATH
    python -m tfds_builders lspet --source PATH
    python launch.py --config=configs/lsp_lspet.py:small --workdir=runs/lsp_small
    python launch.py --config=configs/lsp_lspet.py:small --workdir=runs/lsp_small --mode=eval

Presets:
  small: width 288, K = 2, 96x96: 1.2 M parameters, for a CPU.
  full: the paper's network.
"""

import ml_collections

from configs import common
from jaxpose.errors import UsageError


def get_config(preset: str = "full") -> ml_collections.ConfigDict:
    """Return the config of a preset: "small" or "full"."""
    config = common.get_config()
    config.data = (
        ("lsp/person_centric", 3.0),
        ("lsp/person_centric", 3.0, "image"),
        ("lspet", 1.0),
    )
    config.validation = (
        ("lsp/person_centric", "validation", "joints", 1.0),
        ("lspet", "validation", "joints", 1.0),
        ("lsp/person_centric", "validation", "image", 0.0),
    )
    config.test = (("lsp/person_centric", "test", "image"),)
    config.augmentation.scale = (0.85, 1.25)
    if preset == "full":
        config.num_epochs = 70
    elif preset == "small":
        config.network.update(common.SMALL)
        config.image_size = 96
        config.augmentation.rotation = 25.0
        config.augmentation.scale = (0.8, 1.25)
        config.augmentation.shift = 0.05
        config.num_epochs = 6
        common.use_adam(config, warmup_epochs=0.3)
        config.log_every_steps = 100
        config.eval.batch_size = 64
        config.optimizer.learning_rate = 1.5e-3
    else:
        raise UsageError(f"no preset {preset!r}; choose small or full")
    return config
