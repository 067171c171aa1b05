"""ROC area against a count over all pairs, its interval, and the reliability table."""

import numpy as np
import pytest

from jaxpose.evaluation import calibration


def people(seed=0, persons=40, joints=5):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random((persons, joints)), 1)  # with ties
    present = rng.random(scores.shape) < 0.2 + 0.6 * scores
    known = rng.random(scores.shape) < 0.9
    return scores, present, known


def test_the_area_counts_pairs_with_ties_as_half():
    scores, present, known = people()
    positive, negative = scores[present & known], scores[~present & known]
    difference = positive[:, None] - negative[None]
    expected = ((difference > 0) + 0.5 * (difference == 0)).mean()
    found = calibration.pooled_roc_area(scores, present, known)
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_area_is_undefined_where_all_are_present():
    assert np.isnan(calibration.roc_area(np.array([0.1, 0.2]), np.array([True, True])))


def test_a_base_rate_ranks_joints_and_not_persons():
    present = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], bool)
    known = np.ones_like(present)
    known[3, 0] = False
    scores = calibration.base_rate_scores(present, known)
    np.testing.assert_allclose(scores, np.broadcast_to([1.0, 0.25], (4, 2)))


def test_the_interval_holds_the_area_and_narrows_with_more_persons():
    few, many = people(persons=30), people(persons=600)
    widths = []
    for scores, present, known in (few, many):
        low, high = calibration.roc_interval(scores, present, known, draws=200)
        assert low < calibration.pooled_roc_area(scores, present, known) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_a_table_of_honest_probabilities_lies_on_the_diagonal():
    rng = np.random.default_rng(1)
    probability = rng.random(50_000)
    bins = calibration.reliability(probability, rng.random(50_000) < probability)
    assert sum(row.joints for row in bins) == 50_000
    for row in bins:
        assert row.low <= row.probability <= row.high
        assert row.present == pytest.approx(row.probability, abs=0.02)


def test_probabilities_of_exactly_0_and_1_are_counted():
    bins = calibration.reliability(np.array([0.0, 1.0]), np.array([False, True]))
    assert [(row.low, row.high, row.joints) for row in bins] == [(0.0, 0.1, 1), (0.9, 1.0, 1)]
