"""How well joints' probabilities separate and match what they predict: ROC area, calibration error.

The intervals are percentile bootstraps over persons or images, since the joints of a person are not
independent.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

EQUAL_BINS = 10  # of `calibration_error`
EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # of the ranges of `reliability`
LEVEL = 0.95  # of intervals


def calibration_error(probability: np.ndarray, correct: np.ndarray) -> float:
    """Expected calibration error over `EQUAL_BINS` bins of equal count.

    Elements of the same probability count in their bins with their mean, so the error does not
    depend on their order.

    Args:
      probability: [N] in [0, 1].
      correct: bool [N].

    Returns:
      The mean over the bins of |mean probability - fraction correct|, weighted by their counts; NaN
      for N = 0.

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
    """Percentile bootstrap of a statistic over groups that are drawn whole.

    Args:
      statistic: of int [M], places in `groups`; NaN leaves a draw out.
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
) -> tuple[float, float]:
    """Interval of `pooled_roc_area` by a percentile bootstrap over persons.

    Persons are drawn whole, since the joints of one are not independent. Draws in which all joints
    are present, or none, say nothing and are left out.

    Args:
      values: [N, J].
      present: bool [N, J].
      known: bool [N, J]; others are left out.
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
    """Each joint's fraction of presence: the prediction of a network that ignores the image.

    Args:
      present: bool [N, J], the joint is in the crop.
      known: bool [N, J]; others are left out.

    Returns:
      float64 [N, J].
    """
    counts = np.maximum(known.sum(axis=0), 1)
    return np.broadcast_to((present & known).sum(axis=0) / counts, present.shape)


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


def reliability(
    probability: np.ndarray,
    present: np.ndarray,
) -> list[Bin]:
    """How often joints of a stated probability are there.

    Args:
      probability: [N] in [0, 1].
      present: bool [N].

    Returns:
      One `Bin` for each range of `EDGES` that has joints.
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
