"""The finder: a small network that detects the people in an image and predicts their boxes.

It consists of the pose network's stem and the feature layers of one prediction block. From these
features it predicts three maps with a stride of 8 pixels: the logit that a cell contains the center
of a person's box, the offset of the center from the middle of the cell, and the size of the box, as
in CenterNet (Zhou, Wang and Kraehenbuehl, "Objects as Points", 2019). ``tools/train_finder.py``
trains it.
"""

import functools
import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxpose import geometry, layers
from jaxpose.checkpoints import packed
from jaxpose.network import BatchNorm, BlockA, ConvNorm, SeparableNorm, Stem, glorot, normalize
from jaxpose.peaks import find_peaks
from jaxpose.predict.boxes import overlap

CATEGORY = "person"  # checkpoints of this category use the finder
FILE = packed.FOLDER / "finder.npz"
STRIDE = 8  # pixels of the input per cell
NUM_PEAKS = 32  # boxes decoded from each center map
MIN_PROBABILITY = 0.2  # less probable boxes get no pose; poses in wrong boxes mostly score low
SAME_BOX = 0.6  # boxes with at least this IoU count as the same person


class BoxMaps(NamedTuple):
    """The network's output for each cell; lengths are in cells.

    Attributes:
      center_logits: [B, H, W], logit of the probability that the center of a person's box is in the
        cell.
      offset: [B, H, W, 2], (x, y) from the middle of the cell to the center of the box.
      log_size: [B, H, W, 2], natural logarithms of the box's width and height.
    """

    center_logits: jax.Array
    offset: jax.Array
    log_size: jax.Array


class Boxes(NamedTuple):
    """Up to N boxes per image, sorted by decreasing probability.

    Attributes:
      box: [B, N, 4], (x, y, width, height) as fractions of the input's width and height.
      probability: [B, N]; 0 marks unused entries.
    """

    box: jax.Array
    probability: jax.Array


class FinderNet(nn.Module):
    """The finder's network, called with images [B, H, W, 3] in [-1, 1], sides divisible by 32.

    Attributes:
      width: number of feature channels, a multiple of 18.
      kernel_size: kernel size of the separable convolutions after the stem.
      dtype: dtype of the computation; parameters and statistics stay float32.
    """

    width: int = 288
    kernel_size: int = 5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> BoxMaps:
        """Predict the maps; in training, the stem gets no gradient and keeps its statistics."""

        def configured(train):
            norm = functools.partial(BatchNorm, train=train)
            separable = functools.partial(
                SeparableNorm, kernel_size=self.kernel_size, norm=norm, dtype=self.dtype
            )
            return functools.partial(ConvNorm, norm=norm, dtype=self.dtype), separable

        pool = layers.max_pool
        conv, separable = configured(False)
        x = Stem(self.width, conv, separable, pool, name="stem")(images.astype(self.dtype))
        conv, separable = configured(train)
        x = BlockA(self.width, conv, separable, pool, name="block")(jax.lax.stop_gradient(x))
        x = nn.relu(separable(self.width, name="separable")(nn.relu(x)))
        kernel = self.param("boxes", glorot, (self.width, 5), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (5,), jnp.float32)
        maps = layers.pointwise_conv(x, kernel.astype(self.dtype)).astype(jnp.float32)
        maps = maps + layers.per_channel(bias, maps)
        return BoxMaps(maps[..., 0], maps[..., 1:3], maps[..., 3:])


def decode_maps(maps: BoxMaps, count: int) -> Boxes:
    """Decode the boxes at the highest peaks of the center maps.

    Args:
      maps: output of the network.
      count: N, maximum number of boxes per image.
    """
    rows, columns = maps.center_logits.shape[1:3]
    peaks = find_peaks(maps.center_logits, count, refinement="none")
    cell = jnp.floor(peaks.position * jnp.array([columns, rows], jnp.float32)).astype(jnp.int32)
    image = jnp.arange(len(cell))[:, None]
    offset, log_size = (m[image, cell[..., 1], cell[..., 0]] for m in maps[1:])
    size = jnp.exp(log_size)
    center = cell + 0.5 + offset
    box = jnp.concatenate([center - size / 2, size], axis=-1)
    unit = jnp.array([columns, rows, columns, rows], jnp.float32)
    return Boxes(box / unit, jnp.where(peaks.valid, jax.nn.sigmoid(peaks.value), 0.0))


class Finder(NamedTuple):
    """A trained finder.

    Attributes:
      net: its network.
      variables: variables of the network, NumPy arrays.
      image_size: side of its square input in pixels.
    """

    net: FinderNet
    variables: dict
    image_size: int


@functools.cache
def load(path: pathlib.Path = FILE) -> Finder:
    """Read a trained finder, by default the one that ships with the package.

    Raises:
      JaxposeError: the file is missing or corrupt.
    """
    variables, record = packed.unpack_record(path)
    return Finder(FinderNet(**record["network"]), variables, record["image_size"])


def find_boxes(net: FinderNet, variables: dict, images: jax.Array) -> Boxes:
    """Predict boxes in uint8 images [B, S, S, 3], S divisible by 64; can be traced by JAX.

    The network runs on the images, and on the images at half the size: people who fill an image are
    then as large as the network detects best. Each of the two runs gives up to ``NUM_PEAKS`` boxes
    per image; a person may have a box in both.
    """
    batch, rows, columns, channels = images.shape
    pairs = images.reshape(batch, rows // 2, 2, columns // 2, 2, channels)
    found = []
    for pixels in (images, pairs.astype(jnp.float32).mean(axis=(2, 4))):
        maps: Any = net.apply(variables, normalize(pixels))
        found.append(decode_maps(maps, NUM_PEAKS))
    box, probability = (jnp.concatenate(values, axis=1) for values in zip(*found, strict=True))
    order = jnp.argsort(-probability, axis=1)
    take = functools.partial(jnp.take_along_axis, axis=1)
    return Boxes(take(box, order[..., None]), take(probability, order))


def boxes_in_image(
    found: Boxes, crop: geometry.Crop, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Select one image's probable boxes, without duplicates, in pixels of the image.

    Args:
      found: boxes in an input [1, S, S, 3].
      crop: the part of the image that the input shows, neither rotated nor mirrored.
      size: (width, height) of the image in pixels; boxes that do not overlap it are left out.

    Returns:
      Boxes float64 [N, 4] (x, y, width, height) in pixels of the image and their probabilities [N],
      sorted by decreasing probability.
    """
    boxes, probability = np.asarray(found.box[0], np.float64), np.asarray(found.probability[0])
    boxes = crop.side * boxes
    boxes[:, :2] += np.subtract(crop.center, crop.side / 2)
    inside = ((boxes[:, :2] < size) & (boxes[:, :2] + boxes[:, 2:] > 0)).all(axis=1)
    kept: list[int] = []
    for i in np.flatnonzero(inside & (probability >= MIN_PROBABILITY)).tolist():
        if all(overlap(boxes[i], boxes[k]) < SAME_BOX for k in kept):
            kept.append(i)
    return boxes[kept], probability[kept]
