"""The error for problems that a user who prepares a data set can fix."""


class BuildError(Exception):
    """An error whose message is one line with the cause (and bad value) and the remedy."""
