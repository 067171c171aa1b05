"""Object storage: addresses on Google Cloud Storage (``gs://``) beside local paths.

Files are read and written through etils.epath, as Orbax and TFDS read and write theirs. A store has
no appending and no renaming: what grows is kept in a local folder and uploaded as a whole, and an
object appears under its name only when it is complete.
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

RETRY_SECONDS = 600  # for which a request is repeated while the store does not answer


def open_path(path: str | os.PathLike, what: str = "") -> pathlib.Path:
    """Turn what a user typed into a path whose files can be opened, on this machine or in a bucket.

    Args:
      path: a local path, or ``gs://BUCKET/PATH``.
      what: its name in the error message, such as ``"--workdir"``.

    Returns:
      A ``pathlib.Path``, or for an address an ``epath.Path``, which has the same methods.

    Raises:
      JaxposeError: the bucket cannot be reached, a library is missing, or the path is another kind
        of address.

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
    except Exception as error:  # gcsfs, google-auth and aiohttp raise kinds of their own
        raise JaxposeError(
            f"{f'{what} ' if what else ''}{text} cannot be reached ({first_line(error)}); check "
            "the bucket's name and your access to it. Credentials come from GOOGLE_APPLICATION_"
            "CREDENTIALS, `gcloud auth application-default login`, or the machine's service account"
        ) from error
    return _remote(text)


def absolute(path: pathlib.Path) -> pathlib.Path:
    """The absolute path; an address is one (``epath.Path.absolute`` would make a local path of it).

    Example:
      >>> import pathlib
      >>> absolute(pathlib.Path("/runs/demo")).as_posix()
      '/runs/demo'
    """
    return path if is_remote(path) else path.absolute()


@functools.cache
def use_gcsfs() -> None:
    """Configure the file system behind epath's gs:// paths; once in a process.

    `open_path` does it. A worker process has to do it too, before it unpickles objects that read
    from a bucket, as TFDS's data sources do.

    Raises:
      JaxposeError: a library is missing.
    """
    # Its calls for buckets with folders of their own need further permissions; plain ones suffice.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    fsspec = import_optional("fsspec", extra="cloud")
    gcsfs = import_optional("gcsfs", extra="cloud")
    patient = _compat.patient_filesystem(gcsfs.GCSFileSystem, RETRY_SECONDS)
    for name in ("gs", "gcs"):
        # What another process wrote is to be seen at once.
        fsspec.config.conf.setdefault(name, {}).setdefault("use_listings_cache", False)
        fsspec.register_implementation(name, patient, clobber=True)


def uses_gcsfs() -> bool:
    """Whether this process has configured it, and its worker processes have to."""
    return use_gcsfs.cache_info().currsize > 0


def replace_file(path: pathlib.Path, content: bytes | str) -> None:
    """Write a file in one move: a reader, or a run after a kill, finds the old one or the new one.

    Args:
      path: of the file, in a folder that exists or in a bucket; it may exist.
      content: text is written as UTF-8.

    Raises:
      OSError: it cannot be written; the file that was there stays as it is.

    Example:
      >>> import pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp(), "config.json")
      >>> replace_file(path, b"{}")
      >>> path.read_bytes()
      b'{}'
    """
    with written_file(path) as local:
        local.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def written_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A local name to write a file under, which becomes `path` in one move at the end.

    The name has the same suffix. After an exception `path` is what it was.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            local = pathlib.Path(folder, path.name)
            yield local
            path.write_bytes(local.read_bytes())
        return
    local = path.with_name(f".new-{path.name[-60:]}")  # names of over 255 bytes are refused
    try:
        yield local
        os.replace(local, path)
    finally:
        local.unlink(missing_ok=True)


def move_folder(source: pathlib.Path, target: pathlib.Path, *, marker: str) -> None:
    """Give a folder another name on the same disk or in the same bucket.

    A store cannot rename: there the objects are copied, that of the marker last, and then deleted,
    that of the marker first, so that at any time one of the two has the marker and is complete.

    Args:
      source: the folder.
      target: its new name; what a move that was interrupted left there is overwritten.
      marker: name of the file in it without which it counts as incomplete.
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
    """Delete a folder and what is in it."""
    if is_remote(folder):
        _remote(folder).rmtree()
    else:
        shutil.rmtree(folder)


def _remote(path: str | os.PathLike) -> Any:
    """An ``epath.Path``, with the methods that a ``pathlib.Path`` lacks."""
    return import_optional("etils.epath", extra="cloud").Path(path)


def _files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files_below(path)
        else:
            yield path
