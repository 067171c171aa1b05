"""From a checkpoint and pictures to keypoints: `PoseEstimator`, and what its command needs."""

from jaxpose.predict.boxes import check_boxes
from jaxpose.predict.estimator import PoseEstimator, Prediction
from jaxpose.predict.images import as_picture

__all__ = ["PoseEstimator", "Prediction", "as_picture", "check_boxes"]
