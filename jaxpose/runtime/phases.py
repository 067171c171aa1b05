"""Progress messages for slow phases, repeated while a phase lasts."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

EVERY_SECONDS = 10.0  # interval between two lines of one phase


def to_stderr(text: str) -> None:
    """Print one line and flush."""
    print(text, file=sys.stderr, flush=True)


def to_terminal(text: str) -> None:
    """Print one line if stderr is a terminal, so that scripts see no progress messages."""
    if sys.stderr.isatty():
        to_stderr(text)


@contextlib.contextmanager
def repeated(function: Callable[[], bool], *, seconds: float) -> Iterator[None]:
    """Call a function periodically from another thread while the context lasts.

    Args:
      function: function to call; returns whether to call it again.
      seconds: delay before the first call and between calls.
    """
    over = threading.Event()

    def repeat():
        while not over.wait(seconds) and function():
            pass

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def phase(text: str, *, log: Callable[[str], None] = to_stderr) -> Iterator[None]:
    """Announce a phase, then report every ``EVERY_SECONDS`` how long it has taken.

    Args:
      text: description, such as "compiling the training step".
      log: prints one line; called from another thread after the first line.

    Example:
      >>> with phase("loading", log=print):
      ...     pass
      loading
    """
    start = time.monotonic()

    def report() -> bool:
        log(f"{text}: {time.monotonic() - start:.0f} s so far")
        return True

    log(text)
    with repeated(report, seconds=EVERY_SECONDS):
        yield
