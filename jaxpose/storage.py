"""Object storage: Google Cloud Storage (``gs://``) in addition to local paths.

Files are accessed through etils.epath, as in Orbax and TFDS. Object stores support neither
appending nor renaming: growing files are kept in a local folder and uploaded as a whole, and an
object becomes visible only when it is complete.
"""

import contextlib
import functools
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from jaxpose import _compat
from jaxpose.errors import JaxposeError, first_line
from jaxpose.optional import import_optional
from jaxpose.paths import is_remote, stored_path

RETRY_SECONDS = 600  # for which requests are retried while the store does not respond


def open_path(path: str | os.PathLike, what: str = "") -> pathlib.Path:
    """Convert a path as a user typed it to a path object, local or in a bucket.

    Args:
      path: a local path, or ``gs://BUCKET/PATH``.
      what: name of the argument for the error message, such as ``"--workdir"``.

    Returns:
      A ``pathlib.Path``, or for a URL an ``epath.Path``, which has the same methods.

    Raises:
      JaxposeError: the bucket cannot be reached, a library is missing, or the path is a URL with an
        unsupported scheme.

    Example:
      >>> open_path("runs/demo").name
      'demo'
    """
    text = stored_path(path, what)
    if not is_remote(text):
        return pathlib.Path(text)
    use_gcsfs()
    bucket = "/".join(text.split("/")[:3])
    try:
        if not _remote(bucket).exists():
            raise FileNotFoundError(f"there is no bucket {bucket}")
    except Exception as error:  # gcsfs, google-auth and aiohttp raise their own types
        raise JaxposeError(
            f"{f'{what} ' if what else ''}{text} cannot be reached ({first_line(error)}); check "
            "the bucket's name and your access to it. Credentials come from GOOGLE_APPLICATION_"
            "CREDENTIALS, `gcloud auth application-default login`, or the machine's service account"
        ) from error
    return _remote(text)


def absolute(path: pathlib.Path) -> pathlib.Path:
    """Make a local path absolute; URLs, which ``epath.Path.absolute`` breaks, are unchanged.

    Example:
      >>> import pathlib
      >>> absolute(pathlib.Path("/runs/demo")).as_posix()
      '/runs/demo'
    """
    return path if is_remote(path) else path.absolute()


@functools.cache
def use_gcsfs() -> None:
    """Configure the file system of epath's gs:// paths, once per process.

    ``open_path`` calls this. A worker process must call it, too, before it unpickles objects that
    read from a bucket, such as TFDS data sources.

    Raises:
      JaxposeError: a library is missing.
    """
    # gcsfs's calls for hierarchical buckets need additional permissions; plain calls are enough.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    fsspec = import_optional("fsspec", extra="cloud")
    gcsfs = import_optional("gcsfs", extra="cloud")
    patient = _compat.patient_filesystem(gcsfs.GCSFileSystem, RETRY_SECONDS)
    for name in ("gs", "gcs"):
        # Files written by other processes must be visible immediately.
        fsspec.config.conf.setdefault(name, {}).setdefault("use_listings_cache", False)
        fsspec.register_implementation(name, patient, clobber=True)


def uses_gcsfs() -> bool:
    """Whether this process has called ``use_gcsfs``; if so, its worker processes must, too."""
    return use_gcsfs.cache_info().currsize > 0


def replace_file(path: pathlib.Path, content: bytes | str) -> None:
    """Write a file atomically: readers see the old or the new file, even after a crash.

    Args:
      path: path of the file, in an existing folder or in a bucket; an existing file is replaced.
      content: content of the file; text is written as UTF-8.

    Raises:
      OSError: the file cannot be written; an existing file is left unchanged.

    Example:
      >>> import pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp(), "config.json")
      >>> replace_file(path, b"{}")
      >>> path.read_bytes()
      b'{}'
    """
    with written_file(path) as local:
        local.write_bytes(content.encode() if isinstance(content, str) else content)


def check_folder(path: pathlib.Path) -> None:
    """Raise a JaxposeError if the folder of a local file to write does not exist."""
    if not path.parent.is_dir():
        raise JaxposeError(f"no folder {path.parent}; create it first")


@contextlib.contextmanager
def write_errors(path: str | os.PathLike) -> Iterator[None]:
    """Raise an OSError while a file is written as a JaxposeError that names the file."""
    try:
        yield
    except OSError as error:  # errors of Pillow's encoders have no ``strerror``
        reason = error.strerror or first_line(error)
        raise JaxposeError(f"{path} cannot be written ({reason})") from error


def temporary_path(path: pathlib.Path) -> pathlib.Path:
    """Return the path, in the same folder, at which to write a file before it replaces ``path``.

    It has the same suffix, and a name of at most 255 bytes, the limit of most file systems.
    """
    return path.with_name(f".new-{path.name[-60:]}")


@contextlib.contextmanager
def written_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield a temporary local path to write to; on exit, that file replaces ``path`` atomically.

    The temporary path has the same suffix. After an exception, ``path`` is unchanged. An OSError
    about the temporary file is raised as one about ``path``.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            local = pathlib.Path(folder, path.name)
            yield local
            path.write_bytes(local.read_bytes())
        return
    local = temporary_path(path)
    try:
        yield local
        os.replace(local, path)
    except OSError as error:
        if error.errno is None or str(error.filename) != str(local):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        with contextlib.suppress(OSError):  # it does not exist, or its folder does not
            local.unlink()


def move_folder(source: pathlib.Path, target: pathlib.Path, *, marker: str) -> None:
    """Rename a folder on the same disk or in the same bucket.

    Object stores cannot rename. There, the objects are copied (the marker last) and then deleted
    (the marker first), so that at any time at least one of the two folders is complete, and every
    folder that has the marker is complete.

    Args:
      source: path of the folder.
      target: new path; leftovers of an interrupted move are overwritten.
      marker: name of a file in the folder; a folder without it counts as incomplete.
    """
    if not is_remote(source):
        source.rename(target)
        return
    files = sorted(_files_below(source), key=lambda file: file == source / marker)
    for file in files:
        name = file.relative_to(source).as_posix()
        _remote(file).copy(target / name, overwrite=True)
    (source / marker).unlink(missing_ok=True)
    _remote(source).rmtree()


def remove_folder(folder: pathlib.Path) -> None:
    """Delete a folder with its contents."""
    if is_remote(folder):
        _remote(folder).rmtree()
    else:
        shutil.rmtree(folder)


def _remote(path: str | os.PathLike) -> Any:
    """Make an ``epath.Path``, which has further methods, such as ``rmtree``."""
    return import_optional("etils.epath", extra="cloud").Path(path)


def _files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files_below(path)
        else:
            yield path
