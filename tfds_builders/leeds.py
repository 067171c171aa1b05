"""Common code of LSP and LSPET: the layout of their releases and the form of an example."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tfds_builders import image_files, mat_file, pose_builder
from tfds_builders.errors import BuildError
from tfds_builders.sources import Files, ReadError

NUM_JOINTS = 14


class Release(NamedTuple):
    """Location of a release.

    Attributes:
      files: the folder or archive that contains it.
      joints: name of its joints.mat in that folder or archive.
      images: names of its images, by the image's number from 1.
    """

    files: Files
    joints: str
    images: dict[int, str]


def find_release(found: list[Files], digits: int, release: str) -> Release:
    """Find the folder or archive with joints.mat and, next to it, images/imN.jpg.

    Args:
      found: folders and archives to search, in this order.
      digits: number of digits of N in the images' names: 4 in LSP, 5 in LSPET.
      release: name of the release, for messages.

    Raises:
      BuildError: there is no release, or more than one.
    """
    image = re.compile(rf"^(.*?)images/im(\d{{{digits}}})\.(?:jpg|png)$")
    releases: dict[tuple[str, str], Release] = {}
    for files in found:
        names = set(files.names)
        for name in files.names:
            match = image.match(name)
            if not match or f"{match[1]}joints.mat" not in names:
                continue
            where = (str(files.path), match[1])
            release_here = releases.setdefault(where, Release(files, f"{match[1]}joints.mat", {}))
            release_here.images[int(match[2])] = name
    if not releases:
        raise BuildError(
            f"no {release} in {_paths(found)} (expected a folder with joints.mat and "
            f"images/im{'1'.zfill(digits)}.jpg); give the release's zip or its extracted folder as "
            "--source"
        )
    if len(releases) > 1:
        places = ", ".join("/".join(filter(None, where)) for where in releases)
        raise BuildError(
            f"{release} was found more than once ({places}); give one of them as --source"
        )
    return next(iter(releases.values()))


def read_joints(files: Files, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the joints of a joints.mat, whose axes may be in either order.

    Returns:
      xy [N, 14, 2] float64 as in the file, and flags [N, 14] bool, the third entry of each joint.
      A flag means occluded in LSP and labeled in LSPET.

    Raises:
      BuildError: the file is corrupt or has an unexpected form.
    """
    where = f"{files.path}/{name}"
    try:
        data = files.read(name)
    except ReadError as error:
        raise BuildError(f"{where} cannot be read ({error}); download it again") from error
    try:
        joints = mat_file.read(data, "joints", where).numbers()
    except mat_file.Malformed as error:
        raise BuildError(f"{where}: {error} in joints; download the file again") from error
    if joints.ndim != 3 or joints.shape[:2] not in ((3, NUM_JOINTS), (NUM_JOINTS, 3)):
        raise BuildError(
            f"{where}: joints have shape {joints.shape}, not (3, 14, N) or (14, 3, N); "
            "is it the release's file?"
        )
    if joints.shape[0] == 3:
        joints = joints.transpose(1, 0, 2)
    joints = joints.transpose(2, 0, 1).astype(np.float64)
    flags = joints[..., 2]
    if not (np.isfinite(joints).all() and np.isin(flags, (0, 1)).all()):
        raise BuildError(
            f"{where}: a joint has an infinite or NaN coordinate, or a flag other than 0 and 1; "
            "download the file again"
        )
    return joints[..., :2], flags == 1


def sample_sizes(release: Release) -> dict[int, tuple[int, int]]:
    """Return the (width, height) in pixels of about a hundred evenly spread images, by number."""
    sizes = {}
    for number in sorted(release.images)[:: max(1, len(release.images) // 100)]:
        try:
            sizes[number] = image_files.size(release.files.read(release.images[number]))
        except ReadError:
            continue  # reported when it is read
    return sizes


def check_joints_fit(
    release: Release, sizes: dict[int, tuple[int, int]], xy: np.ndarray, labeled: np.ndarray
) -> None:
    """Raise a BuildError if the joints cannot belong to these images.

    A few joints of the releases lie far outside their image, but in fewer than one image in twenty.
    """
    outside = 0
    for number, size in sizes.items():
        if number <= len(xy):
            given = xy[number - 1][labeled[number - 1]]
            beyond = np.maximum(-given, given - size).max(initial=0)
            outside += beyond > 0.25 * max(size)
    if outside > len(sizes) / 20:
        raise BuildError(
            f"{release.files.path}: in {outside} of {len(sizes)} images, joints in "
            f"{release.joints} lie far outside the images; use images and joints of the same "
            "release"
        )


class Annotations(NamedTuple):
    """The joints of a release, in the schema's convention.

    Attributes:
      keypoints: [N, 14, 2] float64, pixels.
      labeled, visible: [N, 14] bool.
    """

    keypoints: np.ndarray
    labeled: np.ndarray
    visible: np.ndarray


def numbers_by_split(
    builder: pose_builder.PoseBuilder, release: Release, count: int, split_of: Callable[[int], str]
) -> dict[str, list[int]]:
    """Return the numbers of the annotated images that have a file, by split.

    The report lists the annotated images without a file.

    Args:
      builder: the builder, for its report.
      release: the release.
      count: number of annotated images.
      split_of: function from an image's number to its split.

    Raises:
      BuildError: a file is missing and ``strict`` is set.
    """
    splits: dict[str, list[int]] = {}
    digits = len(re.search(r"(\d+)\.\w+$", next(iter(release.images.values())))[1])
    for number in range(1, count + 1):
        if number in release.images:
            splits.setdefault(split_of(number), []).append(number)
        else:
            name = f"im{number:0{digits}d}.jpg"
            builder.refuse_if_strict(f"{name} is not among the images")
            builder.report.missing.append(name)
    if beyond := sum(number > count for number in release.images):
        builder.report.remark("images without annotation", beyond)
    return splits


def examples(
    builder: pose_builder.PoseBuilder,
    release: Release,
    numbers: list[int],
    annotations: Annotations,
) -> Iterator[tuple[int, dict]]:
    """Yield the (key, example) pairs of the readable images; the key is the image's number."""
    requests = [(number, release.files, release.images[number]) for number in numbers]
    for number, image in builder.read_images(requests, lambda data, _: image_files.prepare(data)):
        person = Annotations(*(values[number - 1] for values in annotations))
        name = release.images[number].rpartition("/")[2]
        if image.encoded_again:
            builder.report.remark("images re-encoded (they were not upright or not RGB)")
        yield number, _example(name, image, person)


def _example(name: str, image: image_files.EncodedImage, person: Annotations) -> dict:
    size = np.array([image.width, image.height], np.float32)
    return {
        "image": image.data,
        "image_name": name,
        "person": 0,
        "keypoints": np.where(person.labeled[:, None], person.keypoints, 0).astype(np.float32),
        "labeled": person.labeled,
        "visible": person.visible & person.labeled,
        "box": np.array([0, 0, *size], np.float32),
        "center": size / 2,
        "scale": size.max(),
        "head_size": np.float32(0),
        "separated": True,
    }


def _paths(found: list[Files]) -> str:
    return ", ".join(dict.fromkeys(str(files.path) for files in found)) or "no folder"
