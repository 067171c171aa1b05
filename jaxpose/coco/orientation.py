"""Labels of images that are stored sideways: from the stored frame to the upright image.

Some labeling tools ignore the EXIF orientation and show an image as it is stored. The size that the
annotation file gives for the image tells in which frame its labels are.
"""

import numpy as np

UPRIGHT = 1  # EXIF's value for an image that is stored upright
SIDEWAYS = (5, 6, 7, 8)  # EXIF's values that exchange width and height


def label_orientation(
    listed: tuple[int, int] | None, upright: tuple[int, int], orientation: int | None
) -> int | None:
    """Find the orientation of the frame that contains an image's labels.

    Args:
      listed: (width, height) of the image in the annotation file, None if it gives no size.
      upright: (width, height) of the upright image.
      orientation: EXIF orientation of the image file, 1 to 8; None if unknown.

    Returns:
      1 if the labels are in the upright image, which is assumed if the file gives no size;
      ``orientation`` if they are in the stored frame; None if ``listed`` is the size of neither.

    Example:
      >>> label_orientation((100, 80), (80, 100), 6)
      6
    """
    if listed is None or listed == upright:
        return UPRIGHT
    if orientation in SIDEWAYS and listed == upright[::-1]:
        return orientation
    return None


def upright_points(
    points: np.ndarray, orientation: int, stored_size: tuple[int, int]
) -> np.ndarray:
    """Move points from the stored frame to the upright image.

    Args:
      points: [..., 2], (x, y) in pixels of the stored frame, continuous.
      orientation: 1, or one of ``SIDEWAYS``.
      stored_size: (width, height) of the stored frame.

    Returns:
      [..., 2], (x, y) in pixels of the upright image.

    Example:
      >>> upright_points(np.array([10.0, 30.0]), 6, (100, 80))  # turned clockwise
      array([50., 10.])
    """
    width, height = stored_size
    x, y = points[..., 0], points[..., 1]
    turned = {
        UPRIGHT: (x, y),
        5: (y, x),
        6: (height - y, x),
        7: (height - y, width - x),
        8: (y, width - x),
    }
    return np.stack(turned[orientation], axis=-1)


def upright_box(box: np.ndarray, orientation: int, stored_size: tuple[int, int]) -> np.ndarray:
    """Move a box from the stored frame to the upright image.

    Args:
      box: [4], (x, y, width, height) in pixels of the stored frame.
      orientation: 1, or one of ``SIDEWAYS``.
      stored_size: (width, height) of the stored frame.

    Returns:
      [4], (x, y, width, height) in pixels of the upright image.

    Example:
      >>> upright_box(np.array([10.0, 20.0, 30.0, 40.0]), 6, (100, 80))
      array([20., 10., 40., 30.])
    """
    corners = upright_points(np.stack([box[:2], box[:2] + box[2:]]), orientation, stored_size)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return np.concatenate([low, high - low])
