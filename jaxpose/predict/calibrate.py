"""``jaxpose calibrate``: fit a checkpoint's confidence to a prepared split."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from scipy.special import expit

from jaxpose import geometry
from jaxpose.checkpoints import packed, store
from jaxpose.data import prepared
from jaxpose.data.images import decode as decode_image
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import any_joints, calibration, probabilities
from jaxpose.evaluation.calibration import JointEvidence
from jaxpose.predict.estimator import PoseEstimator
from jaxpose.runtime.compilation import use_compilation_cache
from jaxpose.skeleton import joint_index

CHUNK = 64  # crops held at once
TIGHT_RULE = geometry.CropRule("joints", 1.0)  # the square around the joints
MIN_IMAGES = 20  # minimum for a meaningful fit


class Rate(NamedTuple):
    """A statistic with its 95 % confidence interval from a bootstrap over images."""

    value: float
    low: float
    high: float


def true_crop(estimator: PoseEstimator, example: Mapping[str, Any]) -> geometry.Crop:
    """Apply the checkpoint's crop rule to the true box, if it uses boxes, or else to the joints."""
    if estimator.crop_rule.source == "box":
        return geometry.example_crop(example, estimator.crop_rule)
    tight = geometry.example_crop(example, TIGHT_RULE)
    corner = np.subtract(tight.center, tight.side / 2)
    return estimator.crop_of(np.array([*corner, tight.side, tight.side]))


def unit_of(split: prepared.PreparedSplit, name: str = any_joints.AUTO) -> any_joints.Unit:
    """Return the unit of a split's distances; a joint within its threshold is correct.

    Args:
      split: the prepared split.
      name: as in ``any_joints.available_unit``.

    Raises:
      JaxposeError: there is no such unit, or the split's persons lack it.
    """
    unit = any_joints.available_unit(prepared.annotations(split), split.joints, unit=name)
    if unit is None:
        raise JaxposeError(
            f"{split.name}:{split.split} has {any_joints.missing_unit(name, split.joints)}; choose "
            "another --unit: head, box or two joints"
        )
    return unit


def gather(
    estimator: PoseEstimator, split: prepared.PreparedSplit, unit: any_joints.Unit
) -> JointEvidence:
    """Predict every person of a split in its true crop (``true_crop``).

    Raises:
      JaxposeError: the data set and the network have no joint in common, or too few images show a
        person with the unit and a labeled joint of the network.
    """
    truth = prepared.annotations(split)
    length = any_joints.unit_length(truth, split.joints, unit=unit)
    places = joint_index(split.joints, estimator.joints)
    if (places < 0).all():
        raise JaxposeError(
            f"{split.name}:{split.split} has no joint in common with the network, whose joints are "
            f"{', '.join(estimator.joints)}"
        )
    found, rows = [], []
    crops: list[np.ndarray] = []
    matrices: list[np.ndarray] = []

    def flush():
        if crops:
            poses = estimator.crop_poses(np.stack(crops))
            points = geometry.apply_affine(np.stack(matrices), poses.keypoints)
            found.append((points, poses.logits, poses.log_spread))
        crops.clear()
        matrices.clear()

    known = truth.labeled[:, places] & (places >= 0)
    for index in np.flatnonzero((length > 0) & known.any(axis=1)).tolist():
        decoded = decode_image(prepared.read_example(split, index)["image"])
        if decoded is None:
            continue
        crop = true_crop(estimator, truth.example(index))
        crops.append(geometry.crop_image(decoded[0], crop, estimator.image_size))
        matrices.append(geometry.crop_to_image(crop))
        rows.append(index)
        if len(crops) == CHUNK:
            flush()
    flush()
    groups = truth.image_name[rows]
    images = len(np.unique(groups))
    if images < MIN_IMAGES:
        raise JaxposeError(
            f"{split.name}:{split.split} has {images} images of objects with labels and "
            f"{unit.words}; a calibration needs {MIN_IMAGES} or more"
        )
    points, logits, log_spread = (np.concatenate(values) for values in zip(*found, strict=True))
    known = known[rows]
    distance = np.linalg.norm(points - truth.keypoints[rows][:, places], axis=-1)
    correct = known & (distance <= unit.threshold * length[rows][:, None])
    return JointEvidence(logits, log_spread, correct, known, groups)


def report(evidence: JointEvidence, unit: any_joints.Unit) -> str:
    """Compare the cross-validated confidence with presence, one line per statistic."""
    known, correct, groups = evidence.known, evidence.correct, evidence.groups
    columns = {
        "confidence": calibration.cross_validated(evidence),
        "presence": expit(evidence.logits),
    }
    fraction = correct.sum(axis=1) / known.sum(axis=1)

    def area(values, rows):
        return probabilities.pooled_roc_area(values[rows], correct[rows], known[rows])

    def error(values, rows):
        kept = known[rows]
        return probabilities.calibration_error(values[rows][kept], correct[rows][kept])

    def ranks(values, rows):
        return scipy.stats.spearmanr(values[rows].mean(axis=1), fraction[rows]).statistic

    statistics = {
        "area under the ROC curve": area,
        "expected calibration error": error,
        "rank correlation of the person score and the fraction of correct joints": ranks,
    }
    lines = [
        f"{len(correct)} persons in {len(np.unique(groups))} images, {int(known.sum())} joints, "
        f"{100 * correct[known].mean():.1f} % within {unit.threshold:g} of {unit.words} of the "
        f"true position; confidence by {calibration.FOLDS}-fold cross-validation over images; "
        f"calibration error with {probabilities.EQUAL_BINS} bins of equal count; in parentheses: "
        f"{100 * probabilities.LEVEL:.0f} % bootstrap intervals over images"
    ]
    for name, statistic in statistics.items():
        for column, values in columns.items():
            rate = _rate(lambda rows, f=statistic, v=values: f(v, rows), groups)
            lines.append(f"{name}, {column}: {rate.value:.3f} ({rate.low:.3f} to {rate.high:.3f})")
    return "\n".join(lines)


def _rate(statistic, groups: np.ndarray) -> Rate:
    return Rate(statistic(np.arange(len(groups))), *probabilities.interval(statistic, groups))


def run(checkpoint: str, file: str, *, data: str, data_dir: str, unit: str) -> None:
    """Fit the confidence of a checkpoint, print how good it is, and write the packed checkpoint.

    Args:
      checkpoint: checkpoint to calibrate, as in ``store.load``.
      file: the packed checkpoint to write; may be the one that is read.
      data: prepared data set and split, ``NAME:SPLIT``.
      data_dir: the folder of prepared data sets; "" for the default one.
      unit: name of the unit in which a joint's error is measured, as in
        ``any_joints.available_unit``.

    Raises:
      JaxposeError: the checkpoint or the data cannot be read, or the file cannot be written.
    """
    name, colon, part = data.partition(":")
    if not colon:
        raise JaxposeError(f"data {data!r} has no split; give NAME:SPLIT")
    target = packed.checked_path(file)  # fail early, before anything is loaded
    if unit != any_joints.AUTO:
        any_joints.unit_named(unit)
    use_compilation_cache()
    _, variables, metadata, source = store.load_network(checkpoint)
    split = prepared.open_split(name, part, data_dir=data_dir)
    chosen = unit_of(split, unit)
    evidence = gather(PoseEstimator(variables, metadata), split, chosen)
    print(report(evidence, chosen))
    fitted = calibration.fit_calibration(evidence)
    written = packed.pack(variables, metadata._replace(calibration=fitted), target)
    print(f"wrote {written}: {source} calibrated on {data}")
