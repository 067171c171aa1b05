"""Types for the content of a COCO file."""

import json
from typing import Any, NamedTuple

import numpy as np

MAX_ENTRIES_SHOWN = 3  # per reason, in a message

Dropped = dict[str, list[str]]  # reason: the entries, such as "annotations[3]"


class Category(NamedTuple):
    """A kind of object.

    Attributes:
      id: id in the file.
      name: name, for example ``"person"``.
      joints: J names, () if the category has no keypoints.
      limbs: pairs of these names to connect in drawings.
    """

    id: int | str
    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[str, str], ...]


class Image(NamedTuple):
    """An image, or one frame of a video.

    Attributes:
      id: id in the file.
      file_name: file name in the file; "" for lists of results, which may contain only ids.
      size: (width, height) in pixels, None if the file does not give it.
      frame: number of a video's frame, counted from 0; 0 for an image.
      entry: the image's entry in the file, unchanged, with all its fields.
    """

    id: int | str
    file_name: str
    size: tuple[int, int] | None
    frame: int
    entry: dict[str, Any]


class Annotation(NamedTuple):
    """One object in an image.

    Attributes:
      name: name of the entry, such as ``"annotations[3]"``; unique in the file.
      id: id in the file, or None.
      image: the image that contains the object.
      category: category of the object, None if the file lists no categories.
      category_id: category id in the file.
      box: float64 [4] (x, y, width, height) in pixels, or None. If the entry has no usable
        ``bbox``, the box is the extent of the labeled keypoints, at least 1 pixel wide and high.
      keypoints: float64 [J, 2] in pixels, continuous, 0 where not labeled; or None.
      visibility: int8 [J]: 0 not labeled, 1 labeled but hidden, 2 visible; or None.
      problem: why the entry's keypoints cannot be used; "" if there is no problem.
      area: area of the object in square pixels, None if the file does not give it.
      crowd: whether the entry is a region with several objects and not a single object
        (``iscrowd``).
      ignore: whether the object is excluded from training and counts as a crowd in evaluation.
      score: detection score, or None.
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
    """Content of a file.

    Attributes:
      path: path of the file, for messages.
      images: images in the file's order; for a list of results, in order of occurrence.
      annotations: usable annotations, in the file's order.
      categories: categories in the file's order; () for results and files that list none.
      results: whether the file is a list of results.
      dropped: entries that cannot be used, as ``{reason: entries}``.
      changed: entries that were modified when read, as ``{reason: entries}``; for example, because
        the box was computed from the keypoints.
    """

    path: str
    images: tuple[Image, ...]
    annotations: tuple[Annotation, ...]
    categories: tuple[Category, ...]
    results: bool
    dropped: Dropped
    changed: Dropped


def describe(entries: Dropped) -> str:
    """Format each reason with the number of its entries and the names of the first ones.

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
    """Convert an id to text for comparison (7, 7.0 and "7" are the same); None if invalid."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value)


def id_to_text(value: int | float | str) -> str:
    """Encode an id as JSON, which distinguishes the number 7 from the word "7".

    Example:
      >>> id_to_text(7), id_to_text("7")
      ('7', '"7"')
    """
    return json.dumps(int(value) if isinstance(value, float) else value)


def id_from_text(text: str) -> int | str:
    """Decode an id that ``id_to_text`` encoded.

    Data sets prepared before 0.1.0 contain words without quotes; they are returned unchanged.

    Example:
      >>> id_from_text("7"), id_from_text('"7"'), id_from_text("0012")
      (7, '7', '0012')
    """
    try:
        value = json.loads(text)
    except ValueError:  # an unquoted word, or an integer of thousands of digits
        return text
    return value if type(value) in (int, str) else text
