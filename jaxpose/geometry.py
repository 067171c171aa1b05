"""Square crops and affine maps of coordinates, and the one function that cuts a crop out.

Coordinates are (x, y) and continuous: pixel (column c, row r) covers [c, c + 1) x [r, r + 1), its
center is (c + 0.5, r + 0.5), an image is [0, W] x [0, H]. A crop's own coordinates are normalized:
(0, 0) and (1, 1) are its corners. One affine map leads from there to the pixels of the image;
resampling follows the same map, so image and points cannot drift apart.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional


class Crop(NamedTuple):
    """A square of an image, turned and perhaps mirrored, in pixels of the stored image.

    Attributes:
      center: (x, y) of its middle.
      side: its length, above 0.
      rotation: degrees by which the square is turned, from the x axis toward the y axis
        (clockwise on the screen; what it shows turns the other way).
      flip: whether what it shows is mirrored, left to right.
    """

    center: tuple[float, float]
    side: float
    rotation: float = 0.0
    flip: bool = False


class CropRule(NamedTuple):
    """How an example's crop follows from its annotation.

    Attributes:
      source: ``"scale"``: ``center`` and ``scale`` of the example; ``"joints"``: the box of its
        labeled keypoints; ``"image"``: the whole image, padded to a square; ``"box"``: its
        ``box``.
      enlargement: the crop's side over the source's longer side (over ``scale``).
      shift: how far the center moves down, as a fraction of ``scale``; used with ``"scale"`` only.
    """

    source: str
    enlargement: float = 1.0
    shift: float = 0.0


MPII_RULE = CropRule("scale", 1.25, 15 / 200)
"""The authors' crop of MPII."""

LSP_RULE = CropRule("joints", 1 / 0.76, 0.0)
"""Training and validation on LSP and LSPET: 0.76 is the median share of the person in LSP's
images. It reads the labels, so it has no place in a test."""

IMAGE_RULE = CropRule("image", 1.0, 0.0)
"""LSP's test: uses no ground truth."""

BOX_RULE = CropRule("box", 1.25, 0.0)
"""COCO's usual crop, of a box that the annotations or a detector gives."""

CROP_RULES = {
    "scale": (MPII_RULE, "crop by the release's scale and center"),
    "joints": (LSP_RULE, "crop by the true joints' box"),
    "image": (IMAGE_RULE, "whole image, no ground truth used"),
    "box": (BOX_RULE, "crop by the given box"),
}
"""The rules that configs name, each with its description for tables and files."""


def crop_rule(name: str) -> CropRule:
    """The rule of that name; a JaxposeError lists the names where there is none."""
    return _named(name)[0]


def crop_description(name: str) -> str:
    """The description of the rule of that name; errors as `crop_rule`."""
    return _named(name)[1]


def _named(name: str) -> tuple[CropRule, str]:
    if name not in CROP_RULES:
        raise JaxposeError(f"unknown crop {name!r}; choose one of {', '.join(CROP_RULES)}")
    return CROP_RULES[name]


def example_crop(example: Mapping[str, Any], rule: CropRule) -> Crop:
    """The crop that a rule gives for one example of a prepared data set.

    Args:
      example: the features that the rule reads: ``center`` [2] and ``scale``, or ``keypoints``
        [J, 2] and ``labeled`` [J], or ``box`` [4] (x, y, width, height), all in pixels; for
        ``"image"`` the decoded ``image`` [H, W, 3], or ``stored_size`` (width, height).
      rule: which of them, and by how much the crop is larger.

    Returns:
      An upright crop. Where the source is missing or has no extent (fewer than two labeled
      joints, say), the rule falls back to ``scale``, then to the image.

    Raises:
      JaxposeError: the rule's source is unknown, or nothing in the example has an extent.
    """
    if rule.source not in _SOURCES:
        raise JaxposeError(
            f"crop rule {rule.source!r} is unknown; use one of {', '.join(sorted(_SOURCES))}"
        )
    for source in (rule.source, "scale", "image"):
        found = _SOURCES[source](example)
        if found is None:
            continue
        (x, y), side = found
        if np.isfinite([x, y, side * rule.enlargement]).all() and side > 0:
            shift = rule.shift * side if source == "scale" else 0.0
            return Crop((float(x), float(y + shift)), float(side * rule.enlargement))
    raise JaxposeError(
        "an example has neither keypoints, scale nor an image to cut a crop by; "
        "prepare its data set again"
    )


def rule_for_boxes(rule: CropRule) -> CropRule:
    """The rule that applies a checkpoint's crop rule to boxes, with the longer side as ``scale``.

    Args:
      rule: of any source. The shift belongs to a rule by ``"scale"`` and is 0 otherwise.

    Returns:
      A rule by ``"scale"``.

    Example:
      >>> rule_for_boxes(LSP_RULE._replace(shift=0.5)).shift
      0.0
    """
    return CropRule("scale", rule.enlargement, rule.shift if rule.source == "scale" else 0.0)


def box_crop(box: np.ndarray, rule: CropRule) -> Crop:
    """The crop that a checkpoint's rule gives for a box.

    Args:
      box: [4], (x, y, width, height) in pixels.
      rule: the checkpoint's; see `rule_for_boxes`.

    Returns:
      An upright crop.

    Raises:
      JaxposeError: the box has no extent.

    Example:
      >>> box_crop(np.array([10.0, 20.0, 40.0, 80.0]), IMAGE_RULE)
      Crop(center=(30.0, 60.0), side=80.0, rotation=0.0, flip=False)
    """
    x, y, width, height = np.asarray(box, np.float64).tolist()
    example = {"center": (x + width / 2, y + height / 2), "scale": max(width, height)}
    return example_crop(example, rule_for_boxes(rule))


def _scale_extent(example):
    if "scale" not in example or "center" not in example:
        return None
    return _floats(example["center"]), float(_floats(example["scale"]))


def _joints_extent(example):
    if "keypoints" not in example or "labeled" not in example:
        return None
    points = _floats(example["keypoints"])[np.asarray(example["labeled"], bool)]
    if not len(points):
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2, (high - low).max()


def _box_extent(example):
    if "box" not in example:
        return None
    x, y, width, height = _floats(example["box"]).tolist()
    return (x + width / 2, y + height / 2), max(width, height)


def _image_extent(example):
    if "stored_size" in example:
        width, height = example["stored_size"]
    elif hasattr(example.get("image"), "shape"):
        height, width = example["image"].shape[:2]
    else:
        return None
    return (width / 2, height / 2), max(width, height)


def _floats(values):
    """Numbers as float64; integers beyond its range become infinite."""
    try:
        return np.asarray(values, np.float64)
    except OverflowError:
        most = int(np.finfo(np.float64).max)
        values = np.asarray(values, object)
        return np.where(abs(values) > most, np.where(values > 0, np.inf, -np.inf), values).astype(
            np.float64
        )


_SOURCES = {
    "scale": _scale_extent,
    "joints": _joints_extent,
    "box": _box_extent,
    "image": _image_extent,
}
# In checkpoints written before 0.1.0. Remove in 1.0.
_OLD_SOURCE = "picture"  # old spelling
_SOURCES[_OLD_SOURCE] = _image_extent


def crop_to_image(crop: Crop) -> np.ndarray:
    """The affine map from a crop's normalized coordinates to pixels of the image.

    Args:
      crop: the crop.

    Returns:
      float64 [2, 3]: (u, v) in [0, 1] x [0, 1] goes to ``matrix @ (u, v, 1)`` = (x, y).

    Example:
      >>> matrix = crop_to_image(Crop((50.0, 40.0), 20.0))
      >>> apply_affine(matrix, np.array([[0.0, 0.0], [0.5, 0.5]])).tolist()
      [[40.0, 30.0], [50.0, 40.0]]
    """
    angle = np.deg2rad(crop.rotation)
    cosine, sine = np.cos(angle), np.sin(angle)
    linear = crop.side * np.array([[cosine, -sine], [sine, cosine]])
    if crop.flip:
        linear[:, 0] *= -1
    offset = np.asarray(crop.center, np.float64) - linear @ (0.5, 0.5)
    return np.concatenate([linear, offset[:, None]], axis=1)


def apply_affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points by affine maps.

    Args:
      matrix: [..., 2, 3].
      points: [..., N, 2] as (x, y); leading axes as those of ``matrix``.

    Returns:
      [..., N, 2].
    """
    matrix = np.asarray(matrix)
    return np.asarray(points) @ np.swapaxes(matrix[..., :2], -1, -2) + matrix[..., None, :, 2]


def invert_affine(matrix: np.ndarray) -> np.ndarray:
    """Invert affine maps.

    Args:
      matrix: [..., 2, 3].

    Returns:
      float64 [..., 2, 3].

    Raises:
      numpy.linalg.LinAlgError: a map has no inverse.
    """
    matrix = np.asarray(matrix, np.float64)
    linear = np.linalg.inv(matrix[..., :2])
    return np.concatenate([linear, -linear @ matrix[..., 2:]], axis=-1)


def reduction(side: float, size: int) -> int:
    """The power of two by which an image is reduced before a crop is resampled.

    A crop whose side is more than twice its size in pixels would be sampled with gaps: the image
    is halved, by area, until it is not.

    Args:
      side: the crop's side, in pixels of the image.
      size: pixels of the crop's side after resampling.

    Returns:
      1, 2, 4, ...

    Example:
      >>> [reduction(side, 256) for side in (100, 512, 513, 1025)]
      [1, 1, 2, 4]
    """
    factor = 1
    while side > 2 * size * factor:
        factor *= 2
    return factor


def crop_image(
    image: np.ndarray, crop: Crop, size: int, *, reduced: int = 1, out: np.ndarray | None = None
) -> np.ndarray:
    """Cuts a crop out of an image: area reduction by a power of two, then one affine map.

    Args:
      image: uint8 [H, W, 3].
      crop: in pixels of the full image.
      size: S, pixels of the result's side.
      reduced: the power of two by which ``image`` is reduced already (JPEG's scaled decoding),
        at most ``reduction(crop.side, size)``; pixel c of it covers [c * reduced, (c + 1) *
        reduced) of the full image, the last one perhaps in part.
      out: uint8 [S, S, 3], contiguous; written to if given.

    Returns:
      uint8 [S, S, 3]: ``out``, or a new array. Black outside the image.
    """
    cv2 = import_optional("cv2", extra="predict")
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    matrix = crop_to_image(crop)
    factor = max(1, reduction(crop.side, size) // reduced)
    left, top, right, bottom = _region(crop, image.shape, reduced, factor)
    if left >= right or top >= bottom:
        out[...] = 0
        return out
    region = reduce_by_area(image[top:bottom, left:right], factor)
    # Index of the reduced region's pixel (its center is at + 0.5) for the index of ours.
    linear = matrix[:, :2] / (size * reduced * factor)
    origin = matrix[:, 2] / (reduced * factor) - np.array([left, top]) / factor
    offset = linear @ (0.5, 0.5) + origin - 0.5
    # OpenCV warps four channels in half the time of three, to the same values.
    shown = cv2.warpAffine(
        cv2.cvtColor(region, cv2.COLOR_RGB2RGBA),
        np.concatenate([linear, offset[:, None]], axis=1),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return cv2.cvtColor(shown, cv2.COLOR_RGBA2RGB, dst=out)


def _region(
    crop: Crop, shape: tuple[int, ...], reduced: int, factor: int
) -> tuple[int, int, int, int]:
    """The part of the image that the crop reads, aligned to whole pixels of its reduction."""
    angle = math.radians(crop.rotation)
    reach = crop.side / 2 * (abs(math.cos(angle)) + abs(math.sin(angle)))
    ranges = []
    for middle, length in zip(crop.center, (shape[1], shape[0]), strict=True):
        # One more pixel of the reduction on each side feeds the interpolation.
        low = math.floor((middle - reach) / (reduced * factor)) - 1
        high = math.ceil((middle + reach) / (reduced * factor)) + 1
        ranges.append((max(low * factor, 0), min(high * factor, length)))
    (left, right), (top, bottom) = ranges
    return left, top, right, bottom


def reduce_by_area(image: np.ndarray, factor: int) -> np.ndarray:
    """Means over squares of pixels: pixel c of the result covers [c * factor, (c + 1) * factor).

    Args:
      image: uint8 [H, W, 3].
      factor: pixels of a square's side. Squares that the image's right and lower edges cut are
        means over what is left of them.

    Returns:
      uint8 [ceil(H / factor), ceil(W / factor), 3].
    """
    if factor == 1:
        return image
    cv2 = import_optional("cv2", extra="predict")
    height, width = image.shape[:2]
    rows, columns = -(-height // factor), -(-width // factor)
    out = np.empty((rows, columns, 3), np.uint8)
    # cv2.resize is exact for whole ratios only, so the cut squares are reduced apart.
    for y0, y1, r0, r1 in _parts(height, factor):
        for x0, x1, c0, c1 in _parts(width, factor):
            part = image[y0:y1, x0:x1]
            out[r0:r1, c0:c1] = cv2.resize(
                part, (c1 - c0, r1 - r0), interpolation=cv2.INTER_AREA
            ).reshape(r1 - r0, c1 - c0, 3)
    return out


def _parts(length: int, factor: int) -> list[tuple[int, int, int, int]]:
    """(start, stop) of the whole squares and of the rest, before and after the reduction."""
    whole = length // factor
    parts = [(0, whole * factor, 0, whole), (whole * factor, length, whole, whole + 1)]
    return [part for part in parts if part[1] > part[0]]
