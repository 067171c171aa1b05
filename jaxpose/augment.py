"""One random transform of one example: the crop's place, and the colours of what it shows."""

from typing import NamedTuple

import numpy as np

from jaxpose.geometry import Crop
from jaxpose.optional import import_optional


class Augmentation(NamedTuple):
    """How far examples are changed at random. The default changes nothing.

    Attributes:
      rotation: the crop turns by up to this many degrees either way, uniformly (section 4.1: 40).
      scale: (low, high): the crop's side is multiplied by a number uniform between them (section
        4.1: 0.7 to 1.3 on MPII, 0.85 to 1.25 on LSP).
      flip: whether one example in two is mirrored (not in the paper).
      color: strength of the change of colours, see ``color``; 0 is none (not in the paper).
      shift: the crop's centre moves by up to this share of its side along each axis, uniformly
        (not in the paper; a whole picture does not have its person in the middle either).
    """

    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = False
    color: float = 0.0
    shift: float = 0.0


def sample(rng: np.random.Generator, crop: Crop, augmentation: Augmentation) -> Crop:
    """Moves a crop at random, then turns, scales and mirrors it about its own centre.

    Args:
      rng: five numbers are drawn from it whatever is switched on, so that a switch does not
        change the other transforms.
      crop: the crop of the example's rule.
      augmentation: ranges and switches.

    Returns:
      The random crop.
    """
    turn, size, mirror, right, down = rng.random(5)
    low, high = augmentation.scale
    reach = 2 * augmentation.shift * crop.side
    x, y = crop.center
    return Crop(
        (x + (right - 0.5) * reach, y + (down - 0.5) * reach),
        crop.side * (low + size * (high - low)),
        crop.rotation + (2 * turn - 1) * augmentation.rotation,
        crop.flip ^ bool(augmentation.flip and mirror < 0.5),
    )


_LUMA = np.array([0.299, 0.587, 0.114])  # of Rec. 601


def color(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    """Changes brightness, saturation and the balance of the channels at random, in place.

    One linear map of RGB: each channel is multiplied by ``gain * gain_of_channel`` and moves to or
    from the pixel's luma by ``saturation``; ``log gain`` and ``log saturation`` are uniform in
    +-strength, the channels' in +-strength / 2. Black stays black, so that the border outside the
    picture does not turn grey, which it never is in a test.

    Args:
      rng: five numbers are drawn from it.
      image: uint8 [H, W, 3] RGB, contiguous; overwritten.
      strength: 0 changes nothing; 0.2 to 0.5 is usual.

    Returns:
      ``image``.
    """
    draws = 2 * rng.random(5) - 1
    if not strength:
        return image
    saturation = np.exp(strength * draws[0])
    gain = np.exp(strength * (draws[1] + draws[2:] / 2))
    matrix = gain[:, None] * (saturation * np.eye(3) + (1 - saturation) * _LUMA)
    # A matrix, not a curve for each channel: a fifth of a look-up table's time in OpenCV.
    return import_optional("cv2", extra="train").transform(image, matrix, dst=image)
