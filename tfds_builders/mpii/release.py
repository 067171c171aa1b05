"""Where MPII's annotation files lie, and the pictures of each."""

import posixpath
import re
from typing import NamedTuple

from tfds_builders.errors import BuildError
from tfds_builders.sources import Files

ANNOTATIONS = re.compile(r"^mpii.*\.mat$", re.IGNORECASE)
PICTURE = re.compile(r"^[^.].*\.(jpg|jpeg|png)$", re.IGNORECASE)


class Release(NamedTuple):
    """An annotation file and the pictures that belong to it.

    Attributes:
      files: the folder or archive of the annotation file.
      annotations: its name in there.
      pictures: folder or archive, and name in there, of the pictures, by file name.
    """

    files: Files
    annotations: str
    pictures: dict[str, tuple[Files, str]]


def find_releases(found: list[Files]) -> list[Release]:
    """The annotation files with their pictures, in the order of the sources.

    Pictures belong to the annotation file of their own folder or archive, the nearest where it
    holds several: a reduced picture must not meet the joints of the original. Those of an archive
    without annotations belong to all.

    Raises:
      BuildError: there is no annotation file, or one without pictures.
    """
    annotations = [
        (files, name)
        for files in found
        for name in files.names
        if ANNOTATIONS.match(posixpath.basename(name))
    ]
    if not annotations:
        raise BuildError(
            f"no mpii_human_pose_v1_u12_1.mat in {', '.join(str(files.path) for files in found)}; "
            "name the release's archives or the extracted folder as --source"
        )
    with_annotations = [files for files, _ in annotations]
    common = [files for files in found if files not in with_annotations]
    releases = []
    for files, name in annotations:
        rivals = [other for owner, other in annotations if owner is files]
        pictures = _pictures(files, name, rivals)
        for other in common:
            pictures = _pictures(other, "", [""]) | pictures
        if not pictures:
            raise BuildError(
                f"no pictures beside {files.path}/{name}; name their archive or folder as a "
                "further --source"
            )
        releases.append(Release(files, name, pictures))
    return releases


def _pictures(files: Files, owner: str, rivals: list[str]) -> dict[str, tuple[Files, str]]:
    """The pictures of which no rival is nearer than the owner."""
    nearness: dict[str, tuple[int, bool]] = {}
    nearest: dict[str, int] = {}
    pictures: dict[str, tuple[Files, str]] = {}
    for name in files.names:
        folder, base = posixpath.split(name)
        if not PICTURE.match(base):
            continue
        if folder not in nearness:
            shared = {rival: _shared_folders(folder, rival) for rival in rivals}
            nearness[folder] = shared[owner], shared[owner] == max(shared.values())
        depth, owned = nearness[folder]
        if owned and depth > nearest.get(base, -1):
            nearest[base] = depth
            pictures[base] = files, name
    return pictures


def _shared_folders(folder: str, file: str) -> int:
    count = 0
    for one, other in zip(folder.split("/"), posixpath.dirname(file).split("/"), strict=False):
        if one != other or not one:
            break
        count += 1
    return count
