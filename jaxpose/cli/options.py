"""Options of several commands."""

import argparse
import math

from jaxpose.checkpoints import DEFAULT_NETWORK
from jaxpose.paths import stored_path

CHECKPOINT = (
    "workdir of a training run, checkpoint folder, packed checkpoint (.npz), or the name of a "
    "network that comes with jaxpose, such as base"
)
CHECKPOINT_OR_DEFAULT = f"{CHECKPOINT} (default: {DEFAULT_NETWORK})"


def add_checkpoint(parser) -> None:
    """Add the option --checkpoint."""
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        type=stored_path,
        help=CHECKPOINT_OR_DEFAULT,
    )


def add_box(parser, **options) -> None:
    """Add the option --box."""
    parser.add_argument("--box", type=_box, metavar="x,y,w,h", **options)


def _box(text: str) -> list[float]:
    box = [number(value) for value in text.split(",")]
    if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a box; give x,y,width,height in pixels")
    return box


def number(text: str) -> float:
    """Convert text to a number; other text gives NaN, which every check rejects."""
    try:
        return float(text)
    except ValueError:
        return math.nan
