"""Predict a whole split with a network, on all devices of all processes."""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpose import geometry
from jaxpose.data import prepared
from jaxpose.data.batches import evaluation_batches
from jaxpose.evaluation.views import (
    agreeing_weights,
    apply_network,
    crop_sizes,
    weighted_mean,
)
from jaxpose.network import PoseNet, decode_output, map_decoder
from jaxpose.peaks import hard_argmax
from jaxpose.runtime import processes
from jaxpose.runtime.devices import parallel, replicate, shard
from jaxpose.skeleton import flip_permutation

# Other ways to decode a network's maps. They show the effect of the context maps (the paper's
# Fig. 6), and of taking the expectation, over a window or the whole map, instead of the maximum.
WHOLE_MAPS = "expectation over the whole maps"
PARTS_ALONE = "part maps alone"
WITHOUT_OFFSET = "part maps alone, corrected for their mean offset from the prediction"
MAXIMUM = "maximum of the part maps"


class Predictions(NamedTuple):
    """Predictions for the N persons of a split, in the split's order.

    Attributes:
      keypoints: float64 [K, N, J, 2], (x, y) in pixels of the stored image.
      presence: float32 [K, N, J], probability that the joint is in the crop (the paper's joint
        probability).
      in_crop: bool [N, J], labeled and inside the crop that the rule gives (the first one if
        ``predict_split`` averages over several crops).
      readable: bool [N], whether the image could be decoded.
      decodings: {name: keypoints} for other ways to decode the same maps, each in the shape of the
        attribute ``keypoints``; empty unless requested.
    """

    keypoints: np.ndarray
    presence: np.ndarray
    in_crop: np.ndarray
    readable: np.ndarray
    decodings: Mapping[str, np.ndarray] = MappingProxyType({})


def predict_blocks(
    net: PoseNet, variables: dict, images: jax.Array, *, flipped: Sequence[int] | None = None
) -> tuple[jax.Array, jax.Array]:
    """Predict the keypoints of a batch of crops with every block.

    Args:
      net: the network.
      variables: its {"params", "batch_stats"}.
      images: uint8 [B, S, S, 3].
      flipped: as in ``apply_network``.

    Returns:
      keypoints [K, B, J, 2] in [0, 1] and presence [K, B, J], both at least float32.
    """
    output = apply_network(net, variables, images, flipped=flipped)
    return output.keypoints, jax.nn.sigmoid(output.presence_logits.astype(jnp.float32))


def decoding_names(net: PoseNet) -> tuple[str, ...]:
    """Return the names of the other ways to decode this network's maps."""
    whole = (WHOLE_MAPS,) if net.window else ()
    parts = (PARTS_ALONE,) if net.num_context_maps else ()
    return (*whole, *parts, MAXIMUM)


def decode_crops(
    net: PoseNet, variables: dict, images: jax.Array, *, flipped: Sequence[int] | None = None
) -> tuple[jax.Array, jax.Array]:
    """Predict images [B, S, S, 3] as ``predict_blocks`` does, and decode the maps in other ways.

    Returns:
      Keypoints [1 + R, K, B, J, 2], first those of the network and then those of the R
      ``decoding_names``, and presence [K, B, J].
    """
    over_parts: dict[str, Callable] = {
        PARTS_ALONE: map_decoder(grid=net.grid, temperature=net.temperature, window=net.window),
        MAXIMUM: functools.partial(hard_argmax, refinement="none", grid=net.grid),
    }

    output: Any = apply_network(net, variables, images, flipped=flipped)
    parts = output.heatmaps[..., : net.num_joints]
    found = {
        name: jax.vmap(decode, in_axes=-1, out_axes=-2)(parts)
        for name, decode in over_parts.items()
    }
    found[WHOLE_MAPS] = decode_output(net, output.heatmaps, window=0).keypoints
    keypoints = jnp.stack([output.keypoints, *(found[name] for name in decoding_names(net))])
    return keypoints, jax.nn.sigmoid(output.presence_logits.astype(jnp.float32))


@functools.lru_cache(maxsize=16)
def make_forward(
    net: PoseNet, *, flipped: tuple[int, ...] | None = None, decodings: bool = False
) -> Callable:
    """Compile ``predict_blocks`` or ``decode_crops`` for all local devices, once per network."""
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
    """Predict every person of a split once, using all devices of all processes.

    Args:
      net: the network.
      variables: its {"params", "batch_stats"}, without a device axis.
      split: from ``prepared.open_split``.
      joints: the network's joint names.
      image_size: side of the crops in pixels.
      batch_size: global batch size. It is rounded up to a multiple of the number of devices; this
        does not change the predictions.
      rule: the crop rule.
      workers: number of processes that decode images; 0 decodes in threads.
      flip_test: average the heat maps with those of the flipped crops.
      num_crops: number of crops of different sizes. Those of a joint's positions that agree
        (``agreeing_weights``) are averaged, weighted by presence; the presence is the mean over all
        crops.
      decodings: also decode the maps in other ways (``decoding_names``).
      flip_pairs: pairs of names that a horizontal flip exchanges; by default every ``right_X`` and
        its ``left_X``.
    """
    flipped = tuple(flip_permutation(joints, flip_pairs).tolist()) if flip_test else None
    forward = make_forward(net, flipped=flipped, decodings=decodings)
    others = decoding_names(net) if decodings else ()
    variables = replicate(variables)
    batch_size = -(-batch_size // jax.device_count()) * jax.device_count()
    persons = len(split.source)
    sizes = crop_sizes(num_crops)
    presence = np.zeros((len(sizes), net.num_blocks, persons, len(joints)), np.float32)
    keypoints = np.zeros((len(sizes), 1 + len(others), *presence.shape[1:], 2))
    linear = np.zeros((persons, 2, 2))  # linear part of the affine maps from crops to images
    in_crop = np.zeros((persons, len(joints)), np.int32)
    readable = np.zeros(persons, np.int32)
    for number, size in enumerate(sizes):
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
            found = found.reshape(1 + len(others), *probability.shape, 2)
            kept = batch.index >= 0
            index = batch.index[kept]
            found = found[:, :, kept]
            matrix = np.broadcast_to(batch.crop_to_image[kept], (*found.shape[:3], 2, 3))
            keypoints[number][:, :, index] = geometry.apply_affine(matrix, found)
            presence[number][:, index] = probability[:, kept]
            if number == 0:
                linear[index] = batch.crop_to_image[kept, :, :2]
                in_crop[index] = batch.labeled[kept]
                readable[index] = batch.readable[kept]
    side = np.linalg.norm(linear[..., 0], axis=-1)[:, None]  # of the plain crops, in pixels
    weights = agreeing_weights(keypoints[:, 0], presence, side=side)
    # All decodings of the maps are averaged over the same crops.
    keypoints = np.stack([weighted_mean(each, weights) for each in keypoints.swapaxes(0, 1)])
    presence = presence.mean(axis=0)
    keypoints, presence, linear, in_crop, readable = (
        processes.sum_over_processes(x) for x in (keypoints, presence, linear, in_crop, readable)
    )
    found = dict(zip(others, keypoints[1:], strict=True))
    if PARTS_ALONE in found:
        found[WITHOUT_OFFSET] = remove_offsets(found[PARTS_ALONE], keypoints[0], linear)
    return Predictions(
        keypoints=keypoints[0],
        presence=presence,
        in_crop=in_crop > 0,
        readable=readable > 0,
        decodings=found,
    )


def remove_offsets(keypoints: np.ndarray, reference: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Remove the mean offset between part maps and predictions, for each joint of each block.

    A network without a loss on its context maps' positions may shift a joint's part map and its
    context maps by opposite constants, which cancel in the prediction. Without these constants, the
    remaining error is that of the part maps themselves.

    Args:
      keypoints: [K, N, J, 2], positions of the part maps alone, in pixels of the images.
      reference: [K, N, J, 2], the network's predictions, in pixels of the images.
      linear: [N, 2, 2], linear maps from the crops' normalized coordinates to pixels. The offsets
        are constant in crop coordinates.

    Returns:
      [K, N, J, 2], pixels. Positions that are not finite are left out of the mean.
    """
    back = np.linalg.inv(linear)[:, None]  # one matrix for all joints of a person
    offsets = ((keypoints - reference)[..., None, :] * back).sum(axis=-1)
    finite = np.isfinite(offsets)
    total = np.where(finite, offsets, 0).sum(axis=1, keepdims=True)
    mean = total / np.maximum(finite.sum(axis=1, keepdims=True), 1)
    return keypoints - (mean[..., None, :] * linear[:, None]).sum(axis=-1)
