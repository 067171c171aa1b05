"""One batch: read, decode, cut and colour one crop per person, in place."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose.augment import Augmentation, color, sample
from jaxpose.decode import decode
from jaxpose.geometry import (
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
        for place, row in enumerate(rows):
            if row.index >= 0:
                self._fill(batch, place, row)
        return batch

    def _fill(self, batch: dict[str, np.ndarray], place: int, row: Row) -> None:
        """Writes one person into a row of the batch."""
        batch["index"][place] = row.index
        reader, example = self._read(row.index)
        crop = example_crop(example, reader.rule)
        if self.augmentation is not None:
            crop = sample(row.rng, crop, self.augmentation)
        matrix = crop_to_image(crop)
        batch["crop_to_image"][place] = matrix
        decoded = decode(example["image"], reduction=reduction(crop.side, self.image_size))
        if decoded is None:
            batch["readable"][place] = False
            return
        image, reduced = decoded
        target = cut(image, crop, self.image_size, reduced=reduced, out=batch["image"][place])
        if self.augmentation is not None:
            color(row.rng, target, self.augmentation.color)
        batch["weight"][place] = 1
        order = reader.mirrored if crop.flip else reader.order
        batch["known"][place] = (order >= 0) & reader.annotated[order]
        points, labelled = _joints_in_crop(example, order, matrix)
        batch["keypoints"][place] = points
        batch["labelled"][place] = labelled

    def _read(self, index: int) -> tuple[Reader, dict[str, Any]]:
        for reader in self.readers:
            if index < len(reader.split.source):
                return reader, read_example(reader.split, index)
            index -= len(reader.split.source)
        raise IndexError(index)


def _joints_in_crop(
    example: Mapping[str, Any], order: np.ndarray, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Normalised keypoints [J, 2], 0 where not labelled, and ``labelled`` [J] in this crop."""
    points = apply_affine(invert_affine(matrix), np.asarray(example["keypoints"]))[order]
    inside = ((points >= 0) & (points <= 1)).all(axis=-1)
    labelled = np.asarray(example["labelled"])[order] & (order >= 0) & inside
    return np.where(labelled[:, None], points, 0.0), labelled


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
