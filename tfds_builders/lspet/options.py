"""Options of the command that only this data set has."""

import argparse

from tfds_builders.sources import path_option


def add_options(parser: argparse.ArgumentParser) -> None:
    """Register them."""
    group = parser.add_argument_group("lspet")
    group.add_argument(
        "--corrections",
        type=path_option("--corrections"),
        metavar="FILE",
        help="lspet/corrected: the file that `python -m tools.correct_labels` wrote",
    )
