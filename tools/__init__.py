"""Scripts that maintain the project: run them from a clone as `python -m tools.NAME`."""

import argparse


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Make the argument parser of a tool; its description is the module's docstring, as it is."""
    return argparse.ArgumentParser(
        prog=f"python -m tools.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
