"""Predict keypoints in images with a checkpoint: ``PoseEstimator`` and its helpers."""

from jaxpose.predict.boxes import check_boxes
from jaxpose.predict.estimator import PoseEstimator
from jaxpose.predict.images import as_image
from jaxpose.predict.inputs import predict_each
from jaxpose.predict.prediction import Prediction

__all__ = ["PoseEstimator", "Prediction", "as_image", "check_boxes", "predict_each"]
