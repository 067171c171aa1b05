"""Progress bars."""

from typing import Any

from jaxpose.optional import import_optional


def progress_bar(*arguments: Any, extra: str, **options: Any) -> Any:
    """Make a tqdm bar that leaves no thread behind.

    Args:
      *arguments: of `tqdm.tqdm`.
      extra: of jaxpose, that installs tqdm for the caller.
      **options: of `tqdm.tqdm`.
    """
    tqdm = import_optional("tqdm", extra=extra).tqdm
    # Without tqdm's thread that watches for bars that stall: it would outlive the command.
    return type("Bar", (tqdm,), {"monitor_interval": 0})(*arguments, **options)
