"""Make batches from prepared data sets: decode, crop, augment, stack, prefetch.

A batch is a pure function of its number: its persons depend on (seed, epoch), and the augmentation
of a person on (seed, epoch, person, draw), but not on the number of workers or processes. Training
can therefore resume at any step.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose.data.augment import Augmentation, color, erase, sample
from jaxpose.data.images import decode
from jaxpose.data.prefetch import Batches
from jaxpose.data.prepared import PreparedSplit, read_example
from jaxpose.data.sampling import (
    EvaluationPlan,
    Row,
    TrainPlan,
    WeightedSplits,
    evaluation_plan,
    train_plan,
)
from jaxpose.geometry import (
    Crop,
    CropRule,
    apply_affine,
    crop_image,
    crop_to_image,
    example_crop,
    invert_affine,
    reduction,
)
from jaxpose.skeleton import flip_permutation, joint_index


class Batch(NamedTuple):
    """A batch of B crops of side S with J joints.

    Attributes:
      image: uint8 [B, S, S, 3].
      keypoints: float32 [B, J, 2], (x, y) in [0, 1] of the crop; 0 where not labeled.
      labeled: bool [B, J], whether the position is known and inside the crop.
      known: bool [B, J], whether the data set annotates the joint. In images without people, the
        joints that other splits label are known to be absent (``labeled_joints``).
      weight: float32 [B], 0 for padding and unreadable images, otherwise 1.
      readable: bool [B], False where the image could not be decoded. Such an image is black, its
        weight is 0, and none of its joints is labeled or known.
      index: int64 [B], index in the concatenated splits (see ``example_name``), -1 for padding.
        ``index`` and ``crop_to_image`` are None in the batches passed to the training step.
      crop_to_image: float64 [B, 2, 3], affine map from the crop's coordinates to pixels of the
        image.
    """

    image: Any
    keypoints: Any
    labeled: Any
    known: Any
    weight: Any
    readable: Any
    index: Any = None
    crop_to_image: Any = None


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
) -> "Batches[Batch]":
    """Make endless batches of augmented crops.

    An epoch draws each person of a split ``floor(weight)`` times, and a random subset of its
    persons once more, so that the mean is ``weight``, up to the rounding to whole persons. All
    draws of an epoch are shuffled together. The incomplete batch at the end of an epoch is dropped.

    Args:
      splits: (split, weight) pairs.
      joints: J names, the network's order. Joints are matched by name; those that a data set does
        not annotate are not ``known``.
      image_size: S, pixels of a crop's side.
      batch_size: rows of a batch, over all processes.
      rule: crop rule for all splits, or one rule per split.
      augmentation: strengths of the random augmentations.
      seed: seed of the order and the augmentation, 0 to 2**32 - 1.
      start_step: number of the first batch; ``steps_per_epoch`` batches make an epoch.
      workers: processes that make batches; 0 uses threads of this process.
      process_index: index of this process, which makes a contiguous part of every batch.
      process_count: number of processes.

    Returns:
      An iterator of ``Batch`` of NumPy arrays, B = batch_size / process_count rows each. Close it
      when done.

    Raises:
      JaxposeError: an epoch has no full batch, the batch size is not divisible by the number of
        processes, a weight is not positive, or a number is out of range.
    """
    plan = train_plan(
        splits,
        batch_size=batch_size,
        seed=seed,
        process_index=process_index,
        process_count=process_count,
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
) -> "Batches[Batch]":
    """Iterate over the persons of a split, each once and in order, without augmentation.

    Args:
      split: the split.
      joints: as in ``train_batches``.
      image_size: as in ``train_batches``.
      batch_size: as in ``train_batches``.
      rule: crop rule.
      workers: as in ``train_batches``.
      process_index: as in ``train_batches``.
      process_count: as in ``train_batches``.

    Returns:
      An iterator of ceil(N / batch_size) ``Batch``, the same number in every process. Rows beyond
      the last person are padding: black images with ``index`` -1, weight 0, no known joint, and
      ``readable`` True.

    Raises:
      JaxposeError: the batch size is not divisible by the number of processes.
    """
    size = len(split.source)
    plan = evaluation_plan(
        size, batch_size=batch_size, process_index=process_index, process_count=process_count
    )
    readers = readers_of([(split, 1.0)], [rule], joints)
    maker = BatchMaker(plan, readers, image_size, len(joints), None)
    return Batches(maker, start=0, stop=-(-size // batch_size), workers=workers)


def example_name(splits: WeightedSplits, index: int) -> str:
    """Return a human-readable name of an example.

    Args:
      splits: as passed to ``train_batches``; ``[(split, 1.0)]`` for ``evaluation_batches``.
      index: ``index`` of a batch row.

    Returns:
      A name such as ``"im0001.jpg (person 0 of lspet train)"``.
    """
    for split, _ in splits:
        if index < len(split.source):
            example = read_example(split, index)
            name = example["image_name"]
            name = name.decode() if isinstance(name, bytes) else str(name)
            return f"{name} (person {int(example['person'])} of {split.name} {split.split})"
        index -= len(split.source)
    raise IndexError(index)


def labeled_joints(splits: WeightedSplits, joints: Sequence[str]) -> np.ndarray:
    """Return which joints the splits label.

    Args:
      splits: (split, weight) pairs. Images without people label no joint.
      joints: J names.

    Returns:
      bool [J], whether a split with people annotates the joint.
    """
    found = np.zeros(len(joints), bool)
    for split, _ in splits:
        if split.has_people:
            order = joint_index(split.joints, joints)
            found |= (order >= 0) & annotated_joints(split)[order]
    return found


def annotated_joints(split: PreparedSplit) -> np.ndarray:
    """Return bool [J]: which of the split's joints the data set annotates; by default, all."""
    return np.array(split.annotated or [True] * len(split.joints))


class Reader(NamedTuple):
    """A split and the mapping from the network's J joints to the split's joints.

    Attributes:
      split: the split.
      rule: crop rule of its persons.
      order: int [J], indices into the split's joints; -1 for joints that it does not have.
      mirrored: int [J], like ``order``, for horizontally flipped crops.
      annotated: bool, for each of the split's joints, whether the data set annotates it.
      trained: bool [J], joints whose presence the split may train: all, or for images without
        people, those that other splits label.
    """

    split: PreparedSplit
    rule: CropRule
    order: np.ndarray
    mirrored: np.ndarray
    annotated: np.ndarray
    trained: np.ndarray


def readers_of(
    splits: WeightedSplits, rules: Sequence[CropRule], joints: Sequence[str]
) -> list[Reader]:
    """Match the joints of each split to the network's, by name."""
    readers = []
    labeled = labeled_joints(splits, joints)
    for (split, _), rule in zip(splits, rules, strict=True):
        order = joint_index(split.joints, joints)
        exchanged = flip_permutation(split.joints, split.flip_pairs)
        mirrored = np.where(order < 0, -1, exchanged[order])
        # Images without people would otherwise train the presence of joints that nothing labels
        # toward 0 everywhere.
        trained = labeled | split.has_people
        readers.append(Reader(split, rule, order, mirrored, annotated_joints(split), trained))
    return readers


class BatchMaker(NamedTuple):
    """Make the batch of a step; picklable, so that it can be sent to worker processes."""

    plan: TrainPlan | EvaluationPlan
    readers: list[Reader]
    image_size: int
    num_joints: int
    augmentation: Augmentation | None

    def __call__(self, step: int) -> Batch:
        rows = self.plan.rows(step)
        batch = _empty_batch(len(rows), self.image_size, self.num_joints)
        # Process stage by stage, not person by person, so that a stage's code and tables stay in
        # the CPU caches.
        persons = [self._read(place, row) for place, row in enumerate(rows) if row.index >= 0]
        for person in persons:
            _place_joints(batch, person)
        shown = [person for person in persons if self._show(batch, person)]
        if self.augmentation is not None:
            for person in shown:
                image = batch.image[person.place]
                color(person.rng, image, self.augmentation.color)
                erase(person.rng, image, self.augmentation.erase)
        return batch

    def _read(self, place: int, row: Row) -> "_Person":
        """Read one person, image still encoded, and compute the crop."""
        index = row.index
        for reader in self.readers:
            if index < len(reader.split.source):
                break
            index -= len(reader.split.source)
        example = read_example(reader.split, index)
        crop = example_crop(example, reader.rule)
        if self.augmentation is not None:
            crop = sample(row.rng, crop, self.augmentation)
        return _Person(place, row.index, row.rng, reader, example, crop)

    def _show(self, batch: Batch, person: "_Person") -> bool:
        """Write the crop's image; the row of an unreadable image is left as padding."""
        place, crop = person.place, person.crop
        decoded = decode(person.example["image"], reduction=reduction(crop.side, self.image_size))
        if decoded is None:
            batch.readable[place] = False
            batch.weight[place] = 0
            for column in (batch.keypoints, batch.labeled, batch.known):
                column[place] = 0
            return False
        image, reduced = decoded
        crop_image(image, crop, self.image_size, reduced=reduced, out=batch.image[place])
        return True


class _Person(NamedTuple):
    """A person to be written to row ``place`` of a batch."""

    place: int
    index: int
    rng: np.random.Generator | None
    reader: Reader
    example: Mapping[str, Any]
    crop: Crop


def _place_joints(batch: Batch, person: _Person) -> None:
    """Write everything except the image: joints and masks, in the network's joint order."""
    place, reader, example = person.place, person.reader, person.example
    order = reader.mirrored if person.crop.flip else reader.order
    matrix = crop_to_image(person.crop)
    points = apply_affine(invert_affine(matrix), np.asarray(example["keypoints"]))[order]
    inside = ((points >= 0) & (points <= 1)).all(axis=-1)
    labeled = np.asarray(example["labeled"])[order] & (order >= 0) & inside
    batch.index[place] = person.index
    batch.weight[place] = 1
    batch.crop_to_image[place] = matrix
    batch.known[place] = (order >= 0) & reader.annotated[order] & reader.trained
    batch.labeled[place] = labeled
    batch.keypoints[place] = np.where(labeled[:, None], points, 0.0)


def _empty_batch(rows: int, size: int, joints: int) -> Batch:
    """Return a batch that consists of padding only."""
    return Batch(
        image=np.zeros((rows, size, size, 3), np.uint8),
        keypoints=np.zeros((rows, joints, 2), np.float32),
        labeled=np.zeros((rows, joints), bool),
        known=np.zeros((rows, joints), bool),
        weight=np.zeros(rows, np.float32),
        readable=np.ones(rows, bool),
        index=np.full(rows, -1, np.int64),
        crop_to_image=np.tile(np.eye(2, 3), (rows, 1, 1)),
    )
