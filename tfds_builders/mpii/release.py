"""Find MPII's annotation files and the images of each."""

import posixpath
import re
from typing import NamedTuple

from tfds_builders.errors import BuildError
from tfds_builders.sources import Files

ANNOTATIONS = re.compile(r"^mpii.*\.mat$", re.IGNORECASE)
IMAGE = re.compile(r"^[^.].*\.(jpg|jpeg|png)$", re.IGNORECASE)


class Release(NamedTuple):
    """An annotation file and the images that belong to it.

    Attributes:
      files: the folder or archive of the annotation file.
      annotations: its name in that folder or archive.
      images: by file name of the image: its folder or archive, and its name in there.
    """

    files: Files
    annotations: str
    images: dict[str, tuple[Files, str]]


def find_releases(found: list[Files]) -> list[Release]:
    """Return the annotation files with their images, in the order of the sources.

    Images belong to the annotation file of their own folder or archive. If that has several
    annotation files, images belong to the nearest one, so that resized images are not paired with
    the joints of the originals. Images of an archive without annotations belong to every annotation
    file.

    Raises:
      BuildError: there is no annotation file, or one without images.
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
            "give the release's archives or the extracted folder as --source"
        )
    with_annotations = [files for files, _ in annotations]
    common = [files for files in found if files not in with_annotations]
    releases = []
    for files, name in annotations:
        rivals = [other for owner, other in annotations if owner is files]
        images = _images(files, name, rivals)
        for other in common:
            images = _images(other, "", [""]) | images
        if not images:
            raise BuildError(
                f"no images next to {files.path}/{name}; give their archive or folder as a "
                "further --source"
            )
        releases.append(Release(files, name, images))
    return releases


def _images(files: Files, owner: str, rivals: list[str]) -> dict[str, tuple[Files, str]]:
    """Return the images of the annotation file ``owner``: none of ``rivals`` is nearer to them."""
    nearness: dict[str, tuple[int, bool]] = {}
    nearest: dict[str, int] = {}
    images: dict[str, tuple[Files, str]] = {}
    for name in files.names:
        folder, base = posixpath.split(name)
        if not IMAGE.match(base):
            continue
        if folder not in nearness:
            shared = {rival: _shared_folders(folder, rival) for rival in rivals}
            nearness[folder] = shared[owner], shared[owner] == max(shared.values())
        depth, owned = nearness[folder]
        if owned and depth > nearest.get(base, -1):
            nearest[base] = depth
            images[base] = files, name
    return images


def _shared_folders(folder: str, file: str) -> int:
    count = 0
    for one, other in zip(folder.split("/"), posixpath.dirname(file).split("/"), strict=False):
        if one != other or not one:
            break
        count += 1
    return count
