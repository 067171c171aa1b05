"""The fit of the confidence against the weights that its data were drawn by."""

import numpy as np
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.evaluation import calibration, probabilities


def evidence(persons=300, joints=4, seed=0):
    """Joints that are correct by a probability of known weights; two persons an image."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(3.0, 2.0, (persons, joints)).astype(np.float32)
    log_spread = rng.normal(-2.0, 0.6, (persons, joints)).astype(np.float32)
    bias = np.linspace(-6.0, -4.5, joints)
    probability = 1 / (1 + np.exp(-(bias + 0.4 * logits - 2.0 * log_spread)))
    correct = rng.random(probability.shape) < probability
    known = rng.random(probability.shape) < 0.9
    images = np.arange(persons) // 2
    return calibration.JointEvidence(logits, log_spread, correct, known, images), probability


def test_the_fit_finds_the_weights_that_the_data_were_drawn_by():
    joints, _ = evidence(persons=20_000)
    fitted = calibration.fit_calibration(joints)
    np.testing.assert_allclose([fitted.presence, fitted.spread], [0.4, -2.0], atol=0.06)
    np.testing.assert_allclose(fitted.bias, np.linspace(-6.0, -4.5, 4), atol=0.25)


def test_joints_without_truth_take_no_part_in_the_fit_and_get_the_mean_bias():
    joints, _ = evidence()
    joints.known[:, 2] = False
    fitted = calibration.fit_calibration(joints)
    joints.correct[:, 2] ^= True
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
    assert probabilities.calibration_error(confidence[known], joints.correct[known]) < 0.02
    assert probabilities.calibration_error(confidence[known] ** 2, joints.correct[known]) > 0.05
