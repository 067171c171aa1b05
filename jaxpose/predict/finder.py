"""Boxes of the people in an image: a small network that looks at the whole image.

The network is the stem, one prediction block's features, and three maps at an eighth of the input's
size: whether a person's box has its center in a cell, where in or around the cell the center is,
and how large the box is (as in CenterNet; Zhou, Wang and Kraehenbuehl, "Objects as Points", 2019).
`tools/train_finder.py` trains it.
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

CATEGORY = "person"  # of checkpoints that the network finds boxes for
FILE = packed.FOLDER / "finder.npz"
STRIDE = 8  # pixels of the input a cell
NUM_PEAKS = 32  # of a center map that are read
MIN_LARGE = 0.4  # longer side of a box that is sought in the image at half its size, of the image's
MIN_PROBABILITY = 0.3  # of a box
BOX_SCALES = (0.85, 1.18)  # sizes of a box that a pose is predicted in; the better one counts
SAME_BOX = 0.6  # overlap (IoU) from which two boxes are one person


class BoxMaps(NamedTuple):
    """What the network says of each cell of a grid, in cells.

    Attributes:
      center_logits: [B, H, W], of the probability that a person's box has its center in the cell.
      offset: [B, H, W, 2], (x, y) from the middle of the cell to the center of that box.
      log_size: [B, H, W, 2], logarithms of its width and height.
    """

    center_logits: jax.Array
    offset: jax.Array
    log_size: jax.Array


class Boxes(NamedTuple):
    """Up to N boxes of each image, the most probable first.

    Attributes:
      box: [B, N, 4], (x, y, width, height) as a fraction of the input's width and height.
      probability: [B, N], 0 where there is no further box.
    """

    box: jax.Array
    probability: jax.Array


class FinderNet(nn.Module):
    """The network; called with images [B, H, W, 3] in [-1, 1], sides divisible by 32.

    Attributes:
      width: channels of the features, a multiple of 18.
      kernel_size: of the separable convolutions behind the stem.
      dtype: of the computation; parameters and statistics stay float32.
    """

    width: int = 288
    kernel_size: int = 5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> BoxMaps:
        """The maps of images; in training the stem keeps its statistics and gets no gradient."""

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
    """Read boxes off the peaks of the center map.

    Args:
      maps: of the network.
      count: N, the most boxes of an image.
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
    """A trained network.

    Attributes:
      net: the network.
      variables: of it, NumPy arrays.
      image_size: pixels of its input's side.
    """

    net: FinderNet
    variables: dict
    image_size: int


@functools.cache
def load(path: pathlib.Path = FILE) -> Finder:
    """Read a trained network; the one that comes with the package is the default.

    Raises:
      JaxposeError: the file is missing or corrupt.
    """
    variables, record = packed.unpack_record(path)
    return Finder(FinderNet(**record["network"]), variables, record["image_size"])


def find_boxes(net: FinderNet, variables: dict, images: jax.Array) -> Boxes:
    """The boxes of uint8 images [B, S, S, 3], up to `NUM_PEAKS` at each of two sizes; traceable.

    At half the size, persons who fill the image are as large as those the network knows best.
    """
    batch, rows, columns, channels = images.shape
    pairs = images.reshape(batch, rows // 2, 2, columns // 2, 2, channels)
    found = []
    for pixels in (images, pairs.astype(jnp.float32).mean(axis=(2, 4))):
        maps: Any = net.apply(variables, normalize(pixels))
        found.append(decode_maps(maps, NUM_PEAKS))
    large = found[1].box[..., 2:].max(axis=-1) >= MIN_LARGE
    box = jnp.concatenate([found[0].box, found[1].box], axis=1)
    probability = jnp.concatenate(
        [found[0].probability, jnp.where(large, found[1].probability, 0.0)], axis=1
    )
    order = jnp.argsort(-probability, axis=1)
    take = functools.partial(jnp.take_along_axis, axis=1)
    return Boxes(take(box, order[..., None]), take(probability, order))


def boxes_in_image(found: Boxes, crop: geometry.Crop) -> tuple[np.ndarray, np.ndarray]:
    """The boxes of one image that are probable and differ.

    Args:
      found: of an input [1, S, S, 3] that shows `crop` of the image.
      crop: upright and not mirrored.

    Returns:
      Boxes float64 [N, 4] (x, y, width, height) in pixels of the image and probabilities [N],
      the most probable first.
    """
    boxes, probability = np.asarray(found.box[0], np.float64), np.asarray(found.probability[0])
    boxes = crop.side * boxes
    boxes[:, :2] += np.subtract(crop.center, crop.side / 2)
    kept: list[int] = []
    for i in np.flatnonzero(probability >= MIN_PROBABILITY).tolist():
        if all(overlap(boxes[i], boxes[k]) < SAME_BOX for k in kept):
            kept.append(i)
    return boxes[kept], probability[kept]
