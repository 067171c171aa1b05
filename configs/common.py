"""All fields of a config, with the paper's values where the paper gives them (section 4.1).

The other configs start from these values and override some of them. A value given on the command
line, such as `--config.batch_size=32`, takes precedence over the config files. Unknown fields are
rejected, also in a config file.
"""

import ml_collections

from jaxpose import skeleton

# Smaller networks: 1.2 M parameters for a CPU, 4.5 M for a GPU.
SMALL = dict(width=288, num_blocks=2)
MEDIUM = dict(width=432, num_blocks=4)


def get_config() -> ml_collections.ConfigDict:
    """Return the paper's network and training settings; the other configs add data sets."""
    config = ml_collections.ConfigDict()
    config.seed = 0

    # Data: (name/config, weight) or (name/config, weight, crop). With weight w, a person is drawn
    # w times per epoch on average; the default crop is config.crop.
    config.data = ()
    # (name/config, split, crop, weight). The weight is that of the row in the metric that drives
    # the plateau rule and selects the best checkpoint.
    config.validation = ()
    # (name/config, split, crop), for --mode=eval.
    config.test = ()
    config.data_dir = ""  # empty for TFDS's default folder
    config.joints = skeleton.MPII.joints  # () takes those of the first data set
    config.image_size = 256
    config.crop = "joints"  # "scale" (MPII's), "joints" (LSP's training crop), "box", "image"
    config.augmentation = dict(rotation=40.0, scale=(0.7, 1.3), flip=True, color=0.2, shift=0.0)
    config.augmentation.update(stray=0.0, turned=0.0, erase=0.0)
    config.workers = 0  # processes that make batches; 0 uses threads

    config.network = dict(
        num_blocks=8,
        num_context_maps=2,
        alpha=0.8,
        width=576,
        kernel_size=5,
        grid="half_pixel",
        temperature=1.0,
        window=0,
    )
    config.dtype = "float32"
    config.remat = False
    config.init_from = ""  # workdir, checkpoint folder or file, or the name of a shipped network

    config.batch_size = 16  # total over all devices
    config.accumulation_steps = 1
    config.num_epochs = 120
    config.optimizer = dict(
        name="rmsprop",
        learning_rate=1e-3,
        schedule="constant",
        warmup_epochs=0.0,
        weight_decay=0.0,
        clip_norm=0.0,
    )
    config.plateau = dict(factor=0.4, patience=5, min_delta=0.05, min_scale=1e-3)
    config.probability_weight = 0.01  # weight of eq. 8 relative to eq. 7
    config.context_weight = 0.0  # weight of eq. 7 for the positions of the context maps
    config.heatmap_weight = 0.0  # weight of the part maps' divergence from a Gaussian
    config.ema = 0.0  # decay of the averaged parameters; 0 to disable
    config.frozen_norm = False

    # The metric that selects the best checkpoint and drives the plateau rule. "lsp-pck", "lsp-pcp"
    # and "mpii-pckh" are the totals of the paper's protocols. For any joints, there are "pck" (or
    # with a unit, "pck:box"), "oks-ap" and "loss" (of the rows of config.validation). "auto" is
    # "pck" if it can be computed, otherwise "loss".
    config.metric = "lsp-pck"
    config.validate_every_epochs = 1
    config.log_every_steps = 50
    config.checkpoint_every_minutes = 10.0
    config.max_minutes = 0.0  # stop after the epoch that exceeds this limit; 0 for no limit
    config.report = True  # evaluate the test rows at the end and write report.html

    config.eval = dict(batch_size=32, flip_test=False, num_crops=1, checkpoint="best")
    return config.lock()


def use_adam(config: ml_collections.ConfigDict, *, warmup_epochs: float) -> None:
    """Replace the paper's RMSProp by Adam with a cosine schedule, clipping and EMA."""
    config.optimizer.update(name="adam", schedule="cosine", clip_norm=1.0)
    config.optimizer.warmup_epochs = warmup_epochs
    config.ema = 0.999
