"""Exit handling of the commands: errors in one line on stderr, exit statuses, quiet libraries.

Shared by ``launch.py`` and ``jaxpose``.
"""

import contextlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable

from jaxpose._compat import is_closed_event_loop
from jaxpose.errors import JaxposeError, UsageError, first_line


class ConfigFileError(Exception):
    """An exception inside a config file that the user wrote, printed with its traceback."""


def run_command(command: Callable[[], None], *, interrupted: str = "interrupted") -> int:
    """Run a command and translate what it raises into an exit status.

    Args:
      command: called without arguments.
      interrupted: line for stderr after Ctrl-C.

    Returns:
      The exit status. 0: success. 1: stderr has a line ``error: ...`` or a traceback (of a config
      file, or of a bug), or stdout was closed early. 2: stderr has a line ``error: ...`` about the
      arguments. 130: Ctrl-C. In a multi-process run, a process that failed exits here and does not
      return.
    """
    _escape_unprintable_characters()
    try:
        try:
            command()
        finally:
            sys.stdout.flush()  # not at exit: a closed pipe is handled here
        return 0
    except ConfigFileError as error:
        traceback.print_exception(error.__cause__)
        status = 1
    except JaxposeError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        _discard_output()
        status = 1
    except OSError as error:  # disk full, no permission
        _discard_output()
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        status = 130
    except Exception as error:
        if _is_out_of_memory(error):
            print(
                f"error: not enough memory ({first_line(error)}); use smaller batches, smaller "
                "images or a smaller network",
                file=sys.stderr,
            )
        else:  # a bug or, in a multi-process run, the death of another process
            traceback.print_exc()
        status = 1
    _leave_partners(status)
    return status


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether the host (MemoryError) or a device (RESOURCE_EXHAUSTED) ran out of memory."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and str(error).startswith("RESOURCE_EXHAUSTED")


def silence_library_logs() -> None:
    """Silence library tracebacks after a failed write; the error's own line gives the reason.

    Hides what Orbax, TensorStore and gcsfs log from their threads. Python's warnings are not
    hidden.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for name in ("absl", "asyncio", "gcsfs"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    show = sys.unraisablehook

    def show_others(unraisable):
        if not is_closed_event_loop(unraisable.exc_value):
            show(unraisable)

    sys.unraisablehook = show_others


def _escape_unprintable_characters() -> None:
    """Replace characters that the terminal's encoding lacks by escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Discard unwritten output, which Python would otherwise try to write again at exit."""
    with contextlib.suppress(OSError, ValueError):  # a stdout without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave_partners(status: int) -> None:
    """Exit if this is a process of a multi-process run.

    If JAX is not loaded, there are no other processes.
    """
    if "jax" in sys.modules:
        from jaxpose.runtime import processes

        processes.abort(status)
