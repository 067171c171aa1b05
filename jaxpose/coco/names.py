"""Match file names in annotation files to files on this machine.

Labeling tools write absolute paths of another machine, ``../`` paths, URLs, percent-encoded names
and backslashes. Absolute paths, ``../`` paths and URLs are matched by their last components. All
components of other relative paths must match, so that ``train/1.jpg`` is never confused with
``val/1.jpg``. Names are compared in Unicode's NFC.
"""

import os
import pathlib
import re
import unicodedata
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Match(NamedTuple):
    """The names in the annotation file that match one file.

    Attributes:
      names: the matching names as written in the annotation file; more than one only if they are
        spellings of the same name.
      rivals: names that match equally well but refer to different files. If there are any,
        ``names`` is empty.
      rank: quality of the match; larger is better.
    """

    names: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    rank: tuple[int, bool, bool] = (0, False, False)


class _Parts(NamedTuple):
    """A file name's folders and base name, decoded; and its base name as written."""

    parts: tuple[str, ...]
    literal: str
    rooted: bool


class NameIndex:
    """Index of the names in an annotation file, for look-up by file path.

    Example:
      >>> index = NameIndex(["../../upload/4/a%20b.jpg", "train/c.jpg"])
      >>> index.find("photos/a b.jpg").names
      ('../../upload/4/a%20b.jpg',)
      >>> index.find("val/c.jpg").names
      ()
    """

    def __init__(self, names: Iterable[str]):
        """Build the index; duplicate names are ignored."""
        self._named: dict[str, list[tuple[str, _Parts]]] = {}
        for name in dict.fromkeys(names):
            parsed = _parse(name)
            if parsed.parts:
                self._named.setdefault(parsed.parts[-1], []).append((name, parsed))

    def find(self, path: str | os.PathLike) -> Match:
        """Find the names that share the most trailing path components with a file's path.

        If a name is a relative path that does not start with ``..``, all of its components must
        match.
        """
        file = _parse(os.path.abspath(path))
        best = Match().rank
        found: list[tuple[str, tuple[str, ...]]] = []
        for name, named in self._named.get(file.parts[-1] if file.parts else "", []):
            common = _common(named.parts, file.parts)
            full = common == len(named.parts)
            if not full and not named.rooted:
                continue
            rank = (common, full, named.literal == file.literal)
            if rank > best:
                best, found = rank, []
            if rank == best:
                found.append((name, named.parts))
        names = tuple(name for name, _ in found)
        if len({parts for _, parts in found}) > 1:
            return Match((), names, best)
        return Match(names, (), best)

    def match(self, paths: Iterable[str | os.PathLike]) -> dict[str, Match]:
        """Match many files; a name that matches several files is assigned to the closest one.

        Returns:
          ``{path as text: Match}`` for all paths.
        """
        found = {os.fspath(path): self.find(path) for path in paths}
        best: dict[str, tuple] = {}
        for match in found.values():
            for name in match.names:
                best[name] = max(best.get(name, match.rank), match.rank)
        return {
            path: match if all(best[name] == match.rank for name in match.names) else Match()
            for path, match in found.items()
        }


def find_files(
    names: Sequence[str], folder: str | os.PathLike
) -> tuple[dict[str, pathlib.Path], dict[str, str]]:
    """Find the files in a folder that the names in an annotation file refer to.

    Args:
      names: names relative to the folder, or as written by a labeling tool.
      folder: folder to search recursively; links to folders are followed.

    Returns:
      (``{name: path}`` of the names that were found, ``{name: reason}`` of the others). The reason
      is ``"ambiguous"`` if several files or names match equally well, otherwise ``"missing"``.
    """
    folder = pathlib.Path(folder)
    below = list(_files_below(folder))
    fitting: dict[str, list[str]] = {}
    rivals: set[str] = set()
    for path, match in NameIndex(names).match(below).items():
        rivals.update(match.rivals)
        for name in match.names:
            fitting.setdefault(name, []).append(path)
    found, lacking = {}, {}
    for name in dict.fromkeys(names):
        direct = os.path.normpath(folder / name.replace("\\", "/"))
        paths = fitting.get(name, [])
        exact = [path for path in paths if os.path.normpath(path) == direct]
        if exact or len(set(map(os.path.realpath, paths))) == 1:  # links to one file are one file
            found[name] = pathlib.Path((exact or paths)[0])
        else:
            lacking[name] = "ambiguous" if paths or name in rivals else "missing"
    return found, lacking


def _files_below(folder: pathlib.Path) -> Iterator[str]:
    """Yield the files below a folder in a fixed order; follows links to folders, except loops."""
    ancestors: dict[str, frozenset[str]] = {os.fspath(folder): frozenset()}
    for top, folders, files in os.walk(folder, followlinks=True):
        here, above = os.path.realpath(top), ancestors.pop(top)
        if here in above:
            folders.clear()
            continue
        folders.sort()
        ancestors.update(
            dict.fromkeys((os.path.join(top, name) for name in folders), above | {here})
        )
        yield from (os.path.join(top, file) for file in sorted(files))


def _parse(name: str) -> _Parts:
    text = unicodedata.normalize("NFC", name).replace("\\", "/")
    if "/?d=" in text:  # Label Studio: /data/local-files/?d=folder/a.jpg
        text = "/" + text.partition("/?d=")[2].partition("&")[0]
    elif scheme := re.match(r"[A-Za-z][\w+.-]+:/+", text):
        text = "/" + text[scheme.end() :].partition("?")[0]
    literal = text.rpartition("/")[2]
    decoded = unicodedata.normalize("NFC", urllib.parse.unquote(text)).replace("\\", "/")
    parts: list[str] = []
    rooted = decoded.startswith("/") or re.match(r"[A-Za-z]:", decoded) is not None
    for part in decoded.split("/"):
        if part == "..":
            rooted = rooted or not parts
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return _Parts(tuple(parts), literal, rooted)


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Count how many of the last parts are equal."""
    count = 0
    for one, other in zip(reversed(a), reversed(b), strict=False):
        if one != other:
            break
        count += 1
    return count
