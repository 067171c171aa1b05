"""Read the persons of MPII's annotation file as released, without guessing.

Fields that the release omits (joints, scale, visibility) stay unknown. Persons with malformed
fields, such as a text instead of a number or a point without its joint's number, are dropped and
reported: a wrong joint is worse than none.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tfds_builders import report
from tfds_builders.errors import BuildError
from tfds_builders.mat_file import Array, Malformed

NUM_JOINTS = 16
HEIGHT = 200  # height in pixels of a person of scale 1
HEAD = 0.6  # head size of PCKh as a fraction of the head rectangle's diagonal
ONE_BASED = 0.5  # center of MATLAB's pixel 1 in our convention
MAX_COORDINATE = 100_000  # pixels; no image is as large
MAX_PERSONS = 1000  # per image


class Person(NamedTuple):
    """A person of the release.

    Positions are in pixels of the release's image, in our convention: the center of the first pixel
    is at (0.5, 0.5).

    Attributes:
      image_name: file name.
      annolist_index: index of the image in ``annolist``, from 0.
      number: index of the person in ``annorect``, from 0.
      test: whether the image belongs to the test set.
      keypoints: [16, 2] float64; 0 where not labeled.
      labeled: [16] bool.
      visible: [16] bool, labeled and not marked occluded.
      center: [2] float64, ``objpos``; None if omitted.
      scale: height in pixels; None if omitted.
      head_size: pixels; 0 if unknown.
      separated: whether ``single_person`` lists the person.
    """

    image_name: str
    annolist_index: int
    number: int
    test: bool
    keypoints: np.ndarray
    labeled: np.ndarray
    visible: np.ndarray
    center: np.ndarray | None
    scale: float | None
    head_size: float
    separated: bool


def persons(
    release: Array,
    where: str,
    found: report.Report,
    refuse: Callable[[str], None] = lambda what: None,
) -> Iterator[Person]:
    """Yield the persons of the variable RELEASE, in its order.

    Args:
      release: the variable.
      where: name of the file, for messages.
      found: report that records dropped images and persons, and tolerated problems.
      refuse: called with a message before a malformed image or person is dropped; may raise.

    Raises:
      BuildError: the lists of images are inconsistent.
    """
    try:
        annolist, in_training, separated = _lists(release)
    except Malformed as error:
        raise BuildError(f"{where}: {error}; is it the release's file?") from error
    for index in range(annolist.size):
        try:
            name, rectangles, count = _image(annolist, index)
            single = _single_persons(separated, index, count)
        except Malformed as error:
            refuse(f"image {index + 1} of {where}: {error}")
            found.leave_out(str(error), f"image {index + 1}", kind="image")
            continue
        for number in range(count):
            try:
                person = _person(rectangles, number, found)
            except Malformed as error:
                refuse(f"{name} person {number} in {where}: {error}")
                found.leave_out(str(error), f"{name} person {number}")
                continue
            yield person._replace(
                image_name=name,
                annolist_index=index,
                number=number,
                test=not in_training[index],
                separated=number in single,
            )


def test_images(release: Array, where: str) -> list[tuple[str, list[list[float] | None]]]:
    """Return every image of the test set in the release's order, on which MPII's server relies.

    Args:
      release: the variable.
      where: name of the file, for messages.

    Returns:
      (name, positions) of each image. The positions are the ``objpos`` of each element of
      ``annorect``: (x, y) in our convention, or None without one. A malformed image keeps its
      place in the list, as ("", []).

    Raises:
      BuildError: for the same reasons as ``persons``.
    """
    try:
        annolist, in_training, _ = _lists(release)
    except Malformed as error:
        raise BuildError(f"{where}: {error}; is it the release's file?") from error
    return [_test_image(annolist, int(index)) for index in np.flatnonzero(~in_training)]


def _test_image(annolist: Array, index: int) -> tuple[str, list[list[float] | None]]:
    try:
        name, rectangles, count = _image(annolist, index)
    except Malformed:
        return "", []
    places = []
    for number in range(count):
        try:
            place = _position(rectangles.field(number, "objpos"))
        except Malformed:
            place = None
        places.append(None if place is None else place.tolist())
    return name, places


def _image(annolist: Array, index: int) -> tuple[str, Array | None, int]:
    """Return name, rectangles and number of rectangles of an image."""
    name = _image_name(annolist.field(index, "image"))
    rectangles = _optional(annolist.field(index, "annorect"), "struct", "annorect")
    count = rectangles.size if rectangles else 0
    if count > MAX_PERSONS:
        raise Malformed(f"{count:,} persons, more than {MAX_PERSONS:,}")
    return name, rectangles, count


def _lists(release: Array) -> tuple[Array, np.ndarray, Array | None]:
    if release.size != 1:
        raise Malformed(f"RELEASE has {release.size} elements instead of 1")
    annolist = release.field(0, "annolist")
    if annolist is None or annolist.kind != "struct":
        raise Malformed("no list of images in RELEASE.annolist")
    img_train = release.field(0, "img_train")
    if img_train is None:
        raise Malformed("no RELEASE.img_train")
    in_training = img_train.numbers().ravel(order="F")
    if in_training.size != annolist.size or not np.isin(in_training, (0, 1)).all():
        raise Malformed(
            f"RELEASE.img_train does not have a 0 or 1 for each of the {annolist.size:,} images"
        )
    separated = release.field(0, "single_person")
    if separated is not None and (separated.kind != "cell" or separated.size != annolist.size):
        raise Malformed(
            f"RELEASE.single_person does not have a cell for each of the {annolist.size:,} images"
        )
    return annolist, in_training == 1, separated


def _image_name(image: Array | None) -> str:
    image = _optional(image, "struct", "image")
    name = image.field(0, "name") if image and image.size == 1 else None
    if name is None or name.kind != "text" or not name.values:
        raise Malformed("an image without a name")
    if "/" in name.values or "\\" in name.values:
        raise Malformed(f"the image name {name.values!r} contains a slash")
    return name.values


def _single_persons(separated: Array | None, index: int, count: int) -> frozenset[int]:
    """Return the indices, from 0, of the sufficiently separated persons of an image."""
    if separated is None:
        return frozenset()
    listed = separated.cell(index).numbers().ravel()
    if not np.isin(listed, np.arange(1, count + 1)).all():
        raise Malformed("single_person lists a person who does not exist")
    return frozenset(int(number) - 1 for number in listed)


def _person(rectangles: Array, number: int, found: report.Report) -> Person:
    keypoints = np.zeros((NUM_JOINTS, 2))
    labeled = np.zeros(NUM_JOINTS, bool)
    visible = np.zeros(NUM_JOINTS, bool)
    for joint, xy, seen in _points(rectangles.field(number, "annopoints")):
        if labeled[joint]:
            found.remark("duplicate points of a joint (ignored)")
            continue
        keypoints[joint] = xy
        labeled[joint] = True
        visible[joint] = seen
    scale = _number(rectangles.field(number, "scale"), "scale")
    if scale is not None and not 0 < scale * HEIGHT < MAX_COORDINATE:
        raise Malformed(f"scale is not above 0 and below {MAX_COORDINATE // HEIGHT}")
    corners = [_number(rectangles.field(number, side), side) for side in ("x1", "y1", "x2", "y2")]
    head_size = 0.0
    if None not in corners:
        head_size = HEAD * math.hypot(corners[2] - corners[0], corners[3] - corners[1])
    return Person(
        *("", 0, number, False),
        *(keypoints, labeled, visible),
        center=_position(rectangles.field(number, "objpos")),
        scale=None if scale is None else scale * HEIGHT,
        head_size=head_size,
        separated=False,
    )


def _points(annopoints: Array | None) -> Iterator[tuple[int, np.ndarray, bool]]:
    """Yield joint, position and visibility of each labeled point, in the file's order."""
    annopoints = _optional(annopoints, "struct", "annopoints")
    if annopoints is None:
        return
    if annopoints.size != 1:
        raise Malformed(f"{annopoints.size} annopoints instead of 1")
    points = _optional(annopoints.field(0, "point"), "struct", "point")
    for index in range(points.size if points else 0):
        joint = _number(points.field(index, "id"), "id")
        if joint not in range(NUM_JOINTS):
            raise Malformed(f"a point whose id is not a joint, 0 to {NUM_JOINTS - 1}")
        xy = [_number(points.field(index, axis), axis) for axis in ("x", "y")]
        seen = _visible(points.field(index, "is_visible"))
        if xy == [None, None]:
            continue
        if None in xy:
            raise Malformed("a point with only one coordinate")
        yield int(joint), np.array(xy) - ONE_BASED, seen


def _position(objpos: Array | None) -> np.ndarray | None:
    objpos = _optional(objpos, "struct", "objpos")
    if objpos is None:
        return None
    if objpos.size != 1:
        raise Malformed(f"{objpos.size} objpos instead of 1")
    xy = [_number(objpos.field(0, axis), axis) for axis in ("x", "y")]
    return None if None in xy else np.array(xy) - ONE_BASED


def _visible(value: Array | None) -> bool:
    """Interpret is_visible; a joint without it is visible."""
    if value is not None and value.kind == "text" and value.values in ("0", "1"):
        return value.values == "1"
    if value is not None and value.kind == "text" and not value.values:
        return True
    number = _number(value, "is_visible")
    if number not in (None, 0, 1):
        raise Malformed("is_visible is neither 0 nor 1")
    return number != 0


def _optional(value: Array | None, kind: str, name: str) -> Array | None:
    """Return the value if it is of that kind, None if omitted or empty. Raises Malformed."""
    if value is None or (value.size == 0 and value.kind in ("number", kind)):
        return None
    if value.kind != kind:
        raise Malformed(f"{name} is a {value.kind}, not a {kind}")
    return value


def _number(value: Array | None, name: str) -> float | None:
    """Return a number as float (fields may be unsigned), None if omitted. Raises Malformed."""
    value = _optional(value, "number", name)
    if value is None:
        return None
    if value.size != 1:
        raise Malformed(f"{name} has {value.size} numbers instead of one")
    number = float(value.values[0])
    if not abs(number) < MAX_COORDINATE:
        raise Malformed(f"{name} is {number:g}, outside the range of ±{MAX_COORDINATE:,}")
    return number
