"""Predictions that look at no image."""

import numpy as np

from jaxpose.evaluation.baselines import mean_pose


def test_mean_pose_is_the_mean_over_those_who_have_the_joint():
    rng = np.random.default_rng(0)
    points, labeled = rng.random((40, 3, 2)), rng.random((40, 3)) < 0.9
    labeled[:, 1] = False
    pose = mean_pose(points, labeled)
    for joint in (0, 2):
        having = [points[person, joint] for person in range(40) if labeled[person, joint]]
        assert 0 < len(having) < 40
        np.testing.assert_allclose(pose[joint], np.mean(having, axis=0))
    assert np.isnan(pose[1]).all()
