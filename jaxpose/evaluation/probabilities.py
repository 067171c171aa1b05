"""Quality of joint probabilities: area under the ROC curve, calibration error.

Intervals are percentile bootstraps over persons or images, because the joints of a person are not
independent.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

EQUAL_BINS = 10  # number of bins of `calibration_error`
EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # of the bins of `reliability`
LEVEL = 0.95  # of intervals


def calibration_error(probability: np.ndarray, correct: np.ndarray) -> float:
    """Compute the expected calibration error over ``EQUAL_BINS`` bins of equal count.

    Elements with the same probability are replaced by their mean, so the error does not depend on
    their order.

    Args:
      probability: [N] in [0, 1].
      correct: bool [N].

    Returns:
      The mean of |mean probability - fraction correct| over the bins, weighted by the bins' counts;
      NaN for N = 0.

    Example:
      >>> probability = np.linspace(0.0, 1.0, 1000)
      >>> round(calibration_error(probability, probability > 0.5), 2)
      0.25
    """
    if not len(probability):
        return float("nan")
    value, place, count = np.unique(probability, return_inverse=True, return_counts=True)
    fraction = np.bincount(place, correct) / count  # of each probability
    gap = np.repeat(value - fraction, count)
    bins = np.array_split(gap.astype(np.float64), EQUAL_BINS)
    return float(sum(abs(b.sum()) for b in bins) / len(gap))


def interval(
    statistic: Callable[[np.ndarray], float],
    groups: np.ndarray,
    *,
    draws: int = 1000,
) -> tuple[float, float]:
    """Compute a percentile bootstrap interval of a statistic, resampling whole groups.

    Args:
      statistic: function of int [M], indices into ``groups``; draws that give NaN are skipped.
      groups: [N], the group (person or image) of each element.
      draws: bootstrap samples.

    Returns:
      (low, high) of the 95 % interval.
    """
    _, group = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    rng = np.random.default_rng(0)
    values = []
    for _ in range(draws):
        chosen = rng.integers(0, len(members), len(members))
        values.append(statistic(np.concatenate([members[g] for g in chosen])))
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def roc_area(values: np.ndarray, present: np.ndarray) -> float:
    """Compute the area under the ROC curve: how often a present joint ranks above an absent one.

    Ties count half. This is the Mann-Whitney statistic, divided by the number of pairs of a present
    and an absent joint.

    Args:
      values: [N], any real numbers.
      present: bool [N].

    Returns:
      Between 0 and 1; NaN if all joints are present, or none.

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


def pooled_roc_area(values: np.ndarray, present: np.ndarray, known: np.ndarray) -> float:
    """Compute ``roc_area`` over all known joints of all persons.

    Args:
      values: [N, J].
      present: bool [N, J].
      known: bool [N, J]; other joints are ignored.
    """
    return roc_area(values[known], present[known])


def roc_interval(
    values: np.ndarray,
    present: np.ndarray,
    known: np.ndarray,
    *,
    draws: int = 1000,
) -> tuple[float, float]:
    """Compute a percentile bootstrap interval of ``pooled_roc_area`` over persons.

    Draws in which all joints are present, or none, carry no information and are skipped.

    Args:
      values: [N, J].
      present: bool [N, J].
      known: bool [N, J]; other joints are ignored.
      draws: bootstrap samples.

    Returns:
      (low, high) of the 95 % interval.
    """
    return interval(
        lambda chosen: pooled_roc_area(values[chosen], present[chosen], known[chosen]),
        np.arange(len(values)),
        draws=draws,
    )


def base_rates(present: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Compute a baseline that ignores the image: the fraction of crops that contain the joint.

    Args:
      present: bool [N, J], the joint is in the crop.
      known: bool [N, J]; other joints are ignored.

    Returns:
      float64 [N, J].
    """
    counts = np.maximum(known.sum(axis=0), 1)
    return np.broadcast_to((present & known).sum(axis=0) / counts, present.shape)


class Bin(NamedTuple):
    """Joints whose probability lies in one range.

    Attributes:
      low, high: the range; it includes ``high`` only in the last bin.
      joints: number of joints in the range.
      probability: mean probability of these joints.
      present: fraction of these joints that are present.
    """

    low: float
    high: float
    joints: int
    probability: float
    present: float


def reliability(
    probability: np.ndarray,
    present: np.ndarray,
) -> list[Bin]:
    """Compare predicted probabilities with the fraction of joints that are present.

    Args:
      probability: [N] in [0, 1].
      present: bool [N].

    Returns:
      One ``Bin`` for each range of ``EDGES`` that has joints.
    """
    probability = np.asarray(probability, np.float64)
    place = np.clip(np.searchsorted(EDGES, probability, side="right") - 1, 0, len(EDGES) - 2)
    bins = []
    for i in range(len(EDGES) - 1):
        inside = place == i
        if inside.any():
            bins.append(
                Bin(
                    EDGES[i],
                    EDGES[i + 1],
                    int(inside.sum()),
                    float(probability[inside].mean()),
                    float(np.asarray(present)[inside].mean()),
                )
            )
    return bins
