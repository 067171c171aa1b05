"""Random augmentation of one example: its crop and its colors."""

from typing import NamedTuple

import numpy as np

from jaxpose.geometry import Crop
from jaxpose.optional import import_optional


class Augmentation(NamedTuple):
    """Strengths of the random augmentations. The default changes nothing.

    Attributes:
      rotation: the crop is rotated by a uniform angle of up to this many degrees in either
        direction (section 4.1: 40).
      scale: (low, high): the crop's side is multiplied by a number uniform between them (section
        4.1: 0.7 to 1.3 on MPII, 0.85 to 1.25 on LSP).
      flip: whether to flip half of the examples horizontally (not in the paper).
      color: strength of the color change, see ``color``; 0 for none (not in the paper).
      shift: the crop's center is moved by a uniform distance of up to this fraction of its side
        along each axis (not in the paper; in whole images the person is not always centered).
      stray: fraction of the examples that get a stray crop instead of ``scale`` and ``shift`` (not
        in the paper). The crop's side is multiplied by a factor that is log-uniform in 0.4 to 2.5,
        and its center is moved by up to 0.75 of the new side along each axis. Joints outside the
        crop are not labeled, which trains the joint probabilities.
      turned: fraction of the examples whose rotation is uniform in +-180 degrees instead of
        ``rotation`` (not in the paper).
      erase: fraction of the examples in which a rectangle is filled with random noise, see
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
    """Move a crop at random, then rotate, scale and flip it about its own center.

    Args:
      rng: generator. Five numbers are always drawn from it, so that enabling one transform does not
        change the others. ``stray`` and ``turned`` use a separate generator.
      crop: the crop of the example's rule.
      augmentation: strengths of the augmentations.

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
    """Derive a separate generator from the seed of ``rng`` without advancing ``rng``."""
    seed = rng.bit_generator.seed_seq
    assert isinstance(seed, np.random.SeedSequence)
    key = (*seed.spawn_key, purpose)
    return np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=key))


def erase(rng: np.random.Generator, image: np.ndarray, fraction: float) -> np.ndarray:
    """With the given probability, fill a random rectangle of the image with noise, in place.

    The rectangle's sides are uniform in 0.1 to 0.4, as fractions of the image's sides. Half of
    the time every pixel is random; otherwise the rectangle has a single random color. Covered
    joints stay labeled, like occluded ones.

    Args:
      rng: not advanced; a separate generator derived from the same seed is used.
      image: uint8 [H, W, 3]; overwritten.
      fraction: probability of filling a rectangle; 0 changes nothing.

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

    This is one linear map of RGB: each channel is multiplied by ``gain * gain_of_channel``, and its
    distance from the pixel's luma by ``saturation``. ``log gain`` and ``log saturation`` are
    uniform in +-strength; ``log gain_of_channel`` is uniform in +-strength / 2. Black stays black,
    so that the border outside the image looks the same as at test time.

    Args:
      rng: generator; five numbers are always drawn from it.
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
    # One matrix, not a curve per channel: it takes a fifth of the time of OpenCV's look-up table.
    return import_optional("cv2", extra="train").transform(image, matrix, dst=image)
