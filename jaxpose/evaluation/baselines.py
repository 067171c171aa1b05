"""Baselines that ignore the image: the mean and median pose of the training persons."""

from collections.abc import Sequence

import numpy as np

from jaxpose import geometry
from jaxpose.evaluation.evaluation_set import EvaluationSet, joints_in_crops
from jaxpose.evaluation.inference import Predictions


def constant_poses(
    evaluation_sets: Sequence[EvaluationSet], *, rule: geometry.CropRule
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and median position of each joint over the crops of all persons in sets.

    Args:
      evaluation_sets: sets of training splits, all for the same network of J joints.
      rule: the crop rule.

    Returns:
      Two float64 [J, 2] in [0, 1] of a crop; NaN for joints without a label.
    """
    found = [joints_in_crops(evaluation_set, rule) for evaluation_set in evaluation_sets]
    points = np.concatenate([each.points for each in found])
    labeled = np.concatenate([each.labeled for each in found])
    median = np.full(points.shape[1:], np.nan)
    for joint in np.flatnonzero(labeled.any(axis=0)):
        median[joint] = np.median(points[labeled[:, joint], joint], axis=0)
    return mean_pose(points, labeled), median


def mean_pose(keypoints: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """Compute each joint's mean position over the persons who have a label for it.

    Args:
      keypoints: [N, J, 2] positions (x, y), normalized to the crop.
      labeled: bool [N, J].

    Returns:
      float64 [J, 2]; NaN, which is wrong in every metric, for joints without a label.
    """
    mask = np.asarray(labeled, bool)[..., None]
    total = np.where(mask, np.asarray(keypoints, np.float64), 0.0).sum(axis=0)
    count = mask.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def constant_predictions(
    evaluation_set: EvaluationSet, pose: np.ndarray, *, rule: geometry.CropRule
) -> Predictions:
    """Predict the same pose in every crop of a set.

    Args:
      evaluation_set: set of N persons.
      pose: [J, 2] in [0, 1] of the crop, in the order of ``evaluation_set.joints``.
      rule: the crop rule.

    Returns:
      One block's predictions, all joints with presence 1.
    """
    found = joints_in_crops(evaluation_set, rule)
    poses = np.broadcast_to(pose, found.points.shape)
    return Predictions(
        keypoints=geometry.apply_affine(found.to_image, poses)[None],
        presence=np.ones((1, *found.labeled.shape), np.float32),
        in_crop=found.inside,
        readable=np.ones(len(found.crops), bool),
    )
