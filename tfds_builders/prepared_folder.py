"""The folder of a prepared data set: its files, and its replacement by a rebuild."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from tfds_builders.errors import BuildError

_METADATA = ("dataset_info.json", "features.json", "metadata.json")
_NAMES_SHOWN = 3  # files listed in an error
_locked: set[str] = set()  # folders that this process has locked


def damage(path: pathlib.Path) -> str | None:
    """Return which files of a prepared data set are missing or damaged; None if it is complete.

    Checks that every file exists and is not empty, and that the metadata can be read. The examples
    are not read.

    Args:
      path: folder of the version, such as ``DIR/lsp/person_centric/1.0.0``.
    """
    reason = _missing([path / name for name in _METADATA])
    if reason:
        return reason
    import tensorflow_datasets as tfds  # it takes a second

    try:
        splits = tfds.builder_from_directory(path).info.splits.values()
        shards = [pathlib.Path(shard) for split in splits for shard in split.filepaths]
    except Exception as error:  # TFDS and protobuf raise various exceptions for a damaged file
        return f"its metadata cannot be read ({type(error).__name__})"
    return _missing(shards) if shards else "it has no examples"


def _missing(files: list[pathlib.Path]) -> str | None:
    lacking = [file.name for file in files if not file.is_file() or not file.stat().st_size]
    if not lacking:
        return None
    names = ", ".join(lacking[:_NAMES_SHOWN])
    if len(lacking) > _NAMES_SHOWN:
        names += f" and {len(lacking) - _NAMES_SHOWN} more"
    return f"{names} {'is' if len(lacking) == 1 else 'are'} missing or empty"


@contextlib.contextmanager
def lock(folder: str | os.PathLike) -> Iterator[bool]:
    """Allow only one process at a time to build in a folder.

    The folder itself is locked: no file remains, and the lock ends with the process. A process may
    take its own lock again.

    Args:
      folder: folder of the versions, such as ``DIR/lsp/person_centric``; created if missing.

    Yields:
      Whether the folder is locked. False where such locks do not exist: on Windows, on NFS and for
      URLs.

    Raises:
      BuildError: another process has locked the folder.
    """
    if "://" in os.fspath(folder):
        yield False
        return
    name = os.path.realpath(folder)
    if name in _locked:
        yield True
    else:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            locked = _lock(stack, name)
            if locked:
                _locked.add(name)
                stack.callback(_locked.discard, name)
            yield locked


def _lock(stack: contextlib.ExitStack, folder: str) -> bool:
    """Lock a folder until the stack is closed, if the system supports it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BuildError(
            f"another process is preparing a data set in {folder}; wait until it has finished"
        ) from error
    except OSError:  # NFS
        return False
    return True


def restore(path: pathlib.Path) -> bool:
    """Move a data set back whose rebuild was killed; return whether there was one."""
    aside = _aside(path)
    if path.exists() or not aside.exists():
        return False
    aside.rename(path)
    return True


def remove_leftovers(path: pathlib.Path) -> None:
    """Remove the temporary folders of killed builds. The folder must be locked."""
    for folder in path.parent.glob(f"incomplete.*_{path.name}"):  # TFDS's name
        shutil.rmtree(folder)


@contextlib.contextmanager
def set_aside(path: pathlib.Path) -> Iterator[None]:
    """Move a prepared data set away during a rebuild; move it back if the rebuild fails."""
    aside = _aside(path)
    try:
        if path.exists():
            if aside.exists():
                shutil.rmtree(aside)
            path.rename(aside)
        yield
    finally:
        if not restore(path) and aside.exists():
            shutil.rmtree(aside)


def _aside(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"replaced_{path.name}")
