"""Combine several views of one person: flipped crops, and crops of other sizes."""

import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxpose.errors import JaxposeError
from jaxpose.network import PoseNet, PoseOutput, decode_output, normalize

MAX_CROPS = 9  # their sides are 0.6 to 1.4 times the plain crop's
CROP_STEP = 0.1  # difference between their sides, as a fraction of the plain crop's
AGREEMENT = 0.1  # largest distance between positions that agree, as a fraction of the crop's side


def crop_sizes(num_crops: int) -> list[float]:
    """Return the sizes of the crops as fractions of the plain crop: 1, 0.9, 1.1, ..."""
    if not isinstance(num_crops, numbers.Integral) or not 1 <= num_crops <= MAX_CROPS:
        raise JaxposeError(
            f"num_crops is {num_crops!r}; it must be an integer from 1 to {MAX_CROPS}"
        )
    steps = [0] + [s for i in range(1, num_crops) for s in (-i, i)]
    return [1.0 + CROP_STEP * step for step in steps[:num_crops]]


def apply_network(
    net: PoseNet, variables: dict, images: jax.Array, *, flipped: Sequence[int] | None = None
) -> PoseOutput:
    """Apply a network to crops, or average its maps for crops and for flipped crops.

    The mean is that of the maps and not of the positions: where the two passes have a joint at
    different places, such as both wrists, the mean map still has its maximum at one of them.

    Args:
      net: the network.
      variables: its {"params", "batch_stats"}.
      images: uint8 [B, S, S, 3].
      flipped: joint order of a horizontally flipped crop (``flip_permutation``); None to predict
        the crops only.

    Returns:
      The output of all K blocks, with heat maps [K, B, H, W, M]. With ``flipped``, the presence
      logits are the mean of the two passes'; everything else is decoded from the mean of the maps.
    """

    def apply(images):
        return net.apply(variables, normalize(images, net.dtype), train=False, heatmaps=True)

    output = apply(images)
    if flipped is None:
        return output
    mirrored = apply(images[:, :, ::-1])
    heatmaps = (output.heatmaps + mirror_maps(net, mirrored.heatmaps, flipped)) / 2
    logits = (output.presence_logits + mirrored.presence_logits[..., np.asarray(flipped)]) / 2
    decoded = decode_output(net, heatmaps, window=net.window)
    return decoded._replace(presence_logits=logits)


def mirror_maps(net: PoseNet, heatmaps: jax.Array, flipped: Sequence[int]) -> jax.Array:
    """Convert the raw maps of flipped crops to maps of the crops, or the reverse.

    Args:
      net: the network.
      heatmaps: [..., H, W, M], part maps, then context maps grouped by joint.
      flipped: joint order of a horizontally flipped crop (``flip_permutation``).

    Returns:
      [..., H, W, M].
    """
    joints, num_context_maps = np.asarray(flipped), net.num_context_maps
    context = len(joints) + joints[:, None] * num_context_maps + np.arange(num_context_maps)
    maps = heatmaps[..., ::-1, :][..., np.concatenate([joints, context.ravel()])]
    if net.grid == "paper":  # the mirror image of its cell i, at (i + 1) / W, is cell W - 2 - i
        maps = jnp.concatenate([maps[..., 1:, :], maps[..., -1:, :]], axis=-2)
    return maps


def agreed_positions(
    positions: np.ndarray, weights: np.ndarray, *, distance: ArrayLike
) -> np.ndarray:
    """Average the positions that agree with each other.

    The positions that agree are those near the weighted medoid, which is the position with the
    smallest weighted sum of distances to all positions; of two, it is the one with more weight.
    Unlike a mean of all positions, the result is not between two places where a joint may be.

    Args:
      positions: [V, ..., 2], from V views.
      weights: [V, ...], not negative, such as probabilities.
      distance: largest distance [...] from the medoid, in the unit of the positions.

    Returns:
      [..., 2], the weighted mean of the positions that agree.
    """
    weights = np.maximum(weights, 1e-6)
    costs = [
        sum(
            weight * np.linalg.norm(other - position, axis=-1)
            for other, weight in zip(positions, weights, strict=True)
        )
        for position in positions
    ]
    medoid = np.argmin(costs, axis=0)
    center = np.take_along_axis(positions, medoid[None, ..., None], axis=0)
    near = np.linalg.norm(positions - center, axis=-1) <= np.asarray(distance)
    weights = np.where(near, weights, 0)[..., None]
    return (weights * positions).sum(axis=0) / weights.sum(axis=0)
