"""The common schema of all builders: a person in an image, with joints in pixels.

Coordinates are (x, y): x to the right, y down. They are continuous: the pixel in column c and row r
covers [c, c + 1) x [r, r + 1), and its center is at (c + 0.5, r + 0.5). The image covers
[0, W] x [0, H].
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders.joints import JointSet


def features(num_joints: int, extra: Mapping[str, Any] | None = None) -> tfds.features.FeaturesDict:
    """Return the features of an example with J joints.

    Args:
      num_joints: J.
      extra: further features of one data set, by name.

    Returns:
      ``FeaturesDict``. Lengths and positions (x, y) are float32, in pixels of the stored image.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), doc="RGB, upright"),
            "image_name": tfds.features.Text(doc="file name in the release"),
            "person": tfds.features.Scalar(np.int32, doc="index of the person in the image"),
            "keypoints": tfds.features.Tensor(
                shape=(num_joints, 2), dtype=np.float32, doc="pixels, (x, y); 0 if not labeled"
            ),
            "labeled": tfds.features.Tensor(
                shape=(num_joints,), dtype=np.bool_, doc="a position is given"
            ),
            "visible": tfds.features.Tensor(
                shape=(num_joints,), dtype=np.bool_, doc="labeled and not marked occluded"
            ),
            "box": tfds.features.Tensor(
                shape=(4,), dtype=np.float32, doc="the person's x, y, width, height in pixels"
            ),
            "center": tfds.features.Tensor(
                shape=(2,), dtype=np.float32, doc="the person's nominal center in pixels"
            ),
            "scale": tfds.features.Scalar(np.float32, doc="the person's nominal size in pixels"),
            "head_size": tfds.features.Scalar(np.float32, doc="pixels; 0 if unknown"),
            "separated": tfds.features.Scalar(np.bool_, doc="MPII's 'sufficiently separated' flag"),
            **(extra or {}),
        }
    )


def metadata(
    joint_set: JointSet,
    *,
    release: str,
    annotated: Sequence[bool] | None = None,
    sigmas: Sequence[float] = (),
    category: tuple[int | str, str] | None = None,
    people: bool = True,
) -> tfds.core.MetadataDict:
    """Make the metadata stored with a prepared data set.

    Args:
      joint_set: flip pairs, limbs, and the joint names in the order of the features.
      release: description of the release.
      annotated: for each joint, whether the data set labels it in any example; by default, True.
      sigmas: OKS sigmas, one per joint; omitted from the metadata if unknown.
      category: id and name of the COCO category of the examples; omitted for persons.
      people: False for images without people (or other objects of the category); omitted
        otherwise.

    Returns:
      ``MetadataDict`` with joint_names, flip_pairs, limbs, release, annotated, oks_sigmas,
      category, people.
    """
    known: dict[str, Any] = {"oks_sigmas": list(sigmas)} if sigmas else {}
    if category is not None:
        known["category"] = list(category)
    if not people:
        known["people"] = False
    return tfds.core.MetadataDict(
        joint_names=list(joint_set.joints),
        flip_pairs=[list(pair) for pair in joint_set.flip_pairs],
        limbs=[list(limb) for limb in joint_set.limbs],
        release=release,
        annotated=[True] * len(joint_set.joints) if annotated is None else list(annotated),
        **known,
    )
