"""The ``jaxpose`` command: each subcommand is a function that registers its arguments and its run.

Subcommands import what they need when they run, so that ``jaxpose --version`` is quick and a
missing optional library stops only the command that needs it.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxpose import __version__
from jaxpose.errors import JaxposeError


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, as every other error is said."""

    def error(self, message: str) -> NoReturn:
        raise JaxposeError(f"{message}; see {self.prog} --help")


def add_score(commands) -> None:
    """``jaxpose score PROTOCOL FILE.npz``."""
    parser = commands.add_parser(
        "score",
        help="score predictions by a protocol of the paper",
        description="Scores the predictions in an .npz file and prints the paper's columns.",
        epilog="FILE.npz holds prediction [persons, joints, 2], ground_truth, labelled, for MPII "
        "head_size, and joint_names (prediction_joint_names where the prediction's joints differ).",
    )
    parser.add_argument("protocol", metavar="PROTOCOL", help="mpii-pckh, lsp-pck or lsp-pcp")
    parser.add_argument("file", metavar="FILE.npz")
    parser.add_argument("--json", action="store_true", help="every rate and count as JSON")
    parser.add_argument("--paper", action="store_true", help="add the rows of the paper's tables")
    parser.set_defaults(run=_score)


def _score(arguments) -> None:
    from jaxpose import prediction_file, protocols, tables

    protocol = protocols.named(arguments.protocol)
    predictions = prediction_file.read_predictions(arguments.file, default_joints=protocol.joints)
    found = protocols.result(protocol, protocols.score(protocol, predictions))
    if arguments.json:
        found["description"] = predictions.description
        if arguments.paper:
            found["paper"] = tables.paper_dicts(protocol)
        print(json.dumps(found, indent=1, allow_nan=False))
        return
    print(
        tables.text(
            found,
            label=os.path.basename(arguments.file),
            description=predictions.description,
            paper=arguments.paper,
        )
    )


def add_convert(commands) -> None:
    """``jaxpose convert FILE.h5 OUTDIR``."""
    parser = commands.add_parser(
        "convert",
        help="turn the paper's authors' Keras weights into a checkpoint",
        description="Turns the authors' Keras weights file into a checkpoint that every command "
        "takes. Number of blocks, joints and context maps are read off the file.",
    )
    parser.add_argument("file", metavar="FILE.h5")
    parser.add_argument("folder", metavar="OUTDIR", help="a new or an empty folder")
    parser.add_argument(
        "--joints",
        metavar="NAME,NAME,...",
        help="joint names in the file's channel order (default: the authors' 16)",
    )
    numbers = "where the file does not tell"
    parser.add_argument("--num_joints", type=int, metavar="J", help=numbers)
    parser.add_argument("--num_context_maps", type=int, metavar="C", help=f"a joint, {numbers}")
    parser.set_defaults(run=_convert)


def _convert(arguments) -> None:
    from jaxpose import keras_weights

    metadata, folder = keras_weights.convert(
        arguments.file,
        arguments.folder,
        joints=arguments.joints and arguments.joints.split(","),
        num_joints=arguments.num_joints,
        num_context_maps=arguments.num_context_maps,
    )
    network = metadata["network"]
    print(
        f"{arguments.file}: {network['num_blocks']} blocks, {network['num_joints']} joints, "
        f"{network['num_context_maps']} context maps a joint, width {network['width']}, grid "
        f"{network['grid']}\njoints: {', '.join(metadata['joints'])}\ncheckpoint: {folder}"
    )


# A new subcommand is one more function here.
COMMANDS = (add_score, add_convert)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="jaxpose", description="Human pose regression by soft-argmax.")
    parser.add_argument("--version", action="version", version=f"jaxpose {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for add_command in COMMANDS:
        add_command(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status.

    Args:
      argv: arguments without the program's name; by default those of the process.

    Returns:
      The exit status: 0; 1 after ``error: ...`` on stderr, or when nobody reads stdout any more;
      130 after Ctrl-C. Any other exception is a bug and shows its traceback.
    """
    try:
        try:
            arguments = _parser().parse_args(argv)
            arguments.run(arguments)
        finally:
            sys.stdout.flush()  # here, where a reader who left is caught, not at exit
    except JaxposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:  # disk full, no permission
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
