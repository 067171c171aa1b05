"""People for tests of the input pipeline, drawn: a split in memory, and batches of it."""

import cv2
import numpy as np

from jaxpose.data.augment import Augmentation
from jaxpose.data.batches import train_batches
from jaxpose.data.prepared import PreparedSplit
from jaxpose.geometry import CropRule

JOINTS = ("right_wrist", "neck", "left_wrist", "right_ankle")  # of the data set
NETWORK = ("left_wrist", "right_wrist", "pelvis", "upper_neck", "right_ankle")
FULL = Augmentation(rotation=40.0, scale=(0.7, 1.3), flip=True, color=0.3)
MILD = Augmentation(rotation=20.0, scale=(0.9, 1.2), flip=True)
IMAGE = CropRule("scale", 1.0)


def person(index, suffix=".png"):
    """A gray image with a red right wrist, a green left wrist and a blue neck; no ankle."""
    rng = np.random.default_rng(index)
    height, width = rng.integers(60, 90, 2)
    keypoints = rng.uniform(24, 36, (4, 2)) + [(-12, 0), (0, -9), (12, 9), (0, 0)]
    image = np.zeros((height, width, 3), np.float64)
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    for (px, py), channel in zip(keypoints[:3], (0, 2, 1), strict=True):
        blob = np.exp(-((x[None] - px) ** 2 + (y[:, None] - py) ** 2) / (2 * 1.8**2))
        image[..., channel] += 240 * blob
    encoded = cv2.imencode(suffix, np.rint(image[..., ::-1]).astype(np.uint8))[1].tobytes()
    keypoints[3] = 0
    labeled = np.array([True, True, True, False])
    return {
        "image": encoded,
        "image_name": f"im{index:04d}{suffix}".encode(),
        "person": index % 3,
        "keypoints": keypoints.astype(np.float32),
        "labeled": labeled,
        "visible": labeled & [True, False, True, False],
        "box": np.array([0, 0, width, height], np.float32),
        "center": np.array([width / 2, height / 2], np.float32),
        "scale": float(max(width, height)),
        "head_size": 0.0,
        "separated": True,
    }


def split_of(size, name="people", first=0):
    return PreparedSplit(
        name,
        "train",
        [person(first + i) for i in range(size)],
        JOINTS,
        flip_pairs=(("right_wrist", "left_wrist"),),
        annotated=(True, True, True, True),
    )


def training(splits, **changes):
    arguments = dict(
        joints=NETWORK,
        image_size=48,
        batch_size=4,
        rule=IMAGE,
        augmentation=FULL,
        seed=3,
    )
    return train_batches(splits, **{**arguments, **changes})


def take(batches, count):
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        for name in a._fields:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


PEOPLE = split_of(11)
