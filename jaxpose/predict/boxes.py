"""Check boxes of persons, and compute the box around joints."""

from collections.abc import Sequence

import numpy as np

from jaxpose.errors import JaxposeError

# Joints with a lower confidence are not drawn, have v = 0 in COCO files, and are ignored when the
# box around their person is computed.
MIN_CONFIDENCE = 0.3
MIN_CONFIDENT_JOINTS = 4  # if fewer joints are confident, all joints are used


def check_boxes(
    boxes: Sequence[Sequence[float]], size: tuple[int, int] | None = None
) -> np.ndarray:
    """Check boxes and return them as float64 [N, 4].

    Args:
      boxes: [N, 4] (x, y, width, height) in pixels.
      size: (width, height) of the image; if given, boxes outside the image raise an error.

    Raises:
      JaxposeError: the boxes have another shape, or a box has no area, is not finite or lies
        outside the image; the message names the first invalid box.

    Example:
      >>> check_boxes([[10, 20, 30, 40]], (100, 100))
      array([[10., 20., 30., 40.]])
    """
    try:
        array = np.asarray(boxes, np.float64)
    except OverflowError:  # an integer beyond the range of float64
        raise JaxposeError(
            "a box has a number that is too large; give x, y, width, height in pixels"
        ) from None
    except (TypeError, ValueError):
        array = np.zeros(())
    if array.size == 0 and array.ndim > 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise JaxposeError(
            f"boxes have shape {array.shape}; give one x, y, width, height for each person"
        )
    bad = ~(np.isfinite(array).all(axis=1) & (array[:, 2:] > 0).all(axis=1))
    if bad.any():
        raise JaxposeError(
            f"box {_text(array[bad][0])} has no area; give x, y, width, height in pixels"
        )
    if size is not None:
        outside = (array[:, :2] >= size).any(axis=1) | (array[:, :2] + array[:, 2:] <= 0).any(
            axis=1
        )
        if outside.any():
            raise JaxposeError(
                f"box {_text(array[outside][0])} lies outside the image, which is "
                f"{size[0]}x{size[1]}; give x, y, width, height in its pixels"
            )
    return array


def _text(box: np.ndarray) -> str:
    return ",".join(f"{value:g}" for value in box)


def box_around(
    keypoints: np.ndarray, confidence: np.ndarray, size: tuple[int, int]
) -> np.ndarray | None:
    """Compute the box around the confident joints.

    Args:
      keypoints: [J, 2] in pixels.
      confidence: [J].
      size: (width, height) of the image; the box is clipped to it.

    Returns:
      float64 [4] (x, y, width, height); None if the joints have no extent.
    """
    sure = confidence >= MIN_CONFIDENCE
    points = keypoints[sure] if sure.sum() >= MIN_CONFIDENT_JOINTS else keypoints
    points = points.clip(0, size)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.concatenate([low, high - low]) if (high - low).min() > 1 else None


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes [4] (x, y, width, height).

    Example:
      >>> overlap(np.array([0.0, 0.0, 4.0, 2.0]), np.array([2.0, 0.0, 2.0, 2.0]))
      0.5
    """
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    shared = np.prod(np.maximum(high - low, 0.0))
    return float(shared / (np.prod(a[2:]) + np.prod(b[2:]) - shared))
