"""The ``jaxpose`` command: a module of this folder for each subcommand.

``add`` of such a module registers its arguments, ``run`` runs it. Subcommands import what they need
when they run, so that ``jaxpose --version`` is quick and a missing optional library stops only the
command that needs it.
"""

import argparse
import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxpose import __version__
from jaxpose.cli import convert, demo, export, pack, predict, score, visualize
from jaxpose.errors import JaxposeError, UsageError


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


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


def _spelled(arguments: Sequence[str]) -> list[str]:
    """The arguments as argparse reads them: ``--flip-test``, and values that start with a minus.

    argparse takes the value in ``--box -5,10,60,130`` for an option.
    """
    waiting, spelled = list(arguments), []
    while waiting and waiting[0] != "--":
        argument = waiting.pop(0)
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            argument = "--" + name[2:].replace("-", "_") + equals + value
            if not equals and waiting and re.match(r"-\.?\d", waiting[0]):
                argument += "=" + waiting.pop(0)
        spelled.append(argument)
    return spelled + waiting


def _print_every_name() -> None:
    """Escape characters of file names that the terminal's encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """What stdout could not take goes nowhere; Python would try again, and fail, at exit."""
    with contextlib.suppress(OSError, ValueError):  # a stdout without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status.

    Args:
      argv: arguments without the program's name; by default those of the process.

    Returns:
      The exit status: 0; 1 after ``error: ...`` on stderr, or when stdout was closed early; 2 after
      such a line about the arguments; 130 after Ctrl-C. Any other exception is a bug and shows its
      traceback.
    """
    _print_every_name()
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # our error has its reason
    try:
        try:
            arguments = _parser().parse_args(_spelled(sys.argv[1:] if argv is None else argv))
            arguments.run(arguments)
        finally:
            sys.stdout.flush()  # here, where a reader who left is caught, not at exit
    except JaxposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
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
