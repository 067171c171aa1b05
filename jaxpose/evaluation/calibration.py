"""The fit of the joints' confidence to persons with a known truth.

`fit_calibration` makes the confidence of a checkpoint: the estimated probability that a joint is
within half a head size of the truth.
"""

from typing import NamedTuple

import numpy as np
import scipy.optimize
from scipy.special import expit

from jaxpose.checkpoints.metadata import Calibration
from jaxpose.errors import JaxposeError

FOLDS = 5
BIAS_PENALTY = 1e-3  # on the squared distance of a joint's bias from their mean


class JointEvidence(NamedTuple):
    """What a confidence is fitted to: N persons with J joints.

    Attributes:
      logits: [N, J], of the joints' presence.
      log_spread: [N, J], of their part maps, as `CropPoses` of the estimator has it.
      correct: bool [N, J], within half a head size of the truth.
      known: bool [N, J], there is a truth.
      groups: [N], the image; persons of one image stay together in `cross_validated`.
    """

    logits: np.ndarray
    log_spread: np.ndarray
    correct: np.ndarray
    known: np.ndarray
    groups: np.ndarray


def fit_calibration(evidence: JointEvidence) -> Calibration:
    """Fit the confidence of joints: a logistic regression by maximum likelihood.

    A joint's bias is drawn slightly to the mean of all, so that a joint without a truth gets that
    mean.

    Args:
      evidence: of persons that the network was not trained on.

    Returns:
      The calibration, its biases in the order of the joints.

    Raises:
      JaxposeError: the fit is not finite, because a logit or spread is not.
    """
    num_joints = evidence.correct.shape[1]
    joint = np.nonzero(evidence.known)[1]
    inputs = np.stack([evidence.logits, evidence.log_spread], axis=-1)[evidence.known]
    inputs = inputs.astype(np.float64)
    correct = evidence.correct[evidence.known].astype(np.float64)

    def loss(weights):
        bias, slopes = weights[:num_joints], weights[num_joints:]
        logits = bias[joint] + inputs @ slopes
        off = bias - bias.mean()
        value = np.mean(np.logaddexp(0, logits) - correct * logits) + BIAS_PENALTY * off @ off
        error = (expit(logits) - correct) / len(correct)
        slope_gradient = error @ inputs
        bias_gradient = np.bincount(joint, error, num_joints) + 2 * BIAS_PENALTY * off
        return value, np.concatenate([bias_gradient, slope_gradient])

    fit = scipy.optimize.minimize(loss, np.zeros(num_joints + 2), jac=True, method="BFGS")
    found = fit.x
    if not np.isfinite([fit.fun, *found]).all():
        raise JaxposeError("the calibration is not finite; check the network's predictions for NaN")
    bias = tuple(found[:num_joints].round(6).tolist())
    presence, spread = found[num_joints:].round(6).tolist()
    return Calibration(bias, presence, spread)


def cross_validated(evidence: JointEvidence) -> np.ndarray:
    """Confidence [N, J] of each person by a calibration fitted to the other images.

    The images are split into `FOLDS` folds at random.
    """
    images, group = np.unique(evidence.groups, return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(images))[group] % FOLDS
    confidence = np.zeros(evidence.correct.shape)
    for held_out in range(FOLDS):
        out = fold == held_out
        fitted = fit_calibration(JointEvidence(*(values[~out] for values in evidence)))
        confidence[out] = expit(fitted.logits(evidence.logits[out], evidence.log_spread[out]))
    return confidence
