"""The one error that a person can mend."""


class JaxposeError(Exception):
    """Bad input or a missing thing: one line that says what is wrong and what to do.

    The commands print it as ``error: ...`` and leave with status 1. Any other exception that
    reaches a user is a bug of jaxpose.
    """
