"""ROC area against a count over all pairs, its interval, and the reliability table."""

import numpy as np
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.evaluation import calibration


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
    found = calibration.pooled_roc_area(values, present, known)
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_area_is_undefined_where_all_are_present():
    assert np.isnan(calibration.roc_area(np.array([0.1, 0.2]), np.array([True, True])))


def test_a_base_rate_ranks_joints_and_not_persons():
    present = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], bool)
    known = np.ones_like(present)
    known[3, 0] = False
    values = calibration.base_rates(present, known)
    np.testing.assert_allclose(values, np.broadcast_to([1.0, 0.25], (4, 2)))


def test_the_interval_holds_the_area_and_narrows_with_more_persons():
    few, many = people(persons=30), people(persons=600)
    widths = []
    for values, present, known in (few, many):
        low, high = calibration.roc_interval(values, present, known, draws=200)
        assert low < calibration.pooled_roc_area(values, present, known) < high
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


def evidence(persons=300, joints=4, seed=0):
    """Joints that are right with a probability that follows known weights; two persons an image."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(3.0, 2.0, (persons, joints)).astype(np.float32)
    log_spread = rng.normal(-2.0, 0.6, (persons, joints)).astype(np.float32)
    bias = np.linspace(-6.0, -4.5, joints)
    probability = 1 / (1 + np.exp(-(bias + 0.4 * logits - 2.0 * log_spread)))
    right = rng.random(probability.shape) < probability
    known = rng.random(probability.shape) < 0.9
    images = np.arange(persons) // 2
    return calibration.JointEvidence(logits, log_spread, right, known, images), probability


def test_the_fit_finds_the_weights_that_the_data_were_drawn_by():
    joints, _ = evidence(persons=20_000)
    fitted = calibration.fit_calibration(joints)
    np.testing.assert_allclose([fitted.presence, fitted.spread], [0.4, -2.0], atol=0.06)
    np.testing.assert_allclose(fitted.bias, np.linspace(-6.0, -4.5, 4), atol=0.25)


def test_joints_without_truth_take_no_part_in_the_fit_and_get_the_mean_bias():
    joints, _ = evidence()
    joints.known[:, 2] = False
    fitted = calibration.fit_calibration(joints)
    joints.right[:, 2] ^= True
    assert calibration.fit_calibration(joints) == fitted
    assert fitted.bias[2] == pytest.approx(np.mean(fitted.bias), abs=1e-3)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("field", ["logits", "log_spread"])
def test_a_fit_that_is_not_finite_is_refused(field):
    joints, _ = evidence(persons=40)
    getattr(joints, field)[joints.known] = np.nan
    with pytest.raises(JaxposeError, match="the calibration is not finite"):
        calibration.fit_calibration(joints)


def test_a_person_is_not_judged_by_a_fit_to_its_own_image(monkeypatch):
    joints, _ = evidence(persons=40)
    fitted_to = []

    def remember(part):
        fitted_to.append(set(part.groups))
        return calibration.Calibration((float(len(fitted_to)),) * 4, 0.0, 0.0)

    monkeypatch.setattr(calibration, "fit_calibration", remember)
    confidence = calibration.cross_validated(joints)
    assert len(fitted_to) == calibration.FOLDS
    held_out = [set(joints.groups) - groups for groups in fitted_to]
    assert sorted(image for groups in held_out for image in groups) == list(range(20))
    for number, images in enumerate(held_out, 1):
        rows = np.isin(joints.groups, list(images))
        np.testing.assert_allclose(confidence[rows], 1 / (1 + np.exp(-number)))


def test_the_cross_validated_confidence_is_calibrated():
    joints, probability = evidence(persons=5000)
    confidence = calibration.cross_validated(joints)
    assert np.abs(confidence - probability).mean() < 0.02
    known = joints.known
    assert calibration.calibration_error(confidence[known], joints.right[known]) < 0.02
    assert calibration.calibration_error(confidence[known] ** 2, joints.right[known]) > 0.05


def test_the_calibration_error_is_the_mean_gap_of_its_bins():
    probability = np.repeat(np.linspace(0.05, 0.95, 10), 10)
    right = np.tile(np.arange(10) < 7, 10)  # 7 of 10 in each bin
    expected = np.abs(np.linspace(0.05, 0.95, 10) - 0.7).mean()
    assert calibration.calibration_error(probability, right) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_calibration_error_of_equal_probabilities_does_not_depend_on_their_order(dtype):
    right = np.arange(1000) < 500
    assert calibration.calibration_error(np.full(1000, 0.5, dtype), right) == pytest.approx(0.0)
    assert calibration.calibration_error(np.full(1000, 0.8, dtype), right) == pytest.approx(0.3)
    rng = np.random.default_rng(0)
    probability = rng.integers(0, 4, 995).astype(dtype) / 4
    right = rng.random(995) < probability**2
    order = rng.permutation(995)
    assert calibration.calibration_error(probability[order], right[order]) == pytest.approx(
        calibration.calibration_error(probability, right), abs=1e-12
    )


def test_the_calibration_error_of_nothing_is_undefined():
    assert np.isnan(calibration.calibration_error(np.zeros(0), np.zeros(0, bool)))


def test_an_interval_draws_groups_whole():
    values = np.repeat([0.0, 1.0], 500)
    as_two = calibration.interval(lambda rows: values[rows].mean(), values)
    assert as_two == (0.0, 1.0)
    as_many = calibration.interval(lambda rows: values[rows].mean(), np.arange(1000))
    assert 0.45 < as_many[0] < 0.5 < as_many[1] < 0.55
