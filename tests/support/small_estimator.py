"""A network small enough for tests of prediction, as a checkpoint has it; it was never trained."""

import functools

from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.geometry import CropRule
from jaxpose.network import PoseNet, initial_variables
from jaxpose.predict import PoseEstimator
from jaxpose.skeleton import MPII

SIZE = 64
NETWORK = {
    "num_joints": 16, "num_blocks": 1, "num_context_maps": 2, "alpha": 0.8, "width": 18,
    "kernel_size": 5, "grid": "half_pixel", "temperature": 1.0,
}  # fmt: skip
METADATA = CheckpointMetadata(
    network=NETWORK,
    joints=MPII.joints,
    flip_pairs=MPII.flip_pairs,
    limbs=MPII.limbs,
    trained_joints=MPII.joints,
    image_size=SIZE,
    crop=CropRule("joints", 1.25, 0.0),
    step=3,
)


@functools.cache
def variables() -> dict:
    found = initial_variables(PoseNet(**NETWORK), 0)
    # Sharper maps than fresh ones: else every answer is the crop's middle and nothing is tested.
    found["params"]["block1_b"]["heatmaps"] *= 1000.0
    return found


@functools.cache
def estimator() -> PoseEstimator:
    return PoseEstimator(variables(), METADATA)
