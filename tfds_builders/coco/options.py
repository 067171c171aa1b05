"""Options of the command that only this data set has."""

import argparse

from tfds_builders.sources import local_path, path_option


def add_options(parser: argparse.ArgumentParser) -> None:
    """Register them."""
    group = parser.add_argument_group("coco")
    group.add_argument("--name", dest="config_name", default="", help="the data set is coco/NAME")
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
        help="this fraction of the training images makes the split validation",
    )
    group.add_argument(
        "--category", metavar="NAME", help="default: person, or the one with keypoints"
    )
    group.add_argument(
        "--flip_pair",
        nargs=2,
        action="append",
        metavar=("RIGHT", "LEFT"),
        help="joints that a mirror exchanges; may be repeated (default: from left and right in "
        "their names)",
    )
    group.add_argument(
        "--limb",
        nargs=2,
        action="append",
        metavar=("JOINT", "JOINT"),
        help="joints that a drawing connects; may be repeated (default: the file's skeleton)",
    )
    group.add_argument(
        "--sigmas",
        nargs="+",
        type=float,
        default=[],
        metavar="SIGMA",
        help="of OKS-AP, one for all joints or one a joint (default: COCO's for its own joints)",
    )
    group.add_argument(
        "--min_joints",
        type=int,
        default=1,
        metavar="N",
        help="persons with fewer labeled joints make no example (default: 1)",
    )
    group.add_argument(
        "--min_side",
        type=float,
        default=0.0,
        metavar="PIXELS",
        help="nor do those whose box is smaller (default: 0)",
    )


def _split(text: str) -> str:
    """NAME=FILE with the path expanded; what has no path is refused with the other options."""
    name, _, path = text.partition("=")
    return f"{name}={local_path(path, '--split')}" if path else text
