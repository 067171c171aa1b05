"""A square image around a person that covers every augmentation of the paper, encoded once."""

import math
from typing import NamedTuple

import cv2
import numpy as np

from tfds_builders.sources import ReadError

INPUT_SIDE = 256  # pixels of the network's input
# MPII's crop: its side, and how far its center is below objpos, in heights of the person.
ENLARGEMENT, SHIFT = 1.25, 15 / 200
PERSON_IN_CROP = 0.76  # LSP's crop: longer side of the joints' box as a fraction of the crop's side
LARGEST, ROTATION = 1.3, 40  # the paper's augmentation: largest scale; rotation up to ±40 degrees
# A crop of this scale has one stored pixel per input pixel. The paper's smallest scale is 0.7.
SHARPEST = 0.85
TURNED = math.cos(math.radians(ROTATION)) + math.sin(math.radians(ROTATION))
QUALITY = 92


class Square(NamedTuple):
    """A square of the release's pixels.

    Attributes:
      x, y: its upper left corner.
      side: length of its side.
      stored: length of its side in the stored image, in pixels of that image.
      unit: power of two by which the image is reduced before cropping; divides ``x``, ``y`` and
        ``side``.
    """

    x: int
    y: int
    side: int
    stored: int
    unit: int = 1

    @property
    def zoom(self) -> float:
        """Stored pixels per pixel of the release."""
        return self.stored / self.side


def square_around(
    center: np.ndarray, scale: float, keypoints: np.ndarray, labeled: np.ndarray
) -> Square:
    """Compute the square that contains every augmented crop of the person.

    The square contains the crops of two rules: MPII's, by center and scale, and the one by the
    joints' box. The second rule is ignored if a distant joint would more than double the square's
    side. The resolution is such that MPII's crop at scale SHARPEST has one stored pixel per input
    pixel, but at most that of the release. Crops of smaller scales are enlarged by at most a fifth.
    With the resolution for the smallest scale, decoding would take 1.5 times as long.

    Args:
      center: [2], pixels.
      scale: the person's nominal height in pixels.
      keypoints: [J, 2], pixels.
      labeled: [J] bool.
    """
    middle = center + (0, SHIFT * scale)
    reach = _reach(ENLARGEMENT * scale)
    low, high = middle - reach, middle + reach
    if labeled.any():
        first, last = keypoints[labeled].min(axis=0), keypoints[labeled].max(axis=0)
        reach = _reach((last - first).max() / PERSON_IN_CROP)
        wider = (
            np.minimum(low, (first + last) / 2 - reach),
            np.maximum(high, (first + last) / 2 + reach),
        )
        if (wider[1] - wider[0]).max() <= 2 * (high - low).max():
            low, high = wider
    side = (high - low).max()
    zoom = min(1.0, INPUT_SIDE / (SHARPEST * ENLARGEMENT * scale))
    unit = _halvings(zoom)
    corner = np.floor(((low + high - side) / 2) / unit).astype(int) * unit
    side = math.ceil(side / unit + 1) * unit
    stored = side if zoom == 1 else max(1, round(side * zoom))
    return Square(int(corner[0]), int(corner[1]), side, stored, unit)


def crop_image(image: np.ndarray, square: Square) -> bytes:
    """Encode the square as JPEG; black outside the image.

    Args:
      image: uint8 [H, W, 3], BGR as in OpenCV.
      square: the square, in pixels of the image.
    """
    unit = square.unit
    for _ in range(unit.bit_length() - 1):
        image = _half(image)
    x, y, side = square.x // unit, square.y // unit, square.side // unit
    height, width = image.shape[:2]
    canvas = np.zeros((side, side, 3), np.uint8)
    left, top = max(0, x), max(0, y)
    right, bottom = min(width, x + side), min(height, y + side)
    if right > left and bottom > top:
        canvas[top - y : bottom - y, left - x : right - x] = image[top:bottom, left:right]
    if square.stored != side:
        canvas = cv2.resize(canvas, (square.stored,) * 2, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def decode(data: bytes) -> np.ndarray:
    """Decode an upright RGB image to uint8 [H, W, 3], BGR. Raises ReadError."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ReadError("OpenCV cannot decode it")
    return image


def _reach(side: float) -> float:
    """Return half the side of the upright square around all augmentations of a crop of ``side``."""
    return LARGEST * TURNED * side / 2


def _halvings(zoom: float) -> int:
    """Return the largest power of two by which the image can be reduced before cropping."""
    return 2 ** max(0, math.floor(math.log2(1 / zoom) + 1e-9))


def _half(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    size = (even.shape[1] // 2, even.shape[0] // 2)
    return cv2.resize(even, size, interpolation=cv2.INTER_AREA)
