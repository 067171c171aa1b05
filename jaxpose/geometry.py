"""Square crops and affine maps of coordinates, and the function that crops an image.

Coordinates are (x, y) and continuous: pixel (column c, row r) covers [c, c + 1) x [r, r + 1), its
center is (c + 0.5, r + 0.5), an image is [0, W] x [0, H]. Crop coordinates are normalized: (0, 0)
and (1, 1) are opposite corners. An affine map takes crop coordinates to pixels of the image;
resampling uses the same map, so the image and its points stay aligned.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional


class Crop(NamedTuple):
    """A square region of an image, possibly rotated and flipped, in pixels of the stored image.

    Attributes:
      center: (x, y) of the square's center.
      side: side length of the square, positive.
      rotation: degrees by which the square is rotated, from the x axis toward the y axis
        (clockwise on the screen; the content of the crop turns counterclockwise).
      flip: whether the content is mirrored, left to right.
    """

    center: tuple[float, float]
    side: float
    rotation: float = 0.0
    flip: bool = False


class CropRule(NamedTuple):
    """Rule for computing the crop of an example from its annotation.

    Attributes:
      source: what the crop is computed from: ``"scale"`` (the example's ``center`` and ``scale``),
        ``"joints"`` (the box of its labeled keypoints), ``"image"`` (the whole image, padded to a
        square) or ``"box"`` (its ``box``).
      enlargement: ratio of the crop's side to the longer side of the source, or to ``scale`` if
        that is the source.
      shift: downward shift of the center as a fraction of ``scale``; only used with ``"scale"``.
    """

    source: str
    enlargement: float = 1.0
    shift: float = 0.0


MPII_RULE = CropRule("scale", 1.25, 15 / 200)
"""The authors' crop of MPII."""

LSP_RULE = CropRule("joints", 1 / 0.76, 0.0)
"""Training and validation on LSP and LSPET. 0.76 is the median ratio of the person's extent to the
image in LSP. The rule uses the labels and must not be used for testing."""

IMAGE_RULE = CropRule("image", 1.0, 0.0)
"""Testing on LSP: uses no ground truth."""

BOX_RULE = CropRule("box", 1.25, 0.0)
"""The usual crop for COCO, from a box given by the annotations or a detector."""

CROP_RULES = {
    "scale": (MPII_RULE, "crop by the release's scale and center"),
    "joints": (LSP_RULE, "crop by the true joints' box"),
    "image": (IMAGE_RULE, "whole image, no ground truth used"),
    "box": (BOX_RULE, "crop by the given box"),
}
"""Crop rules by the names used in configs, each with its description for tables and files."""


def crop_rule(name: str) -> CropRule:
    """Return the crop rule of the given name.

    Raises:
      JaxposeError: the name is unknown.
    """
    return _named(name)[0]


def crop_description(name: str) -> str:
    """Return the description of the crop rule of the given name.

    Raises:
      JaxposeError: the name is unknown.
    """
    return _named(name)[1]


def _named(name: str) -> tuple[CropRule, str]:
    if name not in CROP_RULES:
        raise JaxposeError(f"unknown crop {name!r}; choose one of {', '.join(CROP_RULES)}")
    return CROP_RULES[name]


def example_crop(example: Mapping[str, Any], rule: CropRule) -> Crop:
    """Compute the crop that a rule gives for one example of a prepared data set.

    Args:
      example: the features that the rule's source needs, in pixels. ``"scale"``: ``center`` [2] and
        ``scale``. ``"joints"``: ``keypoints`` [J, 2] and ``labeled`` [J]. ``"box"``: ``box`` [4]
        (x, y, width, height). ``"image"``: the decoded ``image`` [H, W, 3], or ``stored_size``
        (width, height).
      rule: the crop rule.

    Returns:
      An upright crop. If the source is missing or has no extent (for example, fewer than two
      labeled joints), the rule falls back to ``scale``, then to the image.

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
        "cannot compute a crop: an example has no usable keypoints, box, scale or image size; "
        "prepare its data set again"
    )


def rule_for_boxes(rule: CropRule) -> CropRule:
    """Convert a checkpoint's crop rule into one for boxes.

    In the new rule, ``scale`` is the longer side of the box.

    Args:
      rule: rule with any source. If the source is ``"scale"``, the shift is kept; otherwise, the
        new rule's shift is 0.

    Returns:
      A rule with source ``"scale"``.

    Example:
      >>> rule_for_boxes(LSP_RULE._replace(shift=0.5)).shift
      0.0
    """
    return CropRule("scale", rule.enlargement, rule.shift if rule.source == "scale" else 0.0)


def box_crop(box: np.ndarray, rule: CropRule) -> Crop:
    """Compute the crop that a checkpoint's rule gives for a box.

    Args:
      box: [4], (x, y, width, height) in pixels.
      rule: the checkpoint's crop rule; see ``rule_for_boxes``.

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
    """Return the affine map from a crop's normalized coordinates to pixels of the image.

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
      points: [..., N, 2] as (x, y), with the leading axes of ``matrix``.

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
    """Return the power of two by which an image is reduced before a crop is resampled.

    A crop whose side exceeds twice its output size would be undersampled, so the image
    is first halved by area averaging, as often as necessary.

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
    """Crop an image: area reduction by a power of two, then one affine warp.

    Args:
      image: uint8 [H, W, 3].
      crop: the crop, in pixels of the full image.
      size: S, side of the result in pixels.
      reduced: the power of two by which ``image`` is already reduced (JPEG's scaled decoding), at
        most ``reduction(crop.side, size)``. Pixel c of ``image`` covers [c * reduced,
        (c + 1) * reduced) of the full image; the last pixel may extend beyond its edge.
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
    # Maps pixel indices of the result to those of the reduced region (centers are at + 0.5).
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
    """The part of the image that the crop needs, aligned to pixels of the reduced image."""
    angle = math.radians(crop.rotation)
    reach = crop.side / 2 * (abs(math.cos(angle)) + abs(math.sin(angle)))
    ranges = []
    for middle, length in zip(crop.center, (shape[1], shape[0]), strict=True):
        # The interpolation needs one more reduced pixel on each side.
        low = math.floor((middle - reach) / (reduced * factor)) - 1
        high = math.ceil((middle + reach) / (reduced * factor)) + 1
        ranges.append((max(low * factor, 0), min(high * factor, length)))
    (left, right), (top, bottom) = ranges
    return left, top, right, bottom


def reduce_by_area(image: np.ndarray, factor: int) -> np.ndarray:
    """Average squares of pixels: pixel c of the result covers [c * factor, (c + 1) * factor).

    Args:
      image: uint8 [H, W, 3].
      factor: side of a square in pixels. Squares that extend beyond the right or bottom edge are
        averaged over the pixels inside the image.

    Returns:
      uint8 [ceil(H / factor), ceil(W / factor), 3].
    """
    if factor == 1:
        return image
    cv2 = import_optional("cv2", extra="predict")
    height, width = image.shape[:2]
    rows, columns = -(-height // factor), -(-width // factor)
    out = np.empty((rows, columns, 3), np.uint8)
    # cv2.resize is exact only for integer ratios, so partial squares are reduced separately.
    for y0, y1, r0, r1 in _parts(height, factor):
        for x0, x1, c0, c1 in _parts(width, factor):
            part = image[y0:y1, x0:x1]
            out[r0:r1, c0:c1] = cv2.resize(
                part, (c1 - c0, r1 - r0), interpolation=cv2.INTER_AREA
            ).reshape(r1 - r0, c1 - c0, 3)
    return out


def _parts(length: int, factor: int) -> list[tuple[int, int, int, int]]:
    """Ranges along one axis, in the image and in the result: the full squares, then the rest."""
    whole = length // factor
    parts = [(0, whole * factor, 0, whole), (whole * factor, length, whole, whole + 1)]
    return [part for part in parts if part[1] > part[0]]
