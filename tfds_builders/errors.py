"""The error for what a user who prepares a data set can fix."""


class BuildError(Exception):
    """One line: what is wrong (with the bad value), then what to do."""
