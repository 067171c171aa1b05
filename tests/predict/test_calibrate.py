"""What `jaxpose calibrate` gathers from a split, prints and writes."""

import functools
import re

import jax
import numpy as np
import pytest
from scipy.stats import rankdata

from jaxpose import cli
from jaxpose.checkpoints import packed, store
from jaxpose.data.images import decode
from jaxpose.errors import JaxposeError
from jaxpose.evaluation.any_joints import UNITS, unit_named
from jaxpose.evaluation.calibration import JointEvidence
from jaxpose.evaluation.probabilities import interval
from jaxpose.geometry import BOX_RULE, IMAGE_RULE, LSP_RULE, MPII_RULE, Crop, example_crop
from jaxpose.predict import PoseEstimator, calibrate
from tests.support import small_estimator
from tests.support.drawn_people import split_of

JOINTS = ("right_wrist", "upper_neck", "left_wrist", "right_ankle")
HEAD = UNITS["head"]


def people(count):
    """Drawn people under names that the network knows, with a head size of 20 pixels."""
    split = split_of(count)
    source = [{**example, "head_size": 20.0} for example in split.source]
    return split._replace(source=source, joints=JOINTS)


def box_of(example):
    """Corner and extent of the labeled joints."""
    points = example["keypoints"][example["labeled"]].astype(float)
    return points.min(axis=0), np.ptp(points, axis=0)


def log_spread(maps):
    """Logarithm of the standard deviation of the softmax of each part map, in crop sides."""
    parts = maps.heatmaps[..., :16].astype(np.float64)
    weights = np.exp(parts - parts.max(axis=(0, 1)))
    weights /= weights.sum(axis=(0, 1))
    y, x = (np.indices(parts.shape[:2])[..., None] + 0.5) / len(parts)
    means = [(weights * at).sum(axis=(0, 1)) for at in (x, y)]
    variance = sum(
        (weights * (at - mean) ** 2).sum(axis=(0, 1))
        for at, mean in zip((x, y), means, strict=True)
    )
    return np.log(variance + 1e-8) / 2


def test_a_joint_is_correct_within_half_a_head_size_of_the_truth():
    split, estimator = people(24), small_estimator.estimator()
    found = calibrate.gather(estimator, split, HEAD)
    assert (
        found.known.sum() == 3 * 24 and not found.known[:, estimator.joints.index("pelvis")].any()
    )
    assert 0 < found.correct.sum() < found.known.sum()
    for i in (0, 5, 23):
        example = split.source[i]
        corner, extent = box_of(example)
        crop = Crop(tuple(corner + extent / 2), 1.25 * max(extent))  # the checkpoint's rule
        image, _ = decode(example["image"])
        maps = estimator.maps(image, crop)
        points = np.subtract(crop.center, crop.side / 2) + crop.side * maps.keypoints
        for joint, name in enumerate(JOINTS):
            place = estimator.joints.index(name)
            distance = np.linalg.norm(points[place] - example["keypoints"][joint])
            expected = example["labeled"][joint] and distance <= 10.0
            assert found.correct[i, place] == expected
        np.testing.assert_allclose(1 / (1 + np.exp(-found.logits[i])), maps.confidence, atol=1e-4)
        np.testing.assert_allclose(found.log_spread[i], log_spread(maps), atol=1e-3)


@pytest.mark.parametrize(
    ("rule", "enlargement", "shift"),
    [(LSP_RULE, 1 / 0.76, 0.0), (MPII_RULE, 1.25, 0.075), (IMAGE_RULE, 1.0, 0.0)],
    ids=["LSP", "MPII", "image"],
)
def test_a_person_is_cropped_by_the_rule_of_the_checkpoint(rule, enlargement, shift):
    metadata = small_estimator.METADATA._replace(crop=rule)
    estimator = PoseEstimator(small_estimator.variables(), metadata)
    for example in people(3).source:
        corner, extent = box_of(example)
        crop = calibrate.true_crop(estimator, example)
        expected = corner + extent / 2 + (0, shift * max(extent))
        np.testing.assert_allclose(crop.center, expected, atol=1e-4)
        np.testing.assert_allclose(crop.side, enlargement * max(extent), atol=1e-4)
        if rule == LSP_RULE:  # of the networks that are calibrated on the joints' box
            ours, theirs = np.hstack(crop), np.hstack(example_crop(example, LSP_RULE))
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_too_few_images_are_refused():
    with pytest.raises(JaxposeError, match="has 3 images of objects with labels and the head size"):
        calibrate.gather(small_estimator.estimator(), people(3), HEAD)


def test_a_network_of_boxes_is_calibrated_in_the_true_boxes():
    metadata = small_estimator.METADATA._replace(crop=BOX_RULE)
    estimator = PoseEstimator(small_estimator.variables(), metadata)
    example = {**people(1).source[0], "box": np.array([10.0, 20.0, 30.0, 60.0], np.float32)}
    crop = calibrate.true_crop(estimator, example)
    np.testing.assert_allclose([*crop.center, crop.side], [25.0, 50.0, 75.0], atol=1e-4)


def test_the_unit_is_the_head_size_if_everyone_has_one_and_otherwise_the_box():
    split = people(3)
    assert calibrate.unit_of(split) == HEAD
    split.source[1]["head_size"] = 0.0
    assert calibrate.unit_of(split) == UNITS["box"]
    assert calibrate.unit_of(split, "upper_neck,right_wrist").normalizer[1] == "right_wrist"
    for name, says in [
        ("hat", "PCK has no unit 'hat'"),
        ("upper_neck,tail", "has no joint tail"),
    ]:
        with pytest.raises(JaxposeError, match=says):
            calibrate.unit_of(split, name)
    for example in split.source:
        example["head_size"] = 0.0
    with pytest.raises(JaxposeError, match="has no head sizes; choose another --unit"):
        calibrate.unit_of(split, "head")


@pytest.mark.parametrize(
    ("unit", "within"),
    [
        ("box", lambda example: 0.1 * np.hypot(*example["box"][2:])),
        (
            "upper_neck,right_ankle",
            lambda example: 0.2 * np.linalg.norm(example["keypoints"][1] - example["keypoints"][3]),
        ),
    ],
)
def test_a_joint_is_correct_within_the_threshold_of_the_unit(unit, within):
    """The threshold of the head size decides on the same positions."""
    split, estimator = people(24), small_estimator.estimator()
    for example in split.source:
        example["labeled"] = np.ones(4, bool)
    ours = calibrate.gather(estimator, split, unit_named(unit))
    for example in split.source:
        example["head_size"] = 2.0 * within(example)
    theirs = calibrate.gather(estimator, split, HEAD)
    np.testing.assert_array_equal(ours.correct, theirs.correct)
    assert 0 < ours.correct.sum() < ours.known.sum()


def test_a_person_without_a_label_of_the_networks_joints_takes_no_part():
    """It would count as one with no correct joint."""
    split = people(26)
    for example in split.source[3:5]:
        example["labeled"] = np.zeros(4, bool)
    found = calibrate.gather(small_estimator.estimator(), split, HEAD)
    assert len(found.correct) == 24 and found.known.any(axis=1).all()
    assert {"im0003.png", "im0004.png"}.isdisjoint(found.groups.tolist())


def test_the_report_has_the_statistics_of_both_columns(monkeypatch):
    """Against counts over pairs, gaps of bins and ranks."""
    rng = np.random.default_rng(0)
    shape = (60, 5)
    correct = rng.random(shape) < 0.6
    known = rng.random(shape) < 0.8
    correct &= known
    confidence = np.clip(0.3 + 0.4 * correct + rng.normal(0, 0.15, shape), 0.01, 0.99)
    logits = rng.normal(2.0, 1.0, shape)
    evidence = JointEvidence(logits, np.zeros(shape), correct, known, np.arange(60) // 2)
    monkeypatch.setattr(calibrate.calibration, "cross_validated", lambda _: confidence)
    monkeypatch.setattr(calibrate.probabilities, "interval", functools.partial(interval, draws=40))
    heading, *lines = calibrate.report(evidence, HEAD).splitlines()
    assert heading.startswith(f"60 persons in 30 images, {known.sum()} joints, ")
    assert f"{100 * correct.sum() / known.sum():.1f} % within 0.5 of the head size" in heading
    found = {}
    for line in lines:
        name, numbers = line.split(": ")
        found[name] = [float(number) for number in re.findall(r"-?[0-9.]+", numbers)]
    assert len(found) == 6
    for column, values in (("confidence", confidence), ("presence", 1 / (1 + np.exp(-logits)))):
        gaps = values[correct][:, None] - values[known & ~correct]
        order = np.argsort(values[known])
        bins = np.array_split(values[known][order] - correct[known][order], 10)
        expected = {
            "area under the ROC curve": (gaps > 0).mean(),
            "expected calibration error": sum(abs(b.sum()) for b in bins) / known.sum(),
            "rank correlation of the person score and the fraction of correct joints": np.corrcoef(
                rankdata(values.mean(axis=1)), rankdata(correct.sum(axis=1) / known.sum(axis=1))
            )[0, 1],
        }
        for name, value in expected.items():
            shown, low, high = found[f"{name}, {column}"]
            assert shown == pytest.approx(value, abs=6e-4)
            assert low < shown < high + 0.1 and low < high


def test_a_data_set_of_other_joints_is_refused():
    with pytest.raises(JaxposeError, match="people:train has no joint in common with the network"):
        calibrate.gather(
            small_estimator.estimator(), people(24)._replace(joints=tuple("abcd")), HEAD
        )


def test_the_command_writes_the_checkpoint_with_its_calibration(monkeypatch, tmp_path, capsys):
    split = people(24)
    monkeypatch.setattr(calibrate.prepared, "open_split", lambda *_, **__: split)
    monkeypatch.setattr(calibrate.calibration, "FOLDS", 2)
    plain = packed.pack(small_estimator.variables(), small_estimator.METADATA, tmp_path / "a.npz")
    assert cli.main(["calibrate", str(plain), str(tmp_path / "b.npz")]) == 0
    output = capsys.readouterr().out
    assert "24 persons in 24 images, 72 joints" in output
    for line in ("area under the ROC curve, confidence", "calibration error, presence"):
        assert line in output
    variables, metadata, _ = store.load(tmp_path / "b.npz")
    evidence = calibrate.gather(PoseEstimator.from_checkpoint(plain), split, HEAD)
    assert metadata.calibration == calibrate.calibration.fit_calibration(evidence)
    assert metadata._replace(calibration=None) == small_estimator.METADATA
    for ours, theirs in zip(
        jax.tree.leaves(variables), jax.tree.leaves(store.load(plain)[0]), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["b.npz", "--data", "mpii"], "has no split"),
        (["b.npz", "--unit", "hat"], "PCK has no unit 'hat'"),
        (["b"], "the name of a packed checkpoint must end in .npz, not b"),
        (["nowhere/b.npz"], "no folder nowhere; create it first"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(
    monkeypatch, tmp_path, capsys, arguments, says
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(calibrate.store, "load_network", None)
    assert cli.main(["calibrate", "small", *arguments]) == 1
    assert says in capsys.readouterr().err
