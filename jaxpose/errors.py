"""Errors that a user can fix."""

MAX_REASON = 160  # characters of a library's message


class JaxposeError(Exception):
    """Bad input or a missing thing: one line that says what is wrong and what to do.

    The commands print it as ``error: ...`` and exit with status 1. Any other exception that
    reaches a user is a bug of jaxpose.
    """


class UsageError(JaxposeError):
    """A command line that cannot be parsed or contradicts itself; the exit status is 2."""


def first_line(error: BaseException) -> str:
    r"""First line of an exception's message, up to 160 characters; its type where it has none.

    Args:
      error: of a library, for the reason in a message of ours.

    Example:
      >>> first_line(OSError("the file is cut off\nat byte 12")), first_line(EOFError())
      ('the file is cut off', 'EOFError')
    """
    # The text of a KeyError is the repr of its argument.
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    lines = str(text).strip().splitlines() or [type(error).__name__]
    return lines[0][:MAX_REASON]
