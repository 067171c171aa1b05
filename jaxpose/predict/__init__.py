"""From a checkpoint and images to keypoints: `PoseEstimator`, and what its command needs."""

from jaxpose.predict.boxes import check_boxes
from jaxpose.predict.estimator import PoseEstimator, Prediction
from jaxpose.predict.images import as_image

__all__ = ["PoseEstimator", "Prediction", "as_image", "check_boxes"]
