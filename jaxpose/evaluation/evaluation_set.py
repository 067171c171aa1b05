"""``EvaluationSet``: the ground truth of a split, and the joints in its crops."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose import geometry
from jaxpose.data import prepared
from jaxpose.errors import JaxposeError
from jaxpose.skeleton import joint_index


class EvaluationSet(NamedTuple):
    """Ground truth of N persons, for comparison with a network's predictions.

    Attributes:
      joints: the network's joint names, in channel order.
      trained_joints: those of ``joints`` with labels in training; the others are not evaluated.
      truth_joints: names of the truth's J joints.
      truth: annotations of the N persons, in pixels of the stored images.
      flip_pairs: pairs of the truth's joints that a horizontal flip exchanges.
      sigmas: OKS sigmas, one per joint of the truth; () if they are not known.
      ignored: persons in the same images who are not used as examples, as in ``PreparedSplit``.
      metric: metric requested by the config (``config.metric``); "" for none.
    """

    joints: tuple[str, ...]
    trained_joints: tuple[str, ...]
    truth_joints: tuple[str, ...]
    truth: prepared.Annotations
    flip_pairs: tuple[tuple[str, str], ...] = ()
    sigmas: tuple[float, ...] = ()
    ignored: tuple[Mapping[str, Any], ...] = ()
    metric: str = ""


def evaluation_set_of(
    split: prepared.PreparedSplit,
    joints: Sequence[str],
    trained_joints: Sequence[str] | None = None,
    *,
    metric: str = "",
) -> EvaluationSet:
    """Read the annotations of a prepared split.

    Args:
      split: result of ``prepared.open_split``.
      joints: the network's joint names, in channel order.
      trained_joints: those of ``joints`` to evaluate; all by default.
      metric: metric requested by the config (``config.metric``); "" for none.

    Raises:
      JaxposeError: the split's files are missing or corrupt, or there is no joint to evaluate.
    """
    trained = tuple(joints if trained_joints is None else trained_joints)
    if not trained:
        raise JaxposeError(
            "no joint of the network has labels in its training data, so nothing can be evaluated; "
            "train with config.joints set to joints of the training data (() takes all of them)"
        )
    return EvaluationSet(
        joints=tuple(joints),
        trained_joints=trained,
        truth_joints=tuple(split.joints),
        truth=prepared.annotations(split),
        flip_pairs=split.flip_pairs,
        sigmas=split.sigmas,
        ignored=split.ignored,
        metric=metric,
    )


class JointsInCrops(NamedTuple):
    """Positions of the true joints of N persons in their crops, in a network's joint order.

    Attributes:
      crops: crops of the persons.
      to_image: float64 [N, 2, 3], affine maps from the crops' normalized coordinates to pixels.
      points: float64 [N, J, 2], normalized; undefined where not labeled.
      labeled: bool [N, J]; false for joints that the truth does not have.
    """

    crops: list[geometry.Crop]
    to_image: np.ndarray
    points: np.ndarray
    labeled: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """Bool [N, J], labeled and inside the crop."""
        return self.labeled & ((self.points >= 0) & (self.points <= 1)).all(axis=-1)


def joints_in_crops(evaluation_set: EvaluationSet, rule: geometry.CropRule) -> JointsInCrops:
    """Compute the crops of a set's persons and the positions of the true joints in them.

    Args:
      evaluation_set: set of N persons.
      rule: the crop rule.
    """
    truth = evaluation_set.truth
    persons = len(truth.labeled)
    crops = [geometry.example_crop(truth.example(i), rule) for i in range(persons)]
    to_image = np.array([geometry.crop_to_image(crop) for crop in crops]).reshape(-1, 2, 3)
    order = joint_index(evaluation_set.truth_joints, evaluation_set.joints)
    keypoints = truth.keypoints[:, order].astype(np.float64)
    points = geometry.apply_affine(geometry.invert_affine(to_image), keypoints)
    return JointsInCrops(crops, to_image, points, truth.labeled[:, order] & (order >= 0))
