"""The ``jaxpose`` command: its subcommands, and how their arguments are read."""

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxpose import __version__
from jaxpose.cli import calibrate, convert, demo, export, pack, predict, score, visualize
from jaxpose.cli.exits import run_command
from jaxpose.errors import UsageError


class _Parser(argparse.ArgumentParser):
    """Report wrong arguments in one line, and allow options between positional arguments."""

    _mixing = False

    def parse_known_args(self, args=None, namespace=None, **options):
        # The parser of COMMAND itself cannot mix; those of the subcommands can.
        if self._mixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace, **options)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


# In the order of `jaxpose --help`; a new subcommand is one more line here.
COMMANDS = (
    predict,
    visualize,
    score,
    convert,
    pack,
    calibrate,
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
    """Normalize arguments for argparse: ``--flip-test``, and values that start with a minus.

    argparse would interpret the value in ``--box -5,10,60,130`` as an option.
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
      argv: arguments without the program's name; by default those of the process.

    Returns:
      The exit status of ``exits.run_command``.
    """
    # Pillow's log repeats the reason in our error message.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)

    def command():
        arguments = _parser().parse_args(_spelled(sys.argv[1:] if argv is None else argv))
        arguments.run(arguments)

    return run_command(command)
