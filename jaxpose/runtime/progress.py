"""Progress bars."""

from typing import Any

from jaxpose.optional import import_optional


def progress_bar(*arguments: Any, extra: str, **options: Any) -> Any:
    """Make a tqdm bar that leaves no thread behind.

    Args:
      *arguments: arguments of ``tqdm.tqdm``.
      extra: extra of jaxpose that installs tqdm for the caller.
      **options: options of ``tqdm.tqdm``.
    """
    tqdm = import_optional("tqdm", extra=extra).tqdm
    # Disable tqdm's monitor thread, which watches for stalled bars: it would outlive the command.
    return type("Bar", (tqdm,), {"monitor_interval": 0})(*arguments, **options)
