"""Which examples are in which batch: a pure function of the seed and the batch number.

In each epoch, every person of a split is drawn ``weight`` times on average. All draws of an epoch
are shuffled together and divided into batches, and every batch into contiguous parts, one for each
process. Random numbers depend only on (seed, epoch, person, draw), where ``draw`` counts the draws
of the person in the epoch, from 0.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxpose.data.prepared import PreparedSplit
from jaxpose.errors import JaxposeError

WeightedSplits = Sequence[tuple[PreparedSplit, float]]
"""(split, weight) pairs; a split's persons are drawn ``weight`` times per epoch on average."""

# Purposes of random keys; keys of different purposes never collide.
_ORDER, _SUBSET, _EXAMPLE = range(3)


def steps_per_epoch(splits: WeightedSplits, batch_size: int) -> int:
    """Return the number of full batches in an epoch of ``train_batches``, over all processes.

    Raises:
      JaxposeError: a weight is not positive and finite or too small for its data set, or an epoch
        has no full batch.
    """
    for split, weight in splits:
        if not (math.isfinite(weight) and weight > 0):
            raise JaxposeError(
                f"weight {weight} of {split.name} {split.split} must be positive and finite; to "
                "skip the data set, remove its row"
            )
    draws = 0
    for split, weight in splits:
        size = len(split.source)
        whole, more = _copies(size, weight)
        if size and not whole and not more:
            raise JaxposeError(
                f"weight {weight} of {split.name} {split.split} draws none of its {size} persons; "
                f"raise it to at least {1 / size:.2g}, or remove its row"
            )
        draws += whole * size + more
    if draws < batch_size:
        raise JaxposeError(
            f"batch_size is {batch_size}, more than the {draws} persons of an epoch; lower "
            "batch_size, or raise the weight of a data set"
        )
    return draws // batch_size


def _copies(size: int, weight: float) -> tuple[int, int]:
    """Return how often each person is drawn, and how many persons are drawn once more."""
    whole = math.floor(weight)
    return whole, round((weight - whole) * size)


def _rng(purpose: int, *key: int) -> np.random.Generator:
    """Return the generator for a purpose and a key of up to four numbers below 2**32."""
    # Always five words below 2**32: shorter entropy is padded, so different keys could collide.
    words = (purpose, *key, *(0,) * (4 - len(key)))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


@functools.lru_cache(maxsize=4)
def epoch_draws(
    sizes: tuple[int, ...], weights: tuple[float, ...], seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the draws of an epoch in order.

    Args:
      sizes: number of persons in each split.
      weights: weight of each split.
      seed: seed of the run.
      epoch: number of the epoch, from 0.

    Returns:
      ``(index, draw)``, int64 [D] each: index in the concatenated splits, and how often the person
      has already been drawn in this epoch.
    """
    indices, draws = [], []
    first = 0
    for number, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        whole, more = _copies(size, weight)
        again = _rng(_SUBSET, seed, epoch, number).permutation(size)[:more]
        indices.append(first + np.concatenate([np.tile(np.arange(size), whole), again]))
        draws.append(np.repeat(np.arange(whole + 1), [size] * whole + [more]))
        first += size
    order = _rng(_ORDER, seed, epoch).permutation(sum(map(len, indices)))
    return np.concatenate(indices)[order], np.concatenate(draws)[order]


class Row(NamedTuple):
    """One row of a batch: example index (-1 for padding) and its random generator."""

    index: int
    rng: np.random.Generator | None


class TrainPlan(NamedTuple):
    """The rows of every training batch that belong to this process.

    Attributes:
      sizes, weights, seed: see ``epoch_draws``.
      steps: batches per epoch.
      batch_size: rows of a batch, over all processes.
      part: (first, end) of this process's rows in a batch.
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    seed: int
    steps: int
    batch_size: int
    part: tuple[int, int]

    def rows(self, step: int) -> list[Row]:
        epoch, batch = divmod(step, self.steps)
        index, draw = epoch_draws(self.sizes, self.weights, self.seed, epoch)
        first = batch * self.batch_size
        chosen = range(first + self.part[0], first + self.part[1])
        return [
            Row(int(index[i]), _rng(_EXAMPLE, self.seed, epoch, int(index[i]), int(draw[i])))
            for i in chosen
        ]


def train_plan(
    splits: WeightedSplits,
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> TrainPlan:
    """Make the training plan of one process; arguments as in ``train_batches``.

    Raises:
      JaxposeError: for the same reasons as ``train_batches``.
    """
    part = _part(batch_size, process_index, process_count)
    if not 0 <= seed < 2**32:
        raise JaxposeError(f"seed {seed} is out of range; use 0 to 2**32 - 1")
    return TrainPlan(
        sizes=tuple(len(split.source) for split, _ in splits),
        weights=tuple(float(weight) for _, weight in splits),
        seed=seed,
        steps=steps_per_epoch(splits, batch_size),
        batch_size=batch_size,
        part=part,
    )


class EvaluationPlan(NamedTuple):
    """The rows of every evaluation batch that belong to this process: each person once.

    Rows beyond the last person have index -1.

    Attributes:
      size: number of persons in the split.
      batch_size, part: as in ``TrainPlan``.
    """

    size: int
    batch_size: int
    part: tuple[int, int]

    def rows(self, step: int) -> list[Row]:
        first = step * self.batch_size
        chosen = range(first + self.part[0], first + self.part[1])
        return [Row(i if i < self.size else -1, None) for i in chosen]


def evaluation_plan(
    size: int, *, batch_size: int, process_index: int = 0, process_count: int = 1
) -> EvaluationPlan:
    """Make the plan of one process for a split of ``size`` persons.

    Raises:
      JaxposeError: the batch size is not divisible by the number of processes.
    """
    return EvaluationPlan(size, batch_size, _part(batch_size, process_index, process_count))


def _part(batch_size: int, process_index: int, process_count: int) -> tuple[int, int]:
    """Return the range (first, end) of the batch rows that a process makes."""
    if batch_size < 1 or batch_size % process_count:
        raise JaxposeError(
            f"batch size {batch_size} is not divisible by the number of processes; "
            f"use a multiple of {process_count}"
        )
    if not 0 <= process_index < process_count:
        raise JaxposeError(
            f"process_index {process_index} is out of range for {process_count} processes; indices "
            "start at 0"
        )
    rows = batch_size // process_count
    return process_index * rows, (process_index + 1) * rows
