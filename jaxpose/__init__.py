"""Human pose regression by soft-argmax (Luvizon, Tabia, Picard 2019) in JAX and Flax.

Public names are loaded when they are first used: ``from jaxpose import soft_argmax`` loads
``jaxpose.heatmaps`` and no other module of the package, and ``import jaxpose`` loads none.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers; _HOME is the run-time equivalent
    from jaxpose.checkpoints.metadata import CheckpointMetadata as CheckpointMetadata
    from jaxpose.depthwise import depthwise_conv as depthwise_conv
    from jaxpose.errors import JaxposeError as JaxposeError
    from jaxpose.heatmap_targets import gaussian_heatmap as gaussian_heatmap
    from jaxpose.heatmap_targets import simcc_targets as simcc_targets
    from jaxpose.heatmaps import aggregate_context as aggregate_context
    from jaxpose.heatmaps import convert_grid as convert_grid
    from jaxpose.heatmaps import joint_logit as joint_logit
    from jaxpose.heatmaps import joint_probability as joint_probability
    from jaxpose.heatmaps import local_soft_argmax as local_soft_argmax
    from jaxpose.heatmaps import soft_argmax as soft_argmax
    from jaxpose.heatmaps import soft_argmax_with_covariance as soft_argmax_with_covariance
    from jaxpose.heatmaps import spatial_expectation as spatial_expectation
    from jaxpose.heatmaps import spatial_log_softmax as spatial_log_softmax
    from jaxpose.heatmaps import spatial_softmax as spatial_softmax
    from jaxpose.losses import coordinate_loss as coordinate_loss
    from jaxpose.losses import euclidean_loss as euclidean_loss
    from jaxpose.losses import heatmap_divergence as heatmap_divergence
    from jaxpose.losses import masked_mean as masked_mean
    from jaxpose.losses import oks_loss as oks_loss
    from jaxpose.losses import probability_loss as probability_loss
    from jaxpose.losses import variance_loss as variance_loss
    from jaxpose.losses import wing_loss as wing_loss
    from jaxpose.network import PoseNet as PoseNet
    from jaxpose.network import PoseOutput as PoseOutput
    from jaxpose.peaks import Peaks as Peaks
    from jaxpose.peaks import find_peaks as find_peaks
    from jaxpose.peaks import hard_argmax as hard_argmax
    from jaxpose.predict import PoseEstimator as PoseEstimator
    from jaxpose.predict import Prediction as Prediction
    from jaxpose.predict import predict_each as predict_each
    from jaxpose.runtime.compilation import compiler_options as compiler_options

__version__ = "0.1.0"

_HOME = {
    "CheckpointMetadata": "checkpoints.metadata",
    "JaxposeError": "errors",
    "Peaks": "peaks",
    "PoseEstimator": "predict",
    "PoseNet": "network",
    "PoseOutput": "network",
    "Prediction": "predict",
    "aggregate_context": "heatmaps",
    "compiler_options": "runtime.compilation",
    "convert_grid": "heatmaps",
    "coordinate_loss": "losses",
    "depthwise_conv": "depthwise",
    "euclidean_loss": "losses",
    "find_peaks": "peaks",
    "gaussian_heatmap": "heatmap_targets",
    "hard_argmax": "peaks",
    "heatmap_divergence": "losses",
    "joint_logit": "heatmaps",
    "joint_probability": "heatmaps",
    "local_soft_argmax": "heatmaps",
    "masked_mean": "losses",
    "oks_loss": "losses",
    "predict_each": "predict",
    "probability_loss": "losses",
    "simcc_targets": "heatmap_targets",
    "soft_argmax": "heatmaps",
    "soft_argmax_with_covariance": "heatmaps",
    "spatial_expectation": "heatmaps",
    "spatial_log_softmax": "heatmaps",
    "spatial_softmax": "heatmaps",
    "variance_loss": "losses",
    "wing_loss": "losses",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # the next look-up is an ordinary one
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
