"""The error for everything that whoever builds a data set can mend."""


class BuildError(Exception):
    """One line: what is wrong (with the bad value), then what to do."""
