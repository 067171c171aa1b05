"""Prepared data sets to batches: decode, cut one random crop per person, stack, read ahead.

A batch is a pure function of its number: which persons it holds follows from (seed, epoch), what
happens to one of them from (seed, epoch, person, draw). Neither the number of workers nor that of
processes enters, and training resumes anywhere by its step.
"""

from collections.abc import Sequence

from jaxpose.augment import Augmentation
from jaxpose.errors import JaxposeError
from jaxpose.geometry import CropRule
from jaxpose.input_pipeline.batch_maker import BatchMaker, readers_of
from jaxpose.input_pipeline.reading_ahead import Batches
from jaxpose.input_pipeline.schedule import (
    EvaluationPlan,
    TrainPlan,
    WeightedSplits,
    draws_per_epoch,
    steps_per_epoch,
)
from jaxpose.prepared import PreparedSplit, annotations, open_split, read_example

__all__ = [
    "Batches",
    "PreparedSplit",
    "annotations",
    "evaluation_batches",
    "example_name",
    "open_split",
    "steps_per_epoch",
    "train_batches",
]


def train_batches(
    splits: WeightedSplits,
    *,
    joints: Sequence[str],
    image_size: int,
    batch_size: int,
    rule: CropRule | Sequence[CropRule],
    augmentation: Augmentation,
    seed: int,
    start_step: int = 0,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> "Batches":
    """Endless batches of augmented crops.

    An epoch draws each person of a split ``floor(weight)`` times, and a random subset of its
    persons once more, so that the mean is ``weight``; all draws of an epoch are shuffled together.
    What does not fill a batch at an epoch's end is dropped.

    Args:
      splits: (split, weight) pairs.
      joints: J names, the network's order. Joints are matched by name; those that a data set does
        not annotate are not ``known``.
      image_size: S, pixels of a crop's side.
      batch_size: of all processes together.
      rule: how a person's crop is found, for all splits alike or one rule a split.
      augmentation: how far it is changed at random.
      seed: of order and augmentation, 0 to 2**32 - 1.
      start_step: number of the first batch; ``steps_per_epoch`` of them make an epoch.
      workers: processes that make batches; 0 uses threads of this process.
      process_index: which contiguous share of every batch this process makes ...
      process_count: ... of how many.

    Returns:
      An iterator of dicts, B = batch_size / process_count rows each: ``image`` uint8 [B, S, S, 3],
      ``keypoints`` float32 [B, J, 2] in [0, 1] of the crop (0 where not labelled), ``labelled``
      bool [B, J] (known position inside the crop), ``known`` bool [B, J], ``weight`` float32 [B],
      ``index`` int64 [B] (position in the concatenation of the splits, see ``example_name``),
      ``readable`` bool [B] (False where the picture did not decode: black, weight 0, nothing
      labelled or known) and ``crop_to_image`` float64 [B, 2, 3]. Close it when done.

    Raises:
      JaxposeError: an epoch has no full batch, the batch does not divide among the processes, a
        weight is not positive, a number is out of range.
    """
    _check_share(batch_size, process_index, process_count)
    if not 0 <= seed < 2**32:
        raise JaxposeError(f"seed {seed} does not fit; use 0 to 2**32 - 1")
    steps = steps_per_epoch(splits, batch_size)
    if not steps:
        raise JaxposeError(
            f"the splits give {draws_per_epoch(splits)} persons an epoch, fewer than one batch "
            f"of {batch_size}; lower the batch size or raise a weight"
        )
    plan = TrainPlan(
        sizes=tuple(len(split.source) for split, _ in splits),
        weights=tuple(float(weight) for _, weight in splits),
        seed=seed,
        steps=steps,
        batch_size=batch_size,
        share=_share(batch_size, process_index, process_count),
    )
    rules = [rule] * len(splits) if isinstance(rule, CropRule) else rule
    maker = BatchMaker(
        plan, readers_of(splits, rules, joints), image_size, len(joints), augmentation
    )
    return Batches(maker, start=start_step, stop=None, workers=workers)


def evaluation_batches(
    split: PreparedSplit,
    *,
    joints: Sequence[str],
    image_size: int,
    batch_size: int,
    rule: CropRule,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> "Batches":
    """Every person of a split once, in order, nothing random.

    Args:
      split: the split.
      joints, image_size, batch_size, rule, workers, process_index, process_count: as
        ``train_batches`` has them.

    Returns:
      An iterator of ceil(N / batch_size) dicts as ``train_batches`` gives; the same number in
      every process. Rows beyond the last person are padding: black, ``index`` -1, weight 0,
      nothing known, ``readable``.

    Raises:
      JaxposeError: the batch does not divide among the processes.
    """
    _check_share(batch_size, process_index, process_count)
    size = len(split.source)
    plan = EvaluationPlan(size, batch_size, _share(batch_size, process_index, process_count))
    readers = readers_of([(split, 1.0)], [rule], joints)
    maker = BatchMaker(plan, readers, image_size, len(joints), None)
    return Batches(maker, start=0, stop=-(-size // batch_size), workers=workers)


def example_name(splits: WeightedSplits, index: int) -> str:
    """What a person is called whom a batch's ``index`` names, for messages.

    Args:
      splits: those that ``train_batches`` was given; ``[(split, 1.0)]`` for
        ``evaluation_batches``.
      index: of a row.

    Returns:
      Such as ``"im0001.jpg (person 0 of lspet train)"``.
    """
    for split, _ in splits:
        if index < len(split.source):
            example = read_example(split, index)
            name = example["image_name"]
            name = name.decode() if isinstance(name, bytes) else str(name)
            return f"{name} (person {int(example['person'])} of {split.name} {split.split})"
        index -= len(split.source)
    raise IndexError(index)


def _check_share(batch_size: int, process_index: int, process_count: int) -> None:
    if batch_size < 1 or batch_size % process_count:
        raise JaxposeError(
            f"batch size {batch_size} does not divide among {process_count} processes; "
            f"use a multiple of {process_count}"
        )
    if not 0 <= process_index < process_count:
        raise JaxposeError(f"process {process_index} is none of {process_count}; count from 0")


def _share(batch_size: int, process_index: int, process_count: int) -> tuple[int, int]:
    rows = batch_size // process_count
    return process_index * rows, (process_index + 1) * rows
