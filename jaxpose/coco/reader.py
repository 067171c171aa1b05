"""Read COCO's JSON, tolerating the variants that labeling tools and detectors write.

``read_coco`` reads a data set (``images``, ``annotations``, ``categories``) or a list of results.
It keeps every entry that it can use and lists the others, with the reason, in ``dropped``. A file
that cannot be used at all raises a ``JaxposeError`` that names the invalid entry.

COCO's keypoints are pixel indices, counted from 0. Positions in this package are continuous: COCO's
coordinate plus 0.5, the center of the pixel. Boxes are continuous in COCO and in this package;
(0, 0) is the corner of the image.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxpose.coco.entries import Annotation, Category, CocoFile, Dropped, Image, id_key
from jaxpose.errors import JaxposeError

KEYPOINT_BOX = "no usable box (the box of the keypoints is used)"
HALF_PIXEL = 0.5  # offset from COCO's pixel index to the continuous position of its center


def read_coco(path: str | os.PathLike) -> CocoFile:
    """Read a COCO data set or a list of COCO results.

    Raises:
      JaxposeError: the file cannot be read, is not COCO's JSON, or contradicts itself.
    """
    return parse_coco(decode_json(read_text(path), path), path)


def read_text(path: str | os.PathLike) -> str:
    """Read a text file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
      JaxposeError: the file cannot be read or is not text.
    """
    try:
        data = pathlib.Path(path).read_bytes()
        return data.decode(json.detect_encoding(data))
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path, or not text
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise JaxposeError(f"cannot read {path}: {reason}") from error


def decode_json(text: str, path: str | os.PathLike) -> Any:
    """Decode JSON; objects with a repeated key are rejected.

    Raises:
      JaxposeError: the text is not valid JSON; the message gives line and column.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            where = f" (the one with the id {found['id']!r})" if "id" in found else ""
            raise ValueError(f"an object{where} has the key {twice!r} twice")
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise JaxposeError(
            f"{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
            "export it again"
        ) from error
    except RecursionError:
        raise JaxposeError(f"{path} is not COCO's JSON: it is nested too deeply") from None
    except ValueError as error:  # a repeated key, or an integer of thousands of digits
        reason = str(error).partition(";")[0]
        raise JaxposeError(f"{path} cannot be used: {reason}; correct the file") from error


def is_coco(content: Any) -> bool:
    """Whether decoded JSON looks like a data set or a list of results."""
    keys = ("images", "annotations", "categories")
    return (
        isinstance(content, list) or isinstance(content, dict) and any(k in content for k in keys)
    )


def parse_coco(content: Any, path: str | os.PathLike) -> CocoFile:
    """Like ``read_coco``, for decoded JSON.

    Args:
      content: a data set or a list of results.
      path: path of the file, for messages.

    Raises:
      JaxposeError: the content is not COCO's JSON, or contradicts itself.
    """
    parser = _Parser(str(path))
    if isinstance(content, list):
        return parser.results(content)
    if not isinstance(content, dict):
        raise JaxposeError(
            f"{path} is not COCO's JSON: it contains {_kind(content)}; give an object"
        )
    return parser.data_set(content)


class _Parser:
    """Parses one file and collects the entries that are dropped or changed."""

    def __init__(self, path: str):
        self.path = path
        self.dropped: Dropped = {}
        self.changed: Dropped = {}

    def drop(self, reason: str, entry: str) -> None:
        self.dropped.setdefault(reason, []).append(entry)

    def change(self, what: str, entry: str) -> None:
        self.changed.setdefault(what, []).append(entry)

    def fail(self, message: str) -> JaxposeError:
        return JaxposeError(f"{self.path}: {message}")

    def data_set(self, content: dict[str, Any]) -> CocoFile:
        for key in ("images", "annotations", "categories"):
            if key not in content and key != "categories":
                raise self.fail(
                    f"there is no {key!r}; give COCO's JSON with images and annotations"
                )
            if not isinstance(content.get(key, []), list):
                raise self.fail(f"{key!r} is {_kind(content[key])}; it must be a list")
        categories = self._categories(content.get("categories", []))
        if "categories" in content and not categories and content["categories"]:
            raise self.fail("no entry of 'categories' has an id and a name")
        images = self._images(content["images"])
        found = self._annotations(content["annotations"], "annotations", images, categories)
        listed = tuple(categories.values())
        return self._file(tuple(images.values()), found, listed, results=False)

    def results(self, content: list) -> CocoFile:
        images: dict[str, Image] = {}
        for entry in content:
            key = id_key(entry.get("image_id")) if isinstance(entry, dict) else None
            if key is not None and key not in images:
                name = entry.get("file_name")
                name = name if isinstance(name, str) else ""
                images[key] = Image(entry["image_id"], name, None, 0, {})
        if content and not images:
            raise self.fail(
                f"results[0] is {_kind(content[0])} without an image_id; give COCO's JSON or a "
                "list of COCO results"
            )
        found = self._annotations(content, "results", images, {})
        return self._file(tuple(images.values()), found, (), results=True)

    def _file(self, images, annotations, categories, *, results: bool) -> CocoFile:
        return CocoFile(
            self.path, images, annotations, categories, results, self.dropped, self.changed
        )

    def _objects(self, entries: list, prefix: str) -> Iterator[tuple[str, dict]]:
        """Yield the entries that are objects, each with its location in the file."""
        for index, entry in enumerate(entries):
            where = f"{prefix}[{index}]"
            if isinstance(entry, dict):
                yield where, entry
            else:
                self.drop("not an object", where)

    def _categories(self, entries: list) -> dict[str, Category]:
        found: dict[str, Category] = {}
        for where, entry in self._objects(entries, "categories"):
            key, name = id_key(entry.get("id")), entry.get("name")
            if key is None or not isinstance(name, str) or not name.strip():
                self.drop("category without an id or without a name", where)
                continue
            joints = self._joints(entry.get("keypoints"), where)
            limbs = self._limbs(entry.get("skeleton"), joints, where)
            category = Category(entry["id"], name.strip(), joints, limbs)
            if found.get(key, category)[1:] != category[1:]:
                raise self.fail(
                    f"{where} has the same id {key} as another category; give it a unique id"
                )
            if key in found:
                self.drop("duplicate category", where)
            found.setdefault(key, category)
        return found

    def _joints(self, value: Any, where: str) -> tuple[str, ...]:
        if value is None or value == []:
            return ()
        names = value if isinstance(value, list) else [None]
        if not all(isinstance(name, str | int) and str(name).strip() for name in names):
            raise self.fail(f"{where} has keypoints that are not a list of names")
        joints = tuple(str(name).strip() for name in names)
        for name in joints:
            if joints.count(name) > 1:
                raise self.fail(f"{where} has the keypoint {name!r} twice; names must be unique")
        return joints

    def _limbs(self, value: Any, joints: tuple[str, ...], where: str):
        pairs = value if isinstance(value, list) else []
        ends = [end for pair in pairs if isinstance(pair, list) for end in pair]
        first = 0 if 0 in ends else 1  # COCO counts joints from 1, some tools from 0
        names: dict[Any, str] = {str(index): joint for index, joint in enumerate(joints, first)}
        names |= {joint: joint for joint in joints}
        names |= dict(enumerate(joints, first))
        limbs = []
        for index, pair in enumerate(pairs):
            known = isinstance(pair, list) and all(isinstance(end, str | int) for end in pair)
            limb = tuple(names.get(end, "") for end in pair) if known else ()
            if len(limb) == 2 and all(limb) and limb[0] != limb[1]:
                limbs.append(limb)
            elif joints:
                self.drop("limb that does not connect two keypoints", f"{where}.skeleton[{index}]")
        return tuple(dict.fromkeys(limbs))

    def _images(self, entries: list) -> dict[str, Image]:
        found: dict[str, tuple[str, Image]] = {}
        for where, entry in self._objects(entries, "images"):
            key, name = id_key(entry.get("id")), entry.get("file_name")
            frame = 0 if entry.get("frame") is None else _number(entry["frame"])
            if key is None:
                self.drop("image without an id", where)
            elif not isinstance(name, str) or not name.strip():
                self.drop("image without a file name", where)
            elif frame is None or frame < 0 or frame % 1:
                self.drop("image with an invalid frame number", where)
            else:
                width, height = _number(entry.get("width")), _number(entry.get("height"))
                size = None
                if width is not None and height is not None and min(width, height) >= 1:
                    size = (int(width), int(height))
                image = Image(entry["id"], name, size, int(frame), entry)
                first, other = found.setdefault(key, (where, image))
                if (other.file_name, other.frame) != (name, frame):
                    raise self.fail(
                        f"{where} has the same id {key} as {first}; give it a unique id"
                    )
                if first != where:
                    self.drop("duplicate image", where)
        return {key: image for key, (_, image) in found.items()}

    def _annotations(self, entries: list, prefix: str, images, categories):
        found: list[Annotation] = []
        seen: dict[str, dict] = {}
        for where, entry in self._objects(entries, prefix):
            image_key, own_id = id_key(entry.get("image_id")), entry.get("id")
            if image_key not in images:
                reason = "image_id that is not in images"
                self.drop("no image_id" if image_key is None else reason, where)
                continue
            category_key = id_key(entry.get("category_id"))
            if category_key is None and len(categories) == 1:
                category_key = next(iter(categories))
            category = categories.get(category_key)
            if categories and category is None:
                self.drop("category_id missing or not in categories", where)
                continue
            key = id_key(own_id)
            if key is not None and seen.setdefault(key, entry) is not entry and seen[key] == entry:
                self.drop("duplicate annotation", where)
                continue
            found.append(self._annotation(entry, where, images[image_key], category, prefix))
        return tuple(found)

    def _annotation(self, entry, where, image, category, prefix: str) -> Annotation:
        joints = len(category.joints) if category else None
        keypoints = visibility = None
        problem, value = "", entry.get("keypoints")
        if value is not None and value != []:
            try:
                keypoints, visibility = self._keypoints(
                    value, joints, where, is_result=prefix == "results"
                )
            except ValueError as error:
                problem = str(error)
        box = as_box(entry.get("bbox"))
        if box is None and keypoints is not None and visibility is not None:
            box = _extent(keypoints[visibility > 0])
            if box is not None:
                self.change(KEYPOINT_BOX, where)
        own_id, category_id = entry.get("id"), entry.get("category_id")
        return Annotation(
            where,
            own_id if id_key(own_id) is not None else None,
            image,
            category,
            category.id if category else category_id if id_key(category_id) else None,
            box,
            keypoints,
            visibility,
            problem,
            _number(entry.get("area")),
            _is_set(entry.get("iscrowd")),
            _is_set(entry.get("ignore")),
            _number(entry.get("score")),
        )

    def _keypoints(self, value: Any, joints: int | None, where: str, *, is_result: bool):
        """Parse keypoints [J, 2] and visibility [J]; invalid input raises a ValueError."""
        if not isinstance(value, list):
            raise ValueError(f"keypoints are {_kind(value)}, not a list")
        nested = all(isinstance(part, list) for part in value)
        width = len(value[0]) if nested else 3
        flat = [number for part in value for number in part] if nested else value
        if joints == 0:
            raise ValueError("its category defines no keypoint names")
        if joints is not None and len(flat) in (2 * joints, 3 * joints):
            width = len(flat) // joints
        if width not in (2, 3) or len(flat) != width * (joints or len(flat) // width):
            wanted = f"3 x {joints}" if joints else "a multiple of 3"
            raise ValueError(f"{len(flat)} keypoint values, not {wanted}")
        table = _numbers(flat).reshape(-1, width)
        points = table[:, :2]
        if width == 3:
            visibility = table[:, 2]
        else:  # (0, 0) means not labeled
            visibility = 2.0 * (points != 0).any(axis=1)
            self.change("keypoints without v (labeled unless at (0, 0))", where)
        usable = visibility >= 0 if is_result else np.isin(visibility, (0, 1, 2))
        if not usable.all():
            joint = int(np.argmin(usable)) + 1
            raise ValueError(f"keypoint {joint} has a v that is not 0, 1 or 2")
        if is_result:  # detectors write arbitrary values of v
            visibility = 2.0 * (visibility > 0)
        labeled = visibility > 0
        placed = np.isfinite(points).all(axis=1)
        for unplaced in np.flatnonzero(labeled & ~placed):
            self.change(
                "keypoint without a position (not labeled)",
                f"{where}.keypoints[{width * unplaced}]",
            )
        labeled &= placed
        points = np.where(labeled[:, None], points + HALF_PIXEL, 0.0)
        return points, np.where(labeled, visibility, 0).astype(np.int8)


def as_box(value: Any) -> np.ndarray | None:
    """Convert a box to float64 [4] (x, y, width, height); None if it is invalid or empty."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    box = _numbers(value)
    if not np.isfinite(box).all() or box[2:].min() <= 0:
        return None
    return box


def _extent(points: np.ndarray) -> np.ndarray | None:
    """Return the box of the points; None if all are at one position.

    A joint occupies its pixel, so joints on a vertical or horizontal line have a box, too.
    """
    if len(points) == 0:
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    with np.errstate(over="ignore"):
        extent = high - low
    if not 0 < extent.max() < np.inf:
        return None
    size = np.maximum(extent, 1.0)
    return np.concatenate([low - (size - extent) / 2, size])


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _numbers(values: list) -> np.ndarray:
    """Convert values to float64; NaN for those that are not finite numbers."""
    if set(map(type, values)) <= {int, float}:
        try:
            array = np.array(values, np.float64)
            return np.where(np.isfinite(array), array, np.nan)
        except OverflowError:
            pass
    numbers = map(_number, values)
    return np.array([np.nan if number is None else number for number in numbers], np.float64)


def _is_set(value: Any) -> bool:
    return value is True or bool(_number(value)) or str(value).strip().casefold() == "true"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean"}
    return names.get(type(value), "null" if value is None else "a number")
