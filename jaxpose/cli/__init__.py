"""The ``jaxpose`` command: a module of this folder for each subcommand.

``add`` of such a module registers its arguments, ``run`` runs it. Subcommands import what they need
when they run, so that ``jaxpose --version`` is quick and a missing optional library stops only the
command that needs it.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxpose import __version__
from jaxpose.cli import convert, demo, export, pack, predict, score, visualize
from jaxpose.errors import JaxposeError


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, as every other error is said."""

    def error(self, message: str) -> NoReturn:
        raise JaxposeError(f"{message}; see {self.prog} --help")


# In the order of `jaxpose --help`; a new subcommand is one more line here.
COMMANDS = (
    predict,
    visualize,
    score,
    convert,
    pack,
    export,
    demo,
)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="jaxpose", description="Human pose regression by soft-argmax.")
    parser.add_argument("--version", action="version", version=f"jaxpose {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser


def _forget_output() -> None:
    """What stdout could not take goes nowhere; Python would try again, and fail, at exit."""
    with contextlib.suppress(OSError, ValueError):  # a stdout without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
        _forget_output()
        return 1
    except OSError as error:  # disk full, no permission
        _forget_output()
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
