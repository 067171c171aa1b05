"""ROC area against a count over all pairs, its interval, calibration error, reliability table."""

import numpy as np
import pytest

from jaxpose.evaluation import probabilities


def people(seed=0, persons=40, joints=5):
    rng = np.random.default_rng(seed)
    values = np.round(rng.random((persons, joints)), 1)  # with ties
    present = rng.random(values.shape) < 0.2 + 0.6 * values
    known = rng.random(values.shape) < 0.9
    return values, present, known


def test_the_area_counts_pairs_with_ties_as_half():
    values, present, known = people()
    positive, negative = values[present & known], values[~present & known]
    difference = positive[:, None] - negative[None]
    expected = ((difference > 0) + 0.5 * (difference == 0)).mean()
    found = probabilities.pooled_roc_area(values, present, known)
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_area_is_undefined_where_all_are_present():
    assert np.isnan(probabilities.roc_area(np.array([0.1, 0.2]), np.array([True, True])))


def test_a_base_rate_ranks_joints_and_not_persons():
    present = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], bool)
    known = np.ones_like(present)
    known[3, 0] = False
    values = probabilities.base_rates(present, known)
    np.testing.assert_allclose(values, np.broadcast_to([1.0, 0.25], (4, 2)))


def test_the_interval_holds_the_area_and_narrows_with_more_persons():
    few, many = people(persons=30), people(persons=600)
    widths = []
    for values, present, known in (few, many):
        low, high = probabilities.roc_interval(values, present, known, draws=200)
        assert low < probabilities.pooled_roc_area(values, present, known) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_a_table_of_honest_probabilities_lies_on_the_diagonal():
    rng = np.random.default_rng(1)
    probability = rng.random(50_000)
    bins = probabilities.reliability(probability, rng.random(50_000) < probability)
    assert sum(row.joints for row in bins) == 50_000
    for row in bins:
        assert row.low <= row.probability <= row.high
        assert row.present == pytest.approx(row.probability, abs=0.02)


def test_probabilities_of_exactly_0_and_1_are_counted():
    bins = probabilities.reliability(np.array([0.0, 1.0]), np.array([False, True]))
    assert [(row.low, row.high, row.joints) for row in bins] == [(0.0, 0.1, 1), (0.9, 1.0, 1)]


def test_the_calibration_error_is_the_mean_gap_of_its_bins():
    probability = np.repeat(np.linspace(0.05, 0.95, 10), 10)
    correct = np.tile(np.arange(10) < 7, 10)  # 7 of 10 in each bin
    expected = np.abs(np.linspace(0.05, 0.95, 10) - 0.7).mean()
    assert probabilities.calibration_error(probability, correct) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_calibration_error_of_equal_probabilities_does_not_depend_on_their_order(dtype):
    correct = np.arange(1000) < 500
    assert probabilities.calibration_error(np.full(1000, 0.5, dtype), correct) == pytest.approx(0.0)
    assert probabilities.calibration_error(np.full(1000, 0.8, dtype), correct) == pytest.approx(0.3)
    rng = np.random.default_rng(0)
    probability = rng.integers(0, 4, 995).astype(dtype) / 4
    correct = rng.random(995) < probability**2
    order = rng.permutation(995)
    assert probabilities.calibration_error(probability[order], correct[order]) == pytest.approx(
        probabilities.calibration_error(probability, correct), abs=1e-12
    )


def test_the_calibration_error_of_nothing_is_undefined():
    assert np.isnan(probabilities.calibration_error(np.zeros(0), np.zeros(0, bool)))


def test_an_interval_draws_groups_whole():
    values = np.repeat([0.0, 1.0], 500)
    as_two = probabilities.interval(lambda rows: values[rows].mean(), values)
    assert as_two == (0.0, 1.0)
    as_many = probabilities.interval(lambda rows: values[rows].mean(), np.arange(1000))
    assert 0.45 < as_many[0] < 0.5 < as_many[1] < 0.55
