"""``jaxpose calibrate CHECKPOINT FILE.npz``: fit the confidence of a checkpoint."""

from jaxpose.cli.options import CHECKPOINT
from jaxpose.paths import local_path, stored_path


def add(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "calibrate",
        help="calibrate the confidence of a checkpoint on labeled people",
        description="Fits the probability that a predicted joint is within half a head size of the "
        "truth, prints how well it separates correct from incorrect joints, and writes the "
        "calibrated checkpoint as a packed file.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=stored_path, help=CHECKPOINT)
    parser.add_argument(
        "file", metavar="FILE.npz", type=local_path, help="packed checkpoint to write"
    )
    parser.add_argument(
        "--data",
        metavar="NAME:SPLIT",
        default="mpii/crops:validation",
        help="prepared split with head sizes, not used for training the network (default: "
        "%(default)s)",
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
        arguments.checkpoint, arguments.file, data=arguments.data, data_dir=arguments.data_dir
    )
