"""The ``jaxpose`` command, with one module per subcommand.

Each module has ``add``, which registers the arguments, and ``run``. Subcommands import libraries
when they run, so that ``jaxpose --version`` is quick and a missing optional library affects only
the commands that need it.
"""

from jaxpose.cli.commands import main

__all__ = ["main"]
