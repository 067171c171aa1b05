"""The ``jaxpose`` command: a module of this folder for each subcommand.

``add`` of such a module registers its arguments, ``run`` runs it. Subcommands import what they need
when they run, so that ``jaxpose --version`` is quick and a missing optional library stops only the
command that needs it.
"""

from jaxpose.cli.commands import main

__all__ = ["main"]
