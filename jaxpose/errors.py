"""Errors that a user can fix, and wording that several modules share."""

from jaxpose._compat import is_refused_pickle


class JaxposeError(Exception):
    """Bad input or a missing thing: one line that says what is wrong and what to do.

    The commands print it as ``error: ...`` and exit with status 1. Any other exception that
    reaches a user is a bug of jaxpose.
    """


class UsageError(JaxposeError):
    """A command line that cannot be parsed or contradicts itself; the exit status is 2."""


def npz_fault(error: Exception) -> str:
    """Why NumPy cannot read an .npz file, in one line; without its advice to unpickle the file."""
    if is_refused_pickle(error):
        return "it holds Python objects, which are never loaded"
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
