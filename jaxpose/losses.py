"""The paper's losses (section 3.2), unreduced, and the masked mean that reduces them.

Both losses are applied to every block of the network; ``training.step`` sums them over the blocks.
Further losses for coordinates (Euclidean, wing, OKS) and for heat maps (divergence, variance) have
the same form: one value per joint, to be averaged by ``masked_mean``. Needs JAX,
``jaxpose.heatmaps`` and ``jaxpose.heatmap_targets``.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxpose.heatmap_targets import gaussian_log_density
from jaxpose.heatmaps import (
    Grid,
    common_dtype,
    same_rank,
    soft_argmax_with_covariance,
    spatial_log_softmax,
)

_LOG_OF_ZERO = -1e3


def coordinate_loss(prediction: ArrayLike, target: ArrayLike) -> jax.Array:
    """Compute the elastic-net distance of eq. 7, ``|d|_1 + |d|_2^2``, of every joint.

    Its gradient at distance 0 is 0.

    Args:
      prediction: [..., J, 2], (x, y) normalized to the crop.
      target: broadcastable to ``prediction``; unlabeled entries may hold any value, even NaN.

    Returns:
      [..., J], at least float32, to be averaged over the labeled joints (``masked_mean``).

    Example:
      >>> round(float(coordinate_loss(jnp.array([0.5, 0.5]), jnp.array([0.4, 0.7]))), 3)
      0.35
    """
    difference = _difference(prediction, target)
    return jnp.sum(_absolute(difference) + jnp.square(difference), axis=-1)


def probability_loss(logit: ArrayLike, labeled: ArrayLike) -> jax.Array:
    """Compute the binary cross entropy of eq. 8 from the logit; finite for any finite logit.

    Args:
      logit: [...], logit of a joint's probability.
      labeled: broadcastable to ``logit``, bool or in [0, 1]: whether the joint is in the crop.

    Returns:
      [...], at least float32, to be averaged over the joints for which ``labeled`` is known
      (``masked_mean``).

    Example:
      >>> round(float(probability_loss(jnp.array(0.0), True)), 4)
      0.6931
    """
    logit, target = common_dtype(logit, labeled)
    return jax.nn.softplus(logit) - logit * jnp.broadcast_to(target, logit.shape)


def euclidean_loss(prediction: ArrayLike, target: ArrayLike) -> jax.Array:
    """Compute the Euclidean distance of every joint; its gradient at distance 0 is 0.

    Args:
      prediction: [..., J, N] (x, y, z).
      target: broadcastable to ``prediction``, in the same unit; unlabeled entries may hold any
        value, even NaN.

    Returns:
      [..., J], at least float32, to be averaged over the labeled joints (``masked_mean``).

    Example:
      >>> float(euclidean_loss(jnp.array([3.0, 4.0]), jnp.array([0.0, 0.0])))
      5.0
    """
    square = jnp.sum(jnp.square(_difference(prediction, target)), axis=-1)
    apart = square != 0  # also where it is NaN
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)


def wing_loss(
    prediction: ArrayLike, target: ArrayLike, *, width: float = 10.0, epsilon: float = 2.0
) -> jax.Array:
    """Compute the wing loss: logarithmic near the target, L1 beyond ``width`` (Feng et al., 2018).

    It is the sum over the axes of the following, where d is the difference along one axis::

        width * log(1 + |d| / epsilon)   for |d| < width
        |d| - width + width * log(1 + width / epsilon)   otherwise

    Its gradient at distance 0 is 0.

    Args:
      prediction: [..., J, N] (x, y, z).
      target: broadcastable to ``prediction``, in the same unit; unlabeled entries may hold any
        value, even NaN.
      width: where the logarithmic part ends, in the unit of the positions. The defaults of
        ``width`` and ``epsilon`` are those of Feng et al., for pixels of a 256 x 256 crop; for
        normalized positions, divide both by 256.
      epsilon: limits the curvature of the logarithmic part, in the same unit; smaller values give a
        sharper curve.

    Returns:
      [..., J], at least float32, to be averaged over the labeled joints (``masked_mean``).

    Example:
      >>> round(float(wing_loss(jnp.array([2.0, 0.0]), jnp.array([0.0, 0.0]))), 3)
      6.931
    """
    distance = _absolute(_difference(prediction, target))
    beyond = width - width * math.log1p(width / epsilon)
    near = width * jnp.log1p(distance / epsilon)
    return jnp.sum(jnp.where(distance < width, near, distance - beyond), axis=-1)


def oks_loss(
    prediction: ArrayLike, target: ArrayLike, area: ArrayLike, sigmas: ArrayLike
) -> jax.Array:
    """Compute one minus COCO's object keypoint similarity of every joint.

    With d the distance in the unit of the positions: 1 - exp(-d^2 / (2 * area * (2 * sigma)^2)). A
    person's loss is the mean over its labeled joints.

    Args:
      prediction: [..., J, 2] (x, y), in pixels or any other unit of length.
      target: broadcastable to ``prediction``, in the same unit; unlabeled entries may hold any
        value, even NaN.
      area: [...], area of each person's annotation, in squared units of the positions;
        broadcastable to the leading axes. It may be 0 for unlabeled persons.
      sigmas: [J], COCO's constant of each joint, such as 0.062 for a wrist.

    Returns:
      [..., J] in [0, 1], at least float32, to be averaged over the labeled joints
      (``masked_mean``).

    Example:
      >>> truth = jnp.array([[100.0, 50.0]])  # one wrist
      >>> round(float(oks_loss(truth + 10, truth, 5000.0, jnp.array([0.062]))[0]), 3)
      0.728
    """
    square = jnp.sum(jnp.square(_difference(prediction, target)), axis=-1)
    square, area, sigmas = common_dtype(square, area, sigmas)
    area = jnp.maximum(area, jnp.finfo(area.dtype).eps)
    scale = jnp.multiply(*same_rank(area[..., None], 8 * jnp.square(sigmas)))
    return -jnp.expm1(-jnp.divide(*same_rank(square, scale)))


def heatmap_divergence(
    heatmap: ArrayLike,
    target: ArrayLike,
    *,
    sigma: ArrayLike = 1.0,
    temperature: ArrayLike = 1.0,
    kind: Literal["jensen_shannon", "kl"] = "jensen_shannon",
    grid: Grid = "half_pixel",
    spatial_ndim: int = 2,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Compute the divergence of each map's softmax from a Gaussian at the target.

    As a regularizer, this loss keeps part maps localized, so that the maximum and the expected
    position of a map agree (Nibali et al., "Numerical Coordinate Regression with Convolutional
    Neural Networks", 2018, section 3.3.2).

    Args:
      heatmap: logits [..., J, H, W].
      target: [..., J, N] (x, y), normalized; its leading axes must broadcast to those of
        ``heatmap``. Unlabeled entries may hold any value, even NaN.
      sigma: standard deviation of the Gaussian, in cells of the map; a scalar, or an array that
        broadcasts to ``target``, as in ``gaussian_heatmap``.
      temperature: positive, divides the maps before the softmax; a scalar, or an array that
        broadcasts to the leading axes.
      kind: "jensen_shannon", between 0 (equal distributions) and log 2; "kl", the Kullback-Leibler
        divergence KL(map || Gaussian), without an upper bound.
      grid: where the cells lie, as in ``soft_argmax``.
      spatial_ndim: number N of trailing axes that belong to one map: 1, 2 or 3.
      where: booleans that broadcast to ``heatmap``; both distributions are restricted to the cells
        where it is True.

    Returns:
      [..., J], at least float32, to be averaged over the labeled joints (``masked_mean``).

    Raises:
      ValueError: an unknown kind, or for the same reasons as ``soft_argmax`` and
        ``gaussian_heatmap``.

    Example:
      >>> target = jnp.array([0.5, 0.5])
      >>> flat = jnp.zeros((1, 1))  # a single cell has probability 1, wherever the target is
      >>> float(heatmap_divergence(flat, target))
      0.0
      >>> wrong = jnp.zeros((9, 9)).at[0, 0].set(100.0)
      >>> round(float(heatmap_divergence(wrong, target)), 3)  # log 2
      0.693
      >>> round(float(heatmap_divergence(wrong, target, kind="kl")), 2)
      17.84
    """
    if kind not in ("jensen_shannon", "kl"):
        raise ValueError(f"kind={kind!r} is unknown; give jensen_shannon or kl")
    heatmap, target = common_dtype(heatmap, target)
    finite = jnp.isfinite(target).all(axis=-1)
    target = jnp.where(finite[..., None], target, 0)  # so that the gradient of the map is finite
    log_softmax = functools.partial(spatial_log_softmax, spatial_ndim=spatial_ndim, where=where)
    log_p = log_softmax(heatmap, temperature=temperature)
    log_q = gaussian_log_density(target, heatmap.shape[-spatial_ndim:], sigma, grid=grid)
    log_q = jnp.broadcast_to(log_q, jnp.broadcast_shapes(log_q.shape, log_p.shape))
    if where is not None:
        log_q = log_softmax(log_q)
    # exp(_LOG_OF_ZERO) is 0; with -inf, the product 0 * -inf would be NaN.
    log_p, log_q = (jnp.where(x == -jnp.inf, _LOG_OF_ZERO, x) for x in same_rank(log_p, log_q))
    axes = tuple(range(-spatial_ndim, 0))
    if kind == "kl":
        divergence = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=axes)
        return jnp.where(finite, divergence, jnp.nan)
    log_m = jnp.logaddexp(log_p, log_q) - math.log(2)
    terms = jnp.exp(log_p) * (log_p - log_m) + jnp.exp(log_q) * (log_q - log_m)
    return jnp.where(finite, jnp.sum(terms, axis=axes) / 2, jnp.nan)


def variance_loss(
    heatmap: ArrayLike,
    *,
    sigma: ArrayLike = 1.0,
    temperature: ArrayLike = 1.0,
    spatial_ndim: int = 2,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Compute the squared difference between the variance of each map's softmax and sigma^2.

    The squared differences are summed over the axes of the map. The loss regularizes the width of a
    map regardless of the position of its peak (Nibali et al., 2018, section 3.3.1).

    Args:
      heatmap: logits [..., J, H, W].
      sigma: target standard deviation, in cells; a scalar, or an array that broadcasts to
        [..., J, N].
      temperature: positive; a scalar, or an array that broadcasts to the leading axes.
      spatial_ndim: number N of trailing axes that belong to one map: 1, 2 or 3.
      where: booleans that broadcast to ``heatmap``; cells where it is False are ignored.

    Returns:
      [..., J], in cells to the fourth power, at least float32, to be averaged over the labeled
      joints (``masked_mean``).

    Raises:
      ValueError: for the same reasons as ``soft_argmax``.

    Example:
      >>> two_cells = jnp.zeros((1, 8)).at[0, 2:4].set(100.0)  # variance 1/4 along x, 0 along y
      >>> print(variance_loss(two_cells, sigma=0.5).round(4))
      0.0625
    """
    (heatmap,) = common_dtype(heatmap)
    sigma = jnp.asarray(sigma).astype(heatmap.dtype)
    _, covariance = soft_argmax_with_covariance(
        heatmap,
        size=heatmap.shape[: -spatial_ndim - 1 : -1],
        temperature=temperature,
        spatial_ndim=spatial_ndim,
        where=where,
    )
    variance = jnp.diagonal(covariance, axis1=-2, axis2=-1)
    excess = jnp.subtract(*same_rank(variance, jnp.square(sigma)))
    return jnp.sum(jnp.square(excess), axis=-1)


def masked_mean(
    values: jax.Array,
    mask: jax.Array,
    *,
    count: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Average over the True entries of a mask, and sum over the leading axes, such as the blocks.

    Args:
      values: [...], such as [K, B, J].
      mask: bool, with the shape of the trailing axes of ``values``, such as [B, J].
      count: scalar to divide the sum by; by default the number of True entries of ``mask``. If
        ``values`` are a part of a batch, give the count of the whole batch.
      axis_name: if given, the count is summed over the devices of this mapped axis. The values are
        not summed over devices, so the results of the devices (and their gradients) add up to the
        global mean.

    Returns:
      Scalar, at least float32; 0 if the mask is False everywhere.

    Raises:
      ValueError: the mask is not boolean or does not have that shape.

    Example:
      >>> float(masked_mean(jnp.array([1.0, 2.0, jnp.nan]), jnp.array([True, True, False])))
      1.5
    """
    mask, trailing = jnp.asarray(mask), jnp.shape(values)[jnp.ndim(values) - jnp.ndim(mask) :]
    if mask.dtype != jnp.bool_ or mask.shape != trailing:
        raise ValueError(
            f"mask has dtype {mask.dtype} and shape {mask.shape}; give booleans in the shape of "
            f"the trailing axes of the values, whose shape is {jnp.shape(values)}"
        )
    if count is None:
        count = masked_count(mask, axis_name=axis_name)
    # Use where, not a product: a masked NaN or infinity must not propagate.
    (values,) = common_dtype(values)
    total = jnp.sum(jnp.where(jnp.broadcast_to(mask, values.shape), values, 0))
    return total / jnp.asarray(count).astype(total.dtype)


def masked_count(mask: jax.Array, *, axis_name: str | None = None) -> jax.Array:
    """Count the True entries of a mask; return 1 if there are none.

    Args:
      mask: bool [...].
      axis_name: if given, the count is summed over the devices of this mapped axis.

    Returns:
      Scalar, int32.

    Example:
      >>> int(masked_count(jnp.array([True, False, True])))
      2
    """
    count = jnp.sum(mask, dtype=jnp.int32)
    if axis_name is not None:
        count = jax.lax.psum(count, axis_name)
    return jnp.maximum(count, 1)


def _absolute(difference):
    """The absolute value; its derivative at 0 is 0, where that of ``jnp.abs`` is 1."""
    return jnp.where(difference == 0, 0, jnp.abs(difference))


def _difference(prediction, target):
    """Prediction minus target, at least float32, in the prediction's shape."""
    prediction, target = common_dtype(prediction, target)
    difference = prediction - jnp.broadcast_to(target, prediction.shape)
    # A masked NaN has the gradient 0, and 0 times the NaN slope of a loss would be NaN. The same
    # applies to a finite difference whose square overflows.
    finite = jnp.isfinite(jnp.square(difference)).all(axis=-1, keepdims=True)
    return jnp.where(finite, difference, jax.lax.stop_gradient(difference))
