"""Combine several views of one person: flipped crops, and crops of other sizes."""

import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.network import PoseNet, PoseOutput, decode_output, normalize

MAX_CROPS = 9  # their sides are 0.6 to 1.4 times the plain crop's
CROP_STEP = 0.1  # difference between their sides, as a fraction of the plain crop's
AGREEMENT = 0.1  # largest distance of positions that agree, as a fraction of the crop's side
SMALLEST_WEIGHT = 1e-6  # of a view, so that a joint whose probability is 0 in all views has a mean


def crop_sizes(num_crops: int) -> list[float]:
    """Return the sizes of the crops as fractions of the plain crop: 1, 0.9, 1.1, ...

    Args:
      num_crops: number of crops.

    Raises:
      JaxposeError: ``num_crops`` is not an integer from 1 to ``MAX_CROPS``.
    """
    if not isinstance(num_crops, numbers.Integral) or not 1 <= num_crops <= MAX_CROPS:
        raise JaxposeError(
            f"num_crops is {num_crops!r}; it must be an integer from 1 to {MAX_CROPS}"
        )
    steps = [0] + [s for i in range(1, num_crops) for s in (-i, i)]
    return [1.0 + CROP_STEP * step for step in steps[:num_crops]]


def apply_network(
    net: PoseNet, variables: dict, images: jax.Array, *, flipped: Sequence[int] | None = None
) -> PoseOutput:
    """Apply a network to crops, or average its heat maps for crops and for flipped crops.

    If the two passes have a joint at different places, for example at different wrists, the mean of
    the positions lies between them. A network with a ``window`` decodes the higher peak of the mean
    map instead.

    Args:
      net: the network.
      variables: its {"params", "batch_stats"}.
      images: uint8 [B, S, S, 3].
      flipped: joint order of a horizontally flipped crop (``flip_permutation``); None to predict
        the crops only.

    Returns:
      The output of all K blocks, with heat maps [K, B, H, W, M]. With ``flipped``, the presence
      logits are the means of the two passes' logits, and everything else is decoded from the mean
      maps, at least float32.
    """

    def apply(images):
        return net.apply(variables, normalize(images, net.dtype), train=False, heatmaps=True)

    output = apply(images)
    if flipped is None:
        return output
    mirrored = apply(images[:, :, ::-1])
    heatmaps = average_maps(net, output.heatmaps, mirrored.heatmaps, flipped=flipped)
    logits = (output.presence_logits + mirrored.presence_logits[..., np.asarray(flipped)]) / 2
    decoded = decode_output(net, heatmaps, window=net.window)
    return decoded._replace(presence_logits=logits)


def average_maps(
    net: PoseNet, heatmaps: jax.Array, mirrored: jax.Array, *, flipped: Sequence[int]
) -> jax.Array:
    """Average the raw heat maps of crops with those of the flipped crops.

    Args:
      net: the network.
      heatmaps: [..., H, W, M] of the crops: part maps, then context maps grouped by joint.
      mirrored: [..., H, W, M] of the flipped crops.
      flipped: joint order of a horizontally flipped crop (``flip_permutation``).

    Returns:
      [..., H, W, M] for the crops, at least float32.
    """
    joints, num_context_maps = np.asarray(flipped), net.num_context_maps
    context = len(joints) + joints[:, None] * num_context_maps + np.arange(num_context_maps)
    order = np.concatenate([joints, context.ravel()])
    dtype = jnp.promote_types(heatmaps.dtype, jnp.float32)
    heatmaps, mirrored = heatmaps.astype(dtype), mirrored[..., ::-1, order].astype(dtype)
    if net.grid != "paper":
        return (heatmaps + mirrored) / 2
    # Its cell i is at (i + 1) / W, which is at the other side of the crop's center from cell
    # W - 2 - i. The last cell has no counterpart.
    mean = (heatmaps[..., :-1, :] + mirrored[..., 1:, :]) / 2
    return jnp.concatenate([mean, heatmaps[..., -1:, :]], axis=-2)


def mirror_positions(keypoints: jax.Array, *, flipped: Sequence[int]) -> jax.Array:
    """Convert positions in flipped crops to positions in the crops, or the reverse.

    Args:
      keypoints: [..., J, 2] (x, y) as a fraction of the crop.
      flipped: joint order of a horizontally flipped crop (``flip_permutation``).

    Returns:
      [..., J, 2].
    """
    return keypoints[..., np.asarray(flipped), :] * jnp.array([-1.0, 1.0]) + jnp.array([1.0, 0.0])


def agreeing_weights(
    positions: np.ndarray, weights: np.ndarray, *, side: np.ndarray | float
) -> np.ndarray:
    """Set the weights of those views to 0 whose positions disagree with the others'.

    Positions agree if they are within ``AGREEMENT`` of the crop's side from the weighted medoid,
    that is, the position with the smallest weighted sum of distances to all positions. Of two
    distant positions, only the one with more weight is therefore left. The first view wins a tie.

    Args:
      positions: [V, ..., 2] from V views, in pixels of the image.
      weights: [V, ...], not negative, such as probabilities.
      side: sides of the plain crops in pixels; broadcasts to [...].

    Returns:
      [V, ...]; at least one weight of each position is above 0.

    Example:
      >>> import numpy as np
      >>> positions = np.array([[10.0, 50.0], [12.0, 50.0], [90.0, 50.0]])
      >>> print(agreeing_weights(positions, np.array([0.5, 0.4, 0.8]), side=100.0))
      [0.5 0.4 0. ]
    """
    weights = np.maximum(weights, SMALLEST_WEIGHT)
    costs = [
        sum(
            weight * np.linalg.norm(other - position, axis=-1)
            for other, weight in zip(positions, weights, strict=True)
        )
        for position in positions
    ]
    medoid = np.argmin(costs, axis=0)
    center = np.take_along_axis(positions, medoid[None, ..., None], axis=0)
    distances = np.linalg.norm(positions - center, axis=-1)
    return np.where(distances > AGREEMENT * np.asarray(side), 0, weights)


def agreed_positions(
    positions: np.ndarray, weights: np.ndarray, *, side: np.ndarray | float
) -> np.ndarray:
    """Average the positions that agree: the mean with ``agreeing_weights``.

    Args:
      positions: [V, ..., 2], as in ``agreeing_weights``.
      weights: [V, ...], as in ``agreeing_weights``.
      side: as in ``agreeing_weights``.

    Returns:
      [..., 2], in pixels of the image.
    """
    return weighted_mean(positions, agreeing_weights(positions, weights, side=side))


def weighted_mean(positions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average positions [V, ..., 2] over V views with weights [V, ...]; returns [..., 2]."""
    shares = weights / weights.sum(axis=0)
    return (shares[..., None] * positions).sum(axis=0)
