"""One batch: read, decode, cut and colour one crop per person, in place."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose.augment import Augmentation, color, erase, sample
from jaxpose.decode import decode
from jaxpose.geometry import (
    Crop,
    CropRule,
    apply_affine,
    crop_to_image,
    cut,
    example_crop,
    invert_affine,
    reduction,
)
from jaxpose.input_pipeline.schedule import EvaluationPlan, Row, TrainPlan, WeightedSplits
from jaxpose.prepared import PreparedSplit, read_example
from jaxpose.skeleton import flip_permutation, joint_index


class Reader(NamedTuple):
    """A split, and where the network's J joints stand among its own.

    Attributes:
      split: the split.
      rule: how its persons' crops are found.
      order: int [J], indices into the split's joints; -1 where it has none.
      mirrored: int [J], the same for a mirrored person.
      annotated: bool, of the split's joints.
    """

    split: PreparedSplit
    rule: CropRule
    order: np.ndarray
    mirrored: np.ndarray
    annotated: np.ndarray


def readers_of(
    splits: WeightedSplits, rules: Sequence[CropRule], joints: Sequence[str]
) -> list[Reader]:
    """Matches the joints of each split to the network's, by name."""
    readers = []
    for (split, _), rule in zip(splits, rules, strict=True):
        order = joint_index(split.joints, joints)
        exchanged = flip_permutation(split.joints, split.flip_pairs)
        mirrored = np.where(order < 0, -1, exchanged[order])
        annotated = np.array(split.annotated or [True] * len(split.joints))
        readers.append(Reader(split, rule, order, mirrored, annotated))
    return readers


class BatchMaker(NamedTuple):
    """Makes the batch of a step; a value that travels to the workers."""

    plan: TrainPlan | EvaluationPlan
    readers: list[Reader]
    image_size: int
    num_joints: int
    augmentation: Augmentation | None

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        rows = self.plan.rows(step)
        batch = _empty_batch(len(rows), self.image_size, self.num_joints)
        # One stage after the other, not one person after the other: a stage's code and tables
        # stay in the processor's caches.
        persons = [self._read(place, row) for place, row in enumerate(rows) if row.index >= 0]
        for person in persons:
            _place_joints(batch, person)
        shown = [person for person in persons if self._show(batch, person)]
        if self.augmentation is not None:
            for person in shown:
                image = batch["image"][person.place]
                color(person.rng, image, self.augmentation.color)
                erase(person.rng, image, self.augmentation.erase)
        return batch

    def _read(self, place: int, row: Row) -> "_Person":
        """Fetches one person, image still encoded, and finds the crop."""
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

    def _show(self, batch: dict[str, np.ndarray], person: "_Person") -> bool:
        """Writes the crop's picture; an unreadable one leaves its row as padding is."""
        place, crop = person.place, person.crop
        decoded = decode(person.example["image"], reduction=reduction(crop.side, self.image_size))
        if decoded is None:
            batch["readable"][place] = False
            batch["weight"][place] = 0
            for name in ("keypoints", "labelled", "known"):
                batch[name][place] = 0
            return False
        image, reduced = decoded
        cut(image, crop, self.image_size, reduced=reduced, out=batch["image"][place])
        return True


class _Person(NamedTuple):
    """One person on the way into row ``place`` of a batch."""

    place: int
    index: int
    rng: np.random.Generator | None
    reader: Reader
    example: Mapping[str, Any]
    crop: Crop


def _place_joints(batch: dict[str, np.ndarray], person: _Person) -> None:
    """Writes everything but the picture: joints and masks by the network's names."""
    place, reader, example = person.place, person.reader, person.example
    order = reader.mirrored if person.crop.flip else reader.order
    matrix = crop_to_image(person.crop)
    points = apply_affine(invert_affine(matrix), np.asarray(example["keypoints"]))[order]
    inside = ((points >= 0) & (points <= 1)).all(axis=-1)
    labelled = np.asarray(example["labelled"])[order] & (order >= 0) & inside
    batch["index"][place] = person.index
    batch["weight"][place] = 1
    batch["crop_to_image"][place] = matrix
    batch["known"][place] = (order >= 0) & reader.annotated[order]
    batch["labelled"][place] = labelled
    batch["keypoints"][place] = np.where(labelled[:, None], points, 0.0)


def _empty_batch(rows: int, size: int, joints: int) -> dict[str, np.ndarray]:
    """A batch of nothing but padding."""
    return {
        "image": np.zeros((rows, size, size, 3), np.uint8),
        "keypoints": np.zeros((rows, joints, 2), np.float32),
        "labelled": np.zeros((rows, joints), bool),
        "known": np.zeros((rows, joints), bool),
        "weight": np.zeros(rows, np.float32),
        "index": np.full(rows, -1, np.int64),
        "readable": np.ones(rows, bool),
        "crop_to_image": np.tile(np.eye(2, 3), (rows, 1, 1)),
    }
