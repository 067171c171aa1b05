"""Scripts that maintain the project: run them from a clone as `python -m tools.NAME`."""

import argparse
import pathlib
import sys
from collections.abc import Callable

from jaxpose.cli.exits import run_command
from jaxpose.errors import JaxposeError


def run(main: Callable[[], None]) -> None:
    """Run a tool and end the process; an error is one line on stderr."""
    sys.exit(run_command(main))


def count(text: str) -> int:
    """Convert an argument to a whole number, at least 1."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def jpegs(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the JPEG files of a folder, sorted.

    Raises:
      JaxposeError: there are none.
    """
    files = folder.iterdir() if folder.is_dir() else ()
    found = sorted(f for f in files if f.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        raise JaxposeError(f"{folder} is not a folder with JPEGs; give another")
    return found


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Make the argument parser of a tool; its description is the module's docstring, as it is."""
    return argparse.ArgumentParser(
        prog=f"python -m tools.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
