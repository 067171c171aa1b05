"""Paths as users type them, without ``~`` and remote addresses; files replaced in one move."""

import os
import pathlib
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
        name = f"{what} {text}" if what else text
        raise JaxposeError(
            f"{name} is an address, not a local path; copy or mount it, and give its path here"
        )
    expanded = os.path.expanduser(text)
    return os.path.abspath(expanded) if expanded.startswith("~") else expanded


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


def replace_file(path: str | os.PathLike, content: bytes | str) -> None:
    """Write a file in one move: a reader, or a run after a kill, finds the old one or the new one.

    Args:
      path: of the file, in a folder that exists; it may exist.
      content: text is written as UTF-8.

    Raises:
      OSError: it cannot be written; the file that was there stays as it is.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     replace_file(pathlib.Path(folder) / "a.txt", "new")
      ...     print([(file.name, file.read_text()) for file in pathlib.Path(folder).iterdir()])
      [('a.txt', 'new')]
    """
    path = pathlib.Path(path)
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
