"""Whether a joint's probability means something: ROC area with its interval, reliability table."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


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


def roc_area(scores: np.ndarray, present: np.ndarray) -> float:
    """Area under the ROC curve: how often a present joint scores above an absent one.

    Ties count half (the statistic of Mann and Whitney over the product of the counts).

    Args:
      scores: [N], any real numbers.
      present: bool [N].

    Returns:
      Between 0 and 1; NaN where all or none are present.

    Example:
      >>> roc_area(np.array([0.9, 0.4, 0.6, 0.4]), np.array([True, True, False, False]))
      0.625
    """
    scores = np.asarray(scores, np.float64)
    present = np.asarray(present, bool)
    positives, negatives = int(present.sum()), int((~present).sum())
    if not positives or not negatives:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[place]
    above = ranks[present].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def base_rate_scores(present: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What a network that looks at no image could say: each joint's share of presence.

    Args:
      present: bool [N, J], the joint is in the crop.
      known: bool [N, J]; others are left out.

    Returns:
      float64 [N, J].
    """
    counts = np.maximum(known.sum(axis=0), 1)
    return np.broadcast_to((present & known).sum(axis=0) / counts, present.shape)


def pooled_roc_area(scores: np.ndarray, present: np.ndarray, known: np.ndarray) -> float:
    """`roc_area` of all known joints of all persons together.

    Args:
      scores: [N, J].
      present: bool [N, J].
      known: bool [N, J]; others are left out.
    """
    return roc_area(scores[known], present[known])


def roc_interval(
    scores: np.ndarray,
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
      scores: [N, J].
      present: bool [N, J].
      known: bool [N, J]; others are left out.
      draws: bootstrap samples.
      level: of the interval.
      seed: of the draws.

    Returns:
      (low, high).
    """
    rng = np.random.default_rng(seed)
    persons = len(scores)
    areas = []
    for _ in range(draws):
        chosen = rng.integers(0, persons, persons)
        areas.append(pooled_roc_area(scores[chosen], present[chosen], known[chosen]))
    low, high = np.nanquantile(areas, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


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
