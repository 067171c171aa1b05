"""A custom TFDS data set: drawn stick figures with five joints (docs/own_data.md).

Prepared by `python -m examples.five_joints --data_dir runs/data`.
"""

import io
from collections.abc import Iterator

import cv2
import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import schema
from tfds_builders.joints import JointSet

SKELETON = JointSet(
    joints=("head_top", "right_wrist", "left_wrist", "right_ankle", "left_ankle"),
    flip_pairs=(("right_wrist", "left_wrist"), ("right_ankle", "left_ankle")),
    limbs=(("head_top", "right_wrist"), ("head_top", "left_wrist")),
)
SIZE = 64  # pixels of an image's side
PERSONS = {"train": 1600, "validation": 100, "test": 200}
RED, BLUE, BLACK = (220, 40, 40), (40, 60, 220), (0, 0, 0)


def figure(rng: np.random.Generator) -> dict:
    """Draw one stick figure as an example of the schema; right side red, left side blue."""
    height = rng.uniform(0.5, 0.8) * SIZE
    middle = SIZE / 2 + rng.uniform(-0.1, 0.1, 2) * SIZE
    turn = rng.normal(0, 0.2)
    across, up = np.array([[np.cos(turn), np.sin(turn)], [np.sin(turn), -np.cos(turn)]]) * height
    hip, neck, radius = middle - 0.05 * up, middle + 0.25 * up, 0.1 * height
    head = neck + 0.1 * up
    # A figure that faces us has its right hand on our left.
    reach = rng.uniform([-0.45, -0.3], [-0.2, 0.3], (2, 2)) * [(1, 1), (-1, 1)]
    wrists = [neck + side * across + lift * up for side, lift in reach]
    stride = rng.uniform(-0.3, -0.05, 2) * (1, -1)
    ankles = [hip + side * across - 0.45 * up for side in stride]
    image = np.full((SIZE, SIZE, 3), rng.integers(150, 256, 3), np.uint8)
    lines = [(hip, neck, BLACK), (neck, wrists[0], RED), (neck, wrists[1], BLUE)]
    for start, end, color in [*lines, (hip, ankles[0], RED), (hip, ankles[1], BLUE)]:
        cv2.line(image, *(tuple(np.floor(p).astype(int).tolist()) for p in (start, end)), color, 2)
    cv2.circle(image, tuple(np.floor(head).astype(int).tolist()), round(radius), BLACK, -1)
    keypoints = np.array([head + 0.1 * up, *wrists, *ankles], np.float32)
    inside = ((keypoints >= 0) & (keypoints <= SIZE)).all(axis=1)
    low, high = keypoints.min(axis=0), keypoints.max(axis=0)
    return {
        "image": cv2.imencode(".png", image[..., ::-1])[1].tobytes(),
        "keypoints": np.where(inside[:, None], keypoints, 0),  # 0 where not labeled
        "labeled": inside,
        "visible": inside,
        "box": np.array([*low, *(high - low)], np.float32),
        "center": middle.astype(np.float32),
        "scale": height,
        "head_size": 0.6 * np.hypot(2 * radius, 2 * radius),  # MPII's definition
        "separated": True,
    }


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The data set ``five_joints``; ``persons`` sets the number of figures in each split."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, persons: dict[str, int] | None = None, **kwargs):
        super().__init__(**kwargs)
        self.persons = persons or PERSONS

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=schema.features(len(SKELETON.joints)),
            metadata=schema.metadata(SKELETON, release="drawn by this builder"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        return {split: self._generate_examples(split) for split in self.persons}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        for number in range(self.persons[split]):
            rng = np.random.default_rng([list(PERSONS).index(split), number])
            name = f"{split}_{number:05d}.png"
            example = figure(rng)
            image = io.BytesIO(example["image"])  # encoded: TFDS needs TensorFlow to encode arrays
            yield name, {**example, "image": image, "image_name": name, "person": 0}
