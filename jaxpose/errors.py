"""Errors that a user can fix."""

MAX_REASON = 160  # characters of a library's message


class JaxposeError(Exception):
    """An error that the user can fix; its message is one line with the cause and the remedy.

    The commands print it as ``error: ...`` and exit with status 1. Any other exception that
    reaches a user is a bug of jaxpose.
    """


class UsageError(JaxposeError):
    """A command line that cannot be parsed or contradicts itself; the exit status is 2."""


def first_line(error: BaseException) -> str:
    r"""Return the first line of an exception's message, or its type if the message is empty.

    Args:
      error: exception of a library, to be quoted in one of our messages.

    Returns:
      The line, at most 160 characters of it.

    Example:
      >>> first_line(OSError("the file is truncated\nat byte 12")), first_line(EOFError())
      ('the file is truncated', 'EOFError')
    """
    # The text of a KeyError is the repr of its argument.
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    lines = str(text).strip().splitlines() or [type(error).__name__]
    return lines[0][:MAX_REASON]
