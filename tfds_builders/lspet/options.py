"""Options of the command that only this data set has."""

import argparse

from tfds_builders.sources import path_option


def add_options(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    group = parser.add_argument_group("lspet")
    group.add_argument(
        "--corrections",
        type=path_option("--corrections"),
        metavar="FILE",
        help="for lspet/corrected: a file written by `python -m tools.correct_labels` (default: "
        "the file that comes with jaxpose)",
    )
