"""``jaxpose calibrate CHECKPOINT FILE.npz``: fit the confidence of a checkpoint."""

from jaxpose.cli.options import CHECKPOINT
from jaxpose.paths import local_path, stored_path


def add(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "calibrate",
        help="calibrate the confidence of a checkpoint on labeled people or other objects",
        description="Calibrates the confidence, which is the probability that a predicted joint is "
        "close to its true position: within half a head size, or as set by --unit. Prints how well "
        "the confidence separates correct from incorrect joints, and writes the calibrated "
        "checkpoint as a packed file.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=stored_path, help=CHECKPOINT)
    parser.add_argument(
        "file", metavar="FILE.npz", type=local_path, help="packed checkpoint to write"
    )
    parser.add_argument(
        "--data",
        metavar="NAME:SPLIT",
        default="mpii/crops:validation",
        help="split of a prepared data set; the network must not have been trained on it (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--unit",
        default="auto",
        help="a joint is correct within 0.5 of the head size (head), 0.1 of the box's diagonal "
        "(box), or 0.2 of the true distance between two joints (for example nose,tail_tip); auto, "
        "the default, is head if all objects have a head size, otherwise box",
    )
    parser.add_argument(
        "--data_dir",
        type=stored_path,
        default="",
        help="folder of the prepared data sets (default: TFDS's own)",
    )
    parser.set_defaults(run=run)


def run(arguments) -> None:
    """Calibrate a checkpoint."""
    from jaxpose.predict import calibrate

    calibrate.run(
        arguments.checkpoint,
        arguments.file,
        data=arguments.data,
        data_dir=arguments.data_dir,
        unit=arguments.unit,
    )
