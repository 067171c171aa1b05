"""Options of the command that only this data set has."""

import argparse

from tfds_builders.sources import local_path, path_option


def add_options(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    group = parser.add_argument_group("coco")
    group.add_argument(
        "--name", dest="config_name", default="", help="name of the data set: coco/NAME"
    )
    group.add_argument(
        "--images",
        type=path_option("--images"),
        default="",
        help="folder of the images (default: that of the annotation file)",
    )
    group.add_argument(
        "--split",
        nargs="+",
        type=_split,
        default=[],
        metavar="NAME=FILE",
        help="annotation files of several splits, such as train=A.json validation=B.json",
    )
    group.add_argument(
        "--holdout",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="fraction of the training images to use as the validation split",
    )
    group.add_argument(
        "--category",
        metavar="NAME",
        help="category to use (default: person, or the only one with keypoints)",
    )
    group.add_argument(
        "--flip_pair",
        nargs=2,
        action="append",
        metavar=("RIGHT", "LEFT"),
        help="two joints that a horizontal flip exchanges; may be repeated (default: from left and "
        "right in their names)",
    )
    group.add_argument(
        "--limb",
        nargs=2,
        action="append",
        metavar=("JOINT", "JOINT"),
        help="two joints to connect by a line in drawings; may be repeated (default: the file's "
        "skeleton)",
    )
    group.add_argument(
        "--sigmas",
        nargs="+",
        type=float,
        default=[],
        metavar="SIGMA",
        help="OKS sigmas: one for all joints, or one per joint (default: COCO's for its own "
        "joints)",
    )
    group.add_argument(
        "--min_joints",
        type=int,
        default=1,
        metavar="N",
        help="skip persons with fewer labeled joints (default: 1)",
    )
    group.add_argument(
        "--min_side",
        type=float,
        default=0.0,
        metavar="PIXELS",
        help="skip persons whose box's longer side is smaller, in pixels (default: 0)",
    )


def _split(text: str) -> str:
    """Expand the path in NAME=FILE; a text without a path is rejected with the other options."""
    name, _, path = text.partition("=")
    return f"{name}={local_path(path, '--split')}" if path else text
