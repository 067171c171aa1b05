"""One random transform of one example: the crop's place, and the colors of what it shows."""

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
      color: strength of the change of colors, see ``color``; 0 is none (not in the paper).
      shift: the crop's center moves by up to this fraction of its side along each axis, uniformly
        (not in the paper; a whole image does not have its person in the middle either).
      stray: fraction of the examples that get a stray crop in place of the above scale and shift:
        its center is off by up to `STRAY_SHIFT` of its side along each axis, its side multiplied
        by a factor log-uniform in `STRAY_SCALE` (not in the paper). Joints outside the crop are
        not labeled, which teaches the joint probabilities.
      turned: fraction of the examples whose rotation is uniform in +-180 degrees in place of
        ``rotation`` (not in the paper).
      erase: fraction of the examples of which a rectangle is filled with random noise, see
        ``erase`` (not in the paper).
    """

    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = False
    color: float = 0.0
    shift: float = 0.0
    stray: float = 0.0
    turned: float = 0.0
    erase: float = 0.0


STRAY_SHIFT = 0.75
STRAY_SCALE = (0.4, 2.5)
ERASED_SIDE = (0.1, 0.4)


def sample(rng: np.random.Generator, crop: Crop, augmentation: Augmentation) -> Crop:
    """Move a crop at random, then turn, scale and mirror it about its own center.

    Args:
      rng: five numbers are drawn from it whatever is switched on, so that a switch does not
        change the other transforms. ``stray`` and ``turned`` draw from a generator of their own.
      crop: the crop of the example's rule.
      augmentation: ranges and switches.

    Returns:
      The random crop.
    """
    turn, size, mirror, right, down = rng.random(5)
    low, high = augmentation.scale
    factor, shift, rotation = low + size * (high - low), augmentation.shift, augmentation.rotation
    if augmentation.stray or augmentation.turned:
        stray, turned = _own_generator(rng, 0).random(2)
        if stray < augmentation.stray:
            low, high = STRAY_SCALE
            factor = low * (high / low) ** size
            shift = STRAY_SHIFT * factor
        if turned < augmentation.turned:
            rotation = 180.0
    reach = 2 * shift * crop.side
    x, y = crop.center
    return Crop(
        (x + (right - 0.5) * reach, y + (down - 0.5) * reach),
        crop.side * factor,
        crop.rotation + (2 * turn - 1) * rotation,
        crop.flip ^ bool(augmentation.flip and mirror < 0.5),
    )


def _own_generator(rng: np.random.Generator, purpose: int) -> np.random.Generator:
    """A generator that follows from the same seed as `rng` and leaves `rng` as it is."""
    seed = rng.bit_generator.seed_seq
    assert isinstance(seed, np.random.SeedSequence)
    key = (*seed.spawn_key, purpose)
    return np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=key))


def erase(rng: np.random.Generator, image: np.ndarray, fraction: float) -> np.ndarray:
    """Fill a random rectangle of a fraction of the images with noise, in place.

    The rectangle's sides are uniform in `ERASED_SIDE` of the image's. In half of the cases every
    pixel is drawn anew, in the others the whole rectangle has one color. What it covers stays
    labeled, as an occluded joint does.

    Args:
      rng: left as it is; a generator of its own that follows from the same seed is used.
      image: uint8 [H, W, 3]; overwritten.
      fraction: of the images; 0 changes nothing.

    Returns:
      ``image``, [H, W, 3].
    """
    if not fraction:
        return image
    rng = _own_generator(rng, 1)
    chosen, height, width, top, left, uniform = rng.random(6)
    if chosen >= fraction:
        return image
    low, high = ERASED_SIDE
    rows = max(1, round(image.shape[0] * (low + height * (high - low))))
    columns = max(1, round(image.shape[1] * (low + width * (high - low))))
    top, left = int(top * (image.shape[0] - rows + 1)), int(left * (image.shape[1] - columns + 1))
    shape = (1, 1, 3) if uniform < 0.5 else (rows, columns, 3)
    image[top : top + rows, left : left + columns] = rng.integers(0, 256, shape, np.uint8)
    return image


_LUMA = np.array([0.299, 0.587, 0.114])  # of Rec. 601


def color(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    """Change brightness, saturation and the balance of the channels at random, in place.

    One linear map of RGB: each channel is multiplied by ``gain * gain_of_channel`` and moves to or
    from the pixel's luma by ``saturation``; ``log gain`` and ``log saturation`` are uniform in
    +-strength, the channels' in +-strength / 2. Black stays black, so that the border outside the
    image does not turn gray, which it never is in a test.

    Args:
      rng: five numbers are drawn from it.
      image: uint8 [H, W, 3] RGB, contiguous; overwritten.
      strength: 0 changes nothing; 0.2 to 0.5 is usual.

    Returns:
      ``image``, [H, W, 3].
    """
    draws = 2 * rng.random(5) - 1
    if not strength:
        return image
    saturation = np.exp(strength * draws[0])
    gain = np.exp(strength * (draws[1] + draws[2:] / 2))
    matrix = gain[:, None] * (saturation * np.eye(3) + (1 - saturation) * _LUMA)
    # A matrix, not a curve for each channel: a fifth of a look-up table's time in OpenCV.
    return import_optional("cv2", extra="train").transform(image, matrix, dst=image)
