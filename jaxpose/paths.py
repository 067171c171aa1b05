"""Paths as users type them: ``~`` expanded, addresses of remote storage told apart or refused."""

import os
import re

from jaxpose.errors import JaxposeError

# Two letters or more: C:// is a drive.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def local_path(path: str | os.PathLike, what: str = "") -> str:
    """Expand ``~`` and refuse ``gs://``, ``s3://`` and every other ``SCHEME://``.

    Shells expand ``~`` at the start of a word only, not in ``--output=~/x``.

    Args:
      path: a path as a user typed it.
      what: its name in the error message, such as ``"--workdir"``.

    Returns:
      The path. It never starts with ``~``, so that ``pathlib.Path.expanduser``, which fails where
      there is no such user, leaves it alone.

    Raises:
      JaxposeError: it is an address and not a path.

    Example:
      >>> local_path("runs/demo")
      'runs/demo'
    """
    text = os.fspath(path)
    if _ADDRESS.match(text):
        raise JaxposeError(
            f"{_named(text, what)} is an address, not a local path; copy or mount it, and give its "
            "path here"
        )
    expanded = os.path.expanduser(text)
    return os.path.abspath(expanded) if expanded.startswith("~") else expanded


def stored_path(path: str | os.PathLike, what: str = "") -> str:
    """Expand ``~`` as `local_path` does, but let ``gs://`` pass: for runs, checkpoints and data.

    Args:
      path: a path as a user typed it.
      what: its name in the error message.

    Returns:
      The local path, or the address unchanged.

    Raises:
      JaxposeError: it is another kind of address.

    Example:
      >>> stored_path("gs://bucket/runs/demo")
      'gs://bucket/runs/demo'
    """
    text = os.fspath(path)
    if is_remote(text):
        return text
    if _ADDRESS.match(text):
        raise JaxposeError(
            f"{_named(text, what)} is an address, not a local path; of addresses, Orbax and "
            "array_record read gs:// only. Copy or mount it, and give its path here"
        )
    return local_path(text, what)


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is an address on Google Cloud Storage.

    Example:
      >>> is_remote("gs://bucket/runs/demo"), is_remote("runs/demo")
      (True, False)
    """
    return os.fspath(path).startswith("gs://")


def _named(text: str, what: str) -> str:
    return f"{what} {text}" if what else text


def names_a_file(path: str | os.PathLike) -> bool:
    """Whether a name has the suffix of a file and is not that of a folder which exists.

    A slash at the end names a folder, and a version is not a suffix.

    Example:
      >>> [names_a_file(name) for name in ("kp.csv", "kp.csv/", "runs/v1.2", "runs.v2", "runs")]
      [True, False, False, False, False]
    """
    text = os.fspath(path)
    if text.endswith(("/", os.sep)) or os.path.isdir(text):
        return False
    suffix = os.path.splitext(text)[1]
    return bool(re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]*", suffix)) and not re.fullmatch(
        r"\.v\d+", suffix
    )
