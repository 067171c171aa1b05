"""Errors that a user can fix."""


class JaxposeError(Exception):
    """Bad input or a missing thing: one line that says what is wrong and what to do.

    The commands print it as ``error: ...`` and exit with status 1. Any other exception that
    reaches a user is a bug of jaxpose.
    """


class UsageError(JaxposeError):
    """A command line that cannot be parsed or contradicts itself; the exit status is 2."""
