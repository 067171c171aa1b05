"""Predictions of a network for a whole split, over all devices and processes."""

import functools
import numbers
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpose import geometry
from jaxpose.data import prepared
from jaxpose.data.batches import evaluation_batches
from jaxpose.errors import JaxposeError
from jaxpose.heatmaps import soft_argmax
from jaxpose.network import PoseNet, normalize
from jaxpose.peaks import hard_argmax
from jaxpose.runtime import processes
from jaxpose.runtime.devices import parallel, replicate, shard
from jaxpose.skeleton import flip_permutation

MAX_CROPS = 9  # from 0.6 to 1.4 of the plain crop
CROP_STEP = 0.1  # several crops differ in size by this fraction of the plain one
# Other ways to decode a network's maps: they show what the context maps (the paper's Fig. 6) and
# the expectation in place of the maximum contribute.
PARTS_ALONE = "part maps alone, contexts off"
WITHOUT_OFFSET = "part maps alone, each joint's mean offset removed"
MAXIMUM = "maximum of the part maps"


class Predictions(NamedTuple):
    """A network's predictions for the N persons of a split, in the split's order.

    Attributes:
      keypoints: float64 [K, N, J, 2], (x, y) in pixels of the stored image.
      confidence: float32 [K, N, J], probability that the joint is in the crop.
      in_crop: bool [N, J], labeled and inside the (first) crop.
      readable: bool [N], the image decoded.
      decodings: keypoints, as above, by other ways to decode the same maps; empty unless asked for.
    """

    keypoints: np.ndarray
    confidence: np.ndarray
    in_crop: np.ndarray
    readable: np.ndarray
    decodings: Mapping[str, np.ndarray] = MappingProxyType({})


def predict_blocks(
    net: PoseNet, variables: dict, images: jax.Array, *, flipped: Sequence[int] | None = None
) -> tuple[jax.Array, jax.Array]:
    """Predict the keypoints of a batch of crops by every block.

    Args:
      net: the network.
      variables: its {"params", "batch_stats"}.
      images: uint8 [B, S, S, 3].
      flipped: the order of joints in a mirror (`flip_permutation`); with it the prediction is
        averaged with the mirrored prediction for the mirrored crops.

    Returns:
      keypoints [K, B, J, 2] in [0, 1] and presence [K, B, J], both at least float32.
    """

    def predict(images):
        output = net.apply(variables, normalize(images, net.dtype), train=False)
        return output.keypoints, output.presence_logits

    keypoints, logits = average_with_mirror(predict, images, flipped)
    return keypoints, jax.nn.sigmoid(logits.astype(jnp.float32))


def average_with_mirror(
    predict: Callable[[jax.Array], tuple[jax.Array, ...]],
    images: jax.Array,
    flipped: Sequence[int] | None,
) -> tuple[jax.Array, ...]:
    """Average predictions for crops with the mirrored predictions for the mirrored crops.

    Args:
      predict: from images to keypoints [..., J, 2] in [0, 1] and any number of arrays [..., J].
      images: uint8 [B, S, S, 3].
      flipped: the order of joints in a mirror (`flip_permutation`); None to predict the images
        alone.

    Returns:
      What `predict` returns, in the same shapes.
    """
    found = predict(images)
    if flipped is None:
        return found
    mirrored = mirror_predictions(*predict(images[:, :, ::-1]), flipped=flipped)
    return tuple((a + b) / 2 for a, b in zip(found, mirrored, strict=True))


def mirror_predictions(
    keypoints: jax.Array, *values: jax.Array, flipped: Sequence[int]
) -> tuple[jax.Array, ...]:
    """Turn predictions for mirrored crops into predictions for the crops, or the reverse.

    Args:
      keypoints: [..., J, 2] in [0, 1].
      *values: further arrays [..., J], such as probabilities or logits.
      flipped: the order of joints in a mirror (`flip_permutation`).

    Returns:
      The keypoints and the further arrays, in the same shapes.
    """
    order = np.asarray(flipped)
    keypoints = keypoints[..., order, :] * jnp.array([-1.0, 1.0]) + jnp.array([1.0, 0.0])
    return keypoints, *(value[..., order] for value in values)


def decoding_names(net: PoseNet) -> tuple[str, ...]:
    """Names of the other ways to decode this network's maps."""
    return (PARTS_ALONE, MAXIMUM) if net.num_context_maps else (MAXIMUM,)


def decode_crops(
    net: PoseNet, variables: dict, images: jax.Array, *, flipped: Sequence[int] | None = None
) -> tuple[jax.Array, jax.Array]:
    """Predict images [B, S, S, 3] as `predict_blocks`, and decode the maps in other ways.

    Returns:
      Keypoints [1 + R, K, B, J, 2], those of the R `decoding_names` last, and presence
      [K, B, J].
    """
    decoders = {
        PARTS_ALONE: functools.partial(soft_argmax, temperature=net.temperature, grid=net.grid),
        MAXIMUM: functools.partial(hard_argmax, refinement="none", grid=net.grid),
    }

    def predict(images):
        output = net.apply(variables, normalize(images, net.dtype), train=False, heatmaps=True)
        parts = output.heatmaps[..., : net.num_joints]
        others = [
            jax.vmap(decoders[name], in_axes=-1, out_axes=-2)(parts) for name in decoding_names(net)
        ]
        return jnp.stack([output.keypoints, *others]), output.presence_logits

    keypoints, logits = average_with_mirror(predict, images, flipped)
    return keypoints, jax.nn.sigmoid(logits.astype(jnp.float32))


@functools.lru_cache(maxsize=16)
def make_forward(
    net: PoseNet, *, flipped: tuple[int, ...] | None = None, decodings: bool = False
) -> Callable:
    """`predict_blocks` (or `decode_crops`) on all local devices, compiled once for a network."""
    predict = decode_crops if decodings else predict_blocks
    return parallel(functools.partial(predict, net, flipped=flipped))


def predict_split(
    net: PoseNet,
    variables: dict,
    split: prepared.PreparedSplit,
    *,
    joints: tuple[str, ...],
    image_size: int,
    batch_size: int,
    rule: geometry.CropRule,
    workers: int = 0,
    flip_test: bool = False,
    num_crops: int = 1,
    decodings: bool = False,
    flip_pairs: Sequence[Sequence[str]] | None = None,
) -> Predictions:
    """Run every person of a split, each once, over all devices of all processes.

    Args:
      net: the network.
      variables: its {"params", "batch_stats"}, without a device axis.
      split: from `prepared.open_split`.
      joints: the network's joint names.
      image_size: side of the crops in pixels.
      batch_size: global; rounded up to a multiple of the devices, which changes no prediction.
      rule: how a crop is cut.
      workers: processes that decode; 0 decodes in threads.
      flip_test: average with the mirrored prediction for the mirrored crop.
      num_crops: crops of different size, averaged in the image's pixels.
      decodings: decode the maps in the other ways too (`decoding_names`).
      flip_pairs: names that a mirror exchanges; by default every `right_X` and its `left_X`.
    """
    flipped = tuple(flip_permutation(joints, flip_pairs).tolist()) if flip_test else None
    forward = make_forward(net, flipped=flipped, decodings=decodings)
    others = decoding_names(net) if decodings else ()
    variables = replicate(variables)
    batch_size = -(-batch_size // jax.device_count()) * jax.device_count()
    persons = len(split.source)
    confidence = np.zeros((net.num_blocks, persons, len(joints)), np.float32)
    keypoints = np.zeros((1 + len(others), *confidence.shape, 2))
    linear = np.zeros((persons, 2, 2))  # of the maps from crops to images
    in_crop = np.zeros((persons, len(joints)), np.int32)
    readable = np.zeros(persons, np.int32)
    for number, size in enumerate(crop_sizes(num_crops)):
        batches = evaluation_batches(
            split,
            joints=joints,
            image_size=image_size,
            batch_size=batch_size,
            rule=rule._replace(enlargement=rule.enlargement * size),
            workers=workers,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        for batch in batches:
            found, probability = forward(variables, shard(batch.image))
            # [devices, K, B, J] -> [K, devices * B, J], and [devices, (R,) K, B, J, 2] likewise
            probability = np.concatenate(np.asarray(probability), axis=1)
            found = np.concatenate(np.asarray(found, np.float64), axis=-3)
            found = found.reshape(len(keypoints), *probability.shape, 2)
            kept = batch.index >= 0
            index = batch.index[kept]
            found = found[:, :, kept]
            matrix = np.broadcast_to(batch.crop_to_image[kept], (*found.shape[:3], 2, 3))
            keypoints[:, :, index] += geometry.apply_affine(matrix, found) / num_crops
            confidence[:, index] += probability[:, kept] / num_crops
            linear[index] += batch.crop_to_image[kept, :, :2] / num_crops
            if number == 0:
                in_crop[index] = batch.labeled[kept]
                readable[index] = batch.readable[kept]
    keypoints, confidence, linear, in_crop, readable = (
        processes.sum_over_processes(x) for x in (keypoints, confidence, linear, in_crop, readable)
    )
    found = dict(zip(others, keypoints[1:], strict=True))
    if PARTS_ALONE in found:
        found[WITHOUT_OFFSET] = remove_offsets(found[PARTS_ALONE], keypoints[0], linear)
    return Predictions(
        keypoints=keypoints[0],
        confidence=confidence,
        in_crop=in_crop > 0,
        readable=readable > 0,
        decodings=found,
    )


def remove_offsets(keypoints: np.ndarray, reference: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Move each joint of each block by a constant, so that it has no mean offset from `reference`.

    A network without a loss on its context maps' positions may shift a joint's part map and its
    context maps by opposite constants; what is left after their removal is what the part maps know.

    Args:
      keypoints: [K, N, J, 2], pixels of the images.
      reference: [K, N, J, 2], likewise.
      linear: [N, 2, 2], from the crops' normalized coordinates to pixels; the offsets are constant
        in the former.

    Returns:
      [K, N, J, 2], pixels.
    """
    back = np.linalg.inv(linear)[:, None]  # a single matrix for the joints of a person
    offsets = ((keypoints - reference)[..., None, :] * back).sum(axis=-1)
    mean = offsets.mean(axis=1, keepdims=True)
    return keypoints - (mean[..., None, :] * linear[:, None]).sum(axis=-1)


def crop_sizes(num_crops: int) -> list[float]:
    """Sizes of several crops as fractions of the plain one, which comes first: 1, 0.9, 1.1, ..."""
    if not isinstance(num_crops, numbers.Integral) or not 1 <= num_crops <= MAX_CROPS:
        raise JaxposeError(
            f"num_crops is {num_crops!r}; it must be 1 to {MAX_CROPS}, a whole number"
        )
    steps = [0] + [s for i in range(1, num_crops) for s in (-i, i)]
    return [1.0 + CROP_STEP * step for step in steps[:num_crops]]
