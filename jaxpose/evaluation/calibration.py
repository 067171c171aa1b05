"""Calibration of joints' probabilities: fit, ROC area, calibration error, reliability table.

`fit_calibration` makes the confidence of a checkpoint: the estimated probability that a joint is
within half a head size of the truth.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.optimize
from scipy.special import expit

from jaxpose.checkpoints.metadata import Calibration
from jaxpose.errors import JaxposeError

EQUAL_BINS = 10  # of `calibration_error`
FOLDS = 5
BIAS_PENALTY = 1e-3  # on the squared distance of a joint's bias from their mean


class JointEvidence(NamedTuple):
    """What a confidence is fitted to: N persons with J joints.

    Attributes:
      logits: [N, J], of the joints' presence.
      log_spread: [N, J], of their part maps, as `CropPoses` of the estimator has it.
      right: bool [N, J], within half a head size of the truth.
      known: bool [N, J], there is a truth.
      groups: [N], the image; persons of one image stay together in `cross_validated`.
    """

    logits: np.ndarray
    log_spread: np.ndarray
    right: np.ndarray
    known: np.ndarray
    groups: np.ndarray


def fit_calibration(evidence: JointEvidence) -> Calibration:
    """Fit the confidence of joints: a logistic regression by maximum likelihood.

    A joint's bias is drawn slightly to the mean of all, so that a joint without a truth gets that
    mean.

    Args:
      evidence: of persons that the network was not trained on.

    Returns:
      The calibration, its biases in the order of the joints.

    Raises:
      JaxposeError: the fit is not finite, because a logit or spread is not.
    """
    num_joints = evidence.right.shape[1]
    joint = np.nonzero(evidence.known)[1]
    inputs = np.stack([evidence.logits, evidence.log_spread], axis=-1)[evidence.known]
    inputs = inputs.astype(np.float64)
    right = evidence.right[evidence.known].astype(np.float64)

    def loss(weights):
        bias, slopes = weights[:num_joints], weights[num_joints:]
        logits = bias[joint] + inputs @ slopes
        off = bias - bias.mean()
        value = np.mean(np.logaddexp(0, logits) - right * logits) + BIAS_PENALTY * off @ off
        error = (expit(logits) - right) / len(right)
        slope_gradient = error @ inputs
        bias_gradient = np.bincount(joint, error, num_joints) + 2 * BIAS_PENALTY * off
        return value, np.concatenate([bias_gradient, slope_gradient])

    fit = scipy.optimize.minimize(loss, np.zeros(num_joints + 2), jac=True, method="BFGS")
    found = fit.x
    if not np.isfinite([fit.fun, *found]).all():
        raise JaxposeError("the calibration is not finite; check the network's predictions for NaN")
    bias = tuple(found[:num_joints].round(6).tolist())
    presence, spread = found[num_joints:].round(6).tolist()
    return Calibration(bias, presence, spread)


def cross_validated(evidence: JointEvidence, *, seed: int = 0) -> np.ndarray:
    """Confidence [N, J] of each person by a calibration fitted to the other images.

    The images are split into `FOLDS` folds at random.
    """
    images, group = np.unique(evidence.groups, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(images))[group] % FOLDS
    confidence = np.zeros(evidence.right.shape)
    for held_out in range(FOLDS):
        out = fold == held_out
        fitted = fit_calibration(JointEvidence(*(values[~out] for values in evidence)))
        confidence[out] = expit(fitted.logits(evidence.logits[out], evidence.log_spread[out]))
    return confidence


def calibration_error(probability: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error over `EQUAL_BINS` bins of equal count.

    Elements of the same probability count in their bins with their mean, so the error does not
    depend on their order.

    Args:
      probability: [N] in [0, 1].
      right: bool [N].

    Returns:
      The mean over the bins of |mean probability - fraction right|, weighted by their counts; NaN
      for N = 0.

    Example:
      >>> probability = np.linspace(0.0, 1.0, 1000)
      >>> round(calibration_error(probability, probability > 0.5), 2)
      0.25
    """
    if not len(probability):
        return float("nan")
    value, place, count = np.unique(probability, return_inverse=True, return_counts=True)
    fraction = np.bincount(place, right) / count  # of each probability, those that are right
    gap = np.repeat(value - fraction, count)
    bins = np.array_split(gap.astype(np.float64), EQUAL_BINS)
    return float(sum(abs(b.sum()) for b in bins) / len(gap))


def interval(
    statistic: Callable[[np.ndarray], float],
    groups: np.ndarray,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap of a statistic over groups that are drawn whole.

    Args:
      statistic: of int [M], places in `groups`; NaN leaves a draw out.
      groups: [N], the group (person or image) of each element.
      draws: bootstrap samples.
      level: of the interval.
      seed: of the draws.

    Returns:
      (low, high).
    """
    _, group = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        chosen = rng.integers(0, len(members), len(members))
        values.append(statistic(np.concatenate([members[g] for g in chosen])))
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


class Bin(NamedTuple):
    """Joints whose probability lies in one range.

    Attributes:
      low, high: the range; `high` belongs to the last one alone.
      joints: number of joints in it.
      probability: their mean.
      present: the fraction of them that is there.
    """

    low: float
    high: float
    joints: int
    probability: float
    present: float


def roc_area(values: np.ndarray, present: np.ndarray) -> float:
    """Area under the ROC curve: how often a present joint values above an absent one.

    Ties count half (the statistic of Mann and Whitney over the product of the counts).

    Args:
      values: [N], any real numbers.
      present: bool [N].

    Returns:
      Between 0 and 1; NaN where all or none are present.

    Example:
      >>> roc_area(np.array([0.9, 0.4, 0.6, 0.4]), np.array([True, True, False, False]))
      0.625
    """
    values = np.asarray(values, np.float64)
    present = np.asarray(present, bool)
    positives, negatives = int(present.sum()), int((~present).sum())
    if not positives or not negatives:
        return float("nan")
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[place]
    above = ranks[present].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def base_rates(present: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Each joint's fraction of presence: the prediction of a network that ignores the image.

    Args:
      present: bool [N, J], the joint is in the crop.
      known: bool [N, J]; others are left out.

    Returns:
      float64 [N, J].
    """
    counts = np.maximum(known.sum(axis=0), 1)
    return np.broadcast_to((present & known).sum(axis=0) / counts, present.shape)


def pooled_roc_area(values: np.ndarray, present: np.ndarray, known: np.ndarray) -> float:
    """`roc_area` of all known joints of all persons together.

    Args:
      values: [N, J].
      present: bool [N, J].
      known: bool [N, J]; others are left out.
    """
    return roc_area(values[known], present[known])


def roc_interval(
    values: np.ndarray,
    present: np.ndarray,
    known: np.ndarray,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of `pooled_roc_area` by a percentile bootstrap over persons.

    Persons are drawn whole, since the joints of one are not independent. Draws in which all joints
    are present, or none, say nothing and are left out.

    Args:
      values: [N, J].
      present: bool [N, J].
      known: bool [N, J]; others are left out.
      draws: bootstrap samples.
      level: of the interval.
      seed: of the draws.

    Returns:
      (low, high).
    """
    return interval(
        lambda chosen: pooled_roc_area(values[chosen], present[chosen], known[chosen]),
        np.arange(len(values)),
        draws=draws,
        level=level,
        seed=seed,
    )


def reliability(
    probability: np.ndarray,
    present: np.ndarray,
    *,
    edges: Sequence[float] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
) -> list[Bin]:
    """How often joints of a stated probability are there.

    Args:
      probability: [N] in [0, 1].
      present: bool [N].
      edges: rising from 0 to 1.

    Returns:
      One `Bin` for each range that has joints.
    """
    probability = np.asarray(probability, np.float64)
    place = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, len(edges) - 2)
    bins = []
    for i in range(len(edges) - 1):
        inside = place == i
        if inside.any():
            bins.append(
                Bin(
                    edges[i],
                    edges[i + 1],
                    int(inside.sum()),
                    float(probability[inside].mean()),
                    float(np.asarray(present)[inside].mean()),
                )
            )
    return bins
