"""Labeled predictions that are wrong by about as much as the thresholds of the tests allow."""

import numpy as np

from jaxpose.evaluation.labeled_predictions import LabeledPredictions
from jaxpose.skeleton import LSP


def people(seed=0, persons=40, joints=LSP.joints):
    """Persons of about 100 pixels, predictions off by about as much as the thresholds allow."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 100, (persons, len(joints), 2))
    return LabeledPredictions(
        prediction=truth + rng.normal(0, 10, truth.shape),
        ground_truth=truth,
        labeled=rng.random(truth.shape[:2]) < 0.9,
        joints=joints,
        prediction_joints=joints,
        head_size=rng.uniform(10, 30, persons),
    )
