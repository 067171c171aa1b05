"""Options of the command that only this data set has."""

import argparse

from tfds_builders.sources import local_path, path_option


def add_options(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    group = parser.add_argument_group("coco")
    group.add_argument(
        "--name",
        default="",
        help="the data set is called coco/NAME (default: the annotation file's name without .json)",
    )
    group.add_argument(
        "--images",
        type=path_option("--images"),
        default="",
        help="folder of the images (default: the annotation file's folder)",
    )
    group.add_argument(
        "--split",
        nargs="+",
        type=_split,
        default=[],
        metavar="NAME=FILE",
        help="one annotation file per split, such as train=A.json validation=B.json",
    )
    group.add_argument(
        "--holdout",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="approximate fraction of the training images to use as the validation split, at "
        "least one image; images of one source_picture stay together",
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
        help="two joints that a horizontal flip exchanges; may be repeated (default: joints whose "
        "names differ only in right and left)",
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
        help="OKS sigmas: one for all joints, or one per joint (default: COCO's sigmas if all "
        "joints are joints of COCO's persons, otherwise none)",
    )
    group.add_argument(
        "--min_joints",
        type=int,
        default=1,
        metavar="N",
        help="skip persons with fewer than N labeled joints (default: 1)",
    )
    group.add_argument(
        "--min_side",
        type=float,
        default=0.0,
        metavar="PIXELS",
        help="skip persons if the longer side of their box has fewer than PIXELS pixels (default: "
        "0)",
    )


def _split(text: str) -> str:
    """Expand the path in NAME=FILE. ``configure`` rejects a text without a path."""
    name, _, path = text.partition("=")
    return f"{name}={local_path(path, '--split')}" if path else text
