"""Paths as users type them: expand ``~``, recognize or refuse URLs of remote storage."""

import os
import re

from jaxpose.errors import JaxposeError

# Two letters or more: C:// is a drive.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def local_path(path: str | os.PathLike, what: str = "") -> str:
    """Expand ``~`` and refuse ``gs://``, ``s3://`` and every other ``SCHEME://``.

    Shells expand ``~`` only at the start of a word, not in ``--output=~/x``.

    Args:
      path: a path as a user typed it.
      what: name of the argument for the error message, such as ``"--workdir"``.

    Returns:
      The path. ``~NAME`` without a user NAME is treated as a file name and made absolute, because
      ``pathlib.Path.expanduser`` raises an error for it.

    Raises:
      JaxposeError: the path is a URL.

    Example:
      >>> local_path("runs/demo")
      'runs/demo'
    """
    text = os.fspath(path)
    if _URL.match(text):
        raise JaxposeError(
            f"{_named(text, what)} is a URL, not a local path; copy or mount it, and give its "
            "local path"
        )
    expanded = os.path.expanduser(text)
    return os.path.abspath(expanded) if expanded.startswith("~") else expanded


def stored_path(path: str | os.PathLike, what: str = "") -> str:
    """Expand ``~`` like ``local_path``, but accept ``gs://``: for runs, checkpoints and data.

    Args:
      path: a path as a user typed it.
      what: name of the argument for the error message.

    Returns:
      The local path, or the ``gs://`` URL unchanged.

    Raises:
      JaxposeError: the path is a URL of another kind.

    Example:
      >>> stored_path("gs://bucket/runs/demo")
      'gs://bucket/runs/demo'
    """
    text = os.fspath(path)
    if is_remote(text):
        return text
    if _URL.match(text):
        raise JaxposeError(
            f"{_named(text, what)} is a URL, not a local path; the only URLs that Orbax and "
            "array_record read are gs://. Copy or mount it, and give its local path"
        )
    return local_path(text, what)


def is_remote(path: str | os.PathLike) -> bool:
    """Return whether a path is a Google Cloud Storage URL.

    Example:
      >>> is_remote("gs://bucket/runs/demo"), is_remote("runs/demo")
      (True, False)
    """
    return os.fspath(path).startswith("gs://")


def _named(text: str, what: str) -> str:
    return f"{what} {text}" if what else text


def names_a_file(path: str | os.PathLike) -> bool:
    """Return whether a name has a file's suffix and is not an existing folder.

    A trailing slash marks a folder, and a version number is not a suffix.

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
