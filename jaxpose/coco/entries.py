"""Types of what a COCO file holds."""

from typing import Any, NamedTuple

import numpy as np

MAX_ENTRIES_SHOWN = 3  # of one reason, in a message

Dropped = dict[str, list[str]]  # reason: the entries, such as "annotations[3]"


class Category(NamedTuple):
    """A kind of object.

    Attributes:
      id: as the file has it.
      name: for example ``"person"``.
      joints: J names, () where the category has no keypoints.
      limbs: pairs of these names that a drawing connects.
    """

    id: int | str
    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[str, str], ...]


class Image(NamedTuple):
    """An image, or one frame of a video.

    Attributes:
      id: as the file has it.
      file_name: as the file has it; "" in a list of results, which may know the id alone.
      size: (width, height) in pixels, None where the file does not give it.
      frame: number of a video's frame, counted from 0; 0 for an image.
      entry: the entry of the file, for whatever else it holds.
    """

    id: int | str
    file_name: str
    size: tuple[int, int] | None
    frame: int
    entry: dict[str, Any]


class Annotation(NamedTuple):
    """One object in an image.

    Attributes:
      name: of the entry, such as ``"annotations[3]"``; unique in the file.
      id: as the file has it, None where it has none.
      image: that it lies in.
      category: of the object, None where the file lists no categories.
      category_id: as the file has it.
      box: float64 [4] (x, y, width, height) in pixels, or None. Without a usable ``bbox`` it is the
        extent of the labeled keypoints.
      keypoints: float64 [J, 2] in pixels, continuous, 0 where not labeled; or None.
      visibility: int8 [J]: 0 not labeled, 1 labeled but hidden, 2 visible; or None.
      problem: why ``keypoints`` is None although the entry has some, else "".
      area: of the object in square pixels, None where the file does not give it.
      crowd: ``iscrowd``, the entry is a region and not one object.
      ignore: the object is to be left out of training and counts as a crowd in evaluation.
      score: of a detector, or None.
    """

    name: str
    id: int | str | None
    image: Image
    category: Category | None
    category_id: int | str | None
    box: np.ndarray | None
    keypoints: np.ndarray | None
    visibility: np.ndarray | None
    problem: str
    area: float | None
    crowd: bool
    ignore: bool
    score: float | None


class CocoFile(NamedTuple):
    """What a file holds.

    Attributes:
      path: of the file, for messages.
      images: in the file's order; those of a list of results in the order in which they occur.
      annotations: that can be used, in the file's order.
      categories: in the file's order; () for results and files that list none.
      results: whether the file is a list of results.
      dropped: entries that cannot be used.
      changed: entries that are used otherwise than they are written, for example with a box around
        their keypoints.
    """

    path: str
    images: tuple[Image, ...]
    annotations: tuple[Annotation, ...]
    categories: tuple[Category, ...]
    results: bool
    dropped: Dropped
    changed: Dropped


def describe(entries: Dropped) -> str:
    """Counts by reason as text.

    Example:
      >>> describe({"crowd": ["annotations[3]", "annotations[9]"]})
      'crowd: 2 (annotations[3], annotations[9])'
    """
    parts = []
    for reason, names in entries.items():
        shown = ", ".join(names[:MAX_ENTRIES_SHOWN]) + ", ..." * (len(names) > MAX_ENTRIES_SHOWN)
        parts.append(f"{reason}: {len(names)} ({shown})")
    return "; ".join(parts)


def id_key(value: Any) -> str | None:
    """An id as text, by which ids are compared: 7, 7.0 and "7" are one id; None if it is none."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value)
