"""Calibrate the joints' confidence on labeled persons.

``fit_calibration`` fits the confidence of a checkpoint: the estimated probability that a joint is
within half a head size of the truth.
"""

from typing import NamedTuple

import numpy as np
import scipy.optimize
from scipy.special import expit

from jaxpose.checkpoints.metadata import Calibration
from jaxpose.errors import JaxposeError

FOLDS = 5
BIAS_PENALTY = 1e-3  # weight of the squared distance of a joint's bias from the mean bias


class JointEvidence(NamedTuple):
    """Data for fitting the confidence: N persons with J joints.

    Attributes:
      logits: [N, J], logits of the joints' presence.
      log_spread: [N, J], logarithm of the spread of the part maps, as in the estimator's
        ``CropPoses``.
      correct: bool [N, J], whether the prediction is within half a head size of the truth.
      known: bool [N, J], whether the joint is labeled.
      groups: [N], the image of each person; ``cross_validated`` keeps the persons of an image in
        one fold.
    """

    logits: np.ndarray
    log_spread: np.ndarray
    correct: np.ndarray
    known: np.ndarray
    groups: np.ndarray


def fit_calibration(evidence: JointEvidence) -> Calibration:
    """Fit the confidence of joints: a logistic regression by maximum likelihood.

    Each joint's bias is regularized toward the mean bias; joints without labels get the mean.

    Args:
      evidence: data of persons that the network was not trained on.

    Returns:
      The calibration, with the biases in the order of the joints.

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
    """Compute the confidence [N, J] of each person with a calibration fitted to other images.

    The images are split into ``FOLDS`` folds at random.
    """
    images, group = np.unique(evidence.groups, return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(images))[group] % FOLDS
    confidence = np.zeros(evidence.correct.shape)
    for held_out in range(FOLDS):
        out = fold == held_out
        fitted = fit_calibration(JointEvidence(*(values[~out] for values in evidence)))
        confidence[out] = expit(fitted.logits(evidence.logits[out], evidence.log_spread[out]))
    return confidence
