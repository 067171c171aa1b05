"""Sources of a release: a folder, zip or tar, read member by member without extraction."""

import os
import pathlib
import re
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

from tfds_builders.errors import BuildError

MAX_DEPTH = 3  # levels of folders below a source: release/mpii/images
MAX_FILES = 500_000  # ten times the largest release; more suggests that a whole disk was given
MAX_BYTES = 2**30  # of one member; MPII's uncompressed annotations have 0.1 GB
ARCHIVE = re.compile(r"\.(zip|tar|tar\.gz|tgz|tar\.bz2|tar\.xz)$", re.IGNORECASE)

# Exceptions of the standard library for archives that are corrupt, encrypted or unsupported.
ARCHIVE_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, OSError, EOFError),
    *(RuntimeError, NotImplementedError, ValueError, OverflowError),
)


class ReadError(Exception):
    """A file that is listed but cannot be read; the message gives the reason."""


class Files(Protocol):
    """Read-only files by name, with "/" between folders.

    Attributes:
      path: the folder or archive.
      names: every file, in the order in which reading is fastest.
    """

    path: pathlib.Path
    names: Sequence[str]

    def read(self, name: str) -> bytes:
        """Read the file's bytes. Raises ReadError."""
        ...


class Folder:
    """The files in a folder (recursively), or the given ones."""

    def __init__(self, path: pathlib.Path, names: Sequence[str] | None = None):
        self.path = path
        self.names = list(_walk(path)) if names is None else list(names)

    def read(self, name: str) -> bytes:
        try:
            file = self.path / name
            if file.stat().st_size > MAX_BYTES:
                raise ReadError(f"larger than {MAX_BYTES:,} bytes")
            return file.read_bytes()
        except OSError as error:
            raise ReadError(error.strerror or str(error)) from error


class Zip:
    """The members of a zip."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._zip = zipfile.ZipFile(path)
        members = (member for member in self._zip.infolist() if not member.is_dir())
        self.names = [m.filename for m in sorted(members, key=lambda m: m.header_offset)]

    def read(self, name: str) -> bytes:
        try:
            size = self._zip.getinfo(name).file_size
            if size > MAX_BYTES:
                raise ReadError(f"larger than {MAX_BYTES:,} bytes")
            return self._zip.read(name)
        except ARCHIVE_ERRORS as error:
            raise ReadError(str(error).strip() or type(error).__name__) from error


class Tar:
    """The members of a tar, compressed or not. Seeking backward in a compressed one is slow."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._tar = tarfile.open(path)
        # Regular files only: a link may point anywhere.
        self._members = {m.name.removeprefix("./"): m for m in self._tar if m.isreg()}
        self.names = sorted(self._members, key=lambda name: self._members[name].offset)
        self._lock = threading.Lock()

    def __del__(self):
        if hasattr(self, "_tar"):
            self._tar.close()

    def read(self, name: str) -> bytes:
        member = self._members[name]
        if member.size > MAX_BYTES:
            raise ReadError(f"larger than {MAX_BYTES:,} bytes")
        try:
            with self._lock:
                data = self._tar.extractfile(member).read()
        except ARCHIVE_ERRORS as error:
            raise ReadError(str(error).strip() or type(error).__name__) from error
        if len(data) != member.size:
            raise ReadError("the archive is truncated")
        return data


def local_path(path: str, option: str) -> pathlib.Path:
    """Expand ``~``, which shells leave alone in ``--data_dir=~/x``, and refuse SCHEME://.

    Raises:
      BuildError: the path is a URL.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        raise BuildError(
            f"{option} {path} is a URL, not a local path; copy or mount it, and give its path"
        )
    return pathlib.Path(os.path.expanduser(path))


def path_option(option: str) -> Callable[[str], str]:
    """Make ``local_path`` the ``type`` of an argument of the command.

    Args:
      option: name of the option, for the message.
    """
    return lambda path: str(local_path(path, option)) if path else path


def open_sources(sources: Sequence[str], archive_name: str) -> list[Files]:
    """Open the given folders and archives, and the archives in those folders.

    Args:
      sources: paths of folders, archives or single files.
      archive_name: regular expression; an archive in a folder is opened if its file name contains a
        match.

    Raises:
      BuildError: a path does not exist, or an archive cannot be opened.
    """
    found: list[Files] = []
    for source in sources:
        path = local_path(source, "--source")
        if not path.exists():
            raise BuildError(f"--source {source} does not exist; give a folder, zip or tar")
        if path.is_dir():
            folder = Folder(path)
            found.append(folder)
            found += [
                _open_archive(path / name)
                for name in sorted(folder.names)
                if "/" not in name
                and ARCHIVE.search(name)
                and re.search(archive_name, name, re.IGNORECASE)
            ]
        elif ARCHIVE.search(path.name):
            found.append(_open_archive(path))
        else:
            found.append(Folder(path.parent, [path.name]))
    return found


def _open_archive(path: pathlib.Path) -> Files:
    try:
        return Zip(path) if path.suffix.lower() == ".zip" else Tar(path)
    except ARCHIVE_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BuildError(
            f"{path} is not an intact archive ({reason}); download it again, or give the extracted "
            "folder"
        ) from error


def _walk(top: pathlib.Path):
    count = 0
    for folder, folders, names in os.walk(top, followlinks=True):
        depth = len(pathlib.Path(folder).relative_to(top).parts)
        folders[:] = sorted(folders) if depth < MAX_DEPTH else []
        for name in sorted(names):
            count += 1
            if count > MAX_FILES:
                raise BuildError(
                    f"--source {top} contains more than {MAX_FILES:,} files; give the release's "
                    "folder"
                )
            yield pathlib.Path(folder, name).relative_to(top).as_posix()
