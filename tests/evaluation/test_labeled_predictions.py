"""Predictions beside their truth: some of the persons."""

import numpy as np

from jaxpose.evaluation.labeled_predictions import LabeledPredictions, select_persons


def test_persons_are_selected_from_every_array():
    rng = np.random.default_rng(0)
    whole = LabeledPredictions(
        prediction=rng.random((3, 1, 2)),
        ground_truth=rng.random((3, 2, 2)),
        labeled=rng.random((3, 2)) < 0.5,
        joints=("nose", "tail"),
        prediction_joints=("tail",),
        head_size=rng.random(3),
        box=rng.random((3, 4)),
    )
    some = select_persons(whole, np.array([True, False, True]))
    for name in ("prediction", "ground_truth", "labeled", "head_size", "box"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[[0, 2]])
    assert some.separated is None and some.joints == whole.joints
