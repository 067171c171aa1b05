r"""Fine-tune on LSP a network that was trained on MPII: the paper's Tables 1 to 4 (section 4.1).

    python -m tfds_builders lsp/person_centric --source PATH
    python launch.py --config=configs/lsp_finetune.py:person_centric --workdir=runs/lsp \
        --config.init_from=runs/mpii
    python launch.py --config=configs/lsp_finetune.py:person_centric --workdir=runs/lsp --mode=eval

To start from the authors' weights instead, convert them with `jaxpose convert` and pass the output
folder as --config.init_from; joints are matched by name. Add --config.network.grid=align_corners to
keep their grid. Training takes 70 epochs. The learning rate is 2e-5, multiplied by 0.4 when PCK
stops improving; crops are scaled by 0.85 to 1.25. Presets: person_centric (Tables 3 and 4),
observer_centric (Tables 1 and 2; needs lsp/observer_centric).
"""

import ml_collections

from configs import common
from jaxpose.errors import UsageError


def get_config(preset: str = "person_centric") -> ml_collections.ConfigDict:
    """Return the config of a preset: "person_centric" or "observer_centric"."""
    if preset not in ("person_centric", "observer_centric"):
        raise UsageError(f"no preset {preset!r}; choose person_centric or observer_centric")
    config = common.get_config()
    name = f"lsp/{preset}"
    config.data = ((name, 1.0),)
    config.validation = (
        (name, "validation", "joints", 1.0),
        (name, "validation", "image", 0.0),
    )
    config.test = ((name, "test", "image"), (name, "test", "joints"))
    config.augmentation.scale = (0.85, 1.25)
    config.optimizer.learning_rate = 2e-5
    config.num_epochs = 70
    return config
