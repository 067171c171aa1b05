"""What `jaxpose calibrate` gathers from a split, prints and writes."""

import jax
import numpy as np
import pytest

from jaxpose import cli
from jaxpose.checkpoints import packed, store
from jaxpose.data.images import decode
from jaxpose.errors import JaxposeError
from jaxpose.geometry import LSP_RULE, example_crop
from jaxpose.predict import PoseEstimator, calibrate
from tests.support import small_estimator
from tests.support.drawn_people import split_of

JOINTS = ("right_wrist", "upper_neck", "left_wrist", "right_ankle")


def people(count):
    """Drawn people under names that the network knows, with a head size of 20 pixels."""
    split = split_of(count)
    source = [{**example, "head_size": 20.0} for example in split.source]
    return split._replace(source=source, joints=JOINTS)


def test_a_joint_is_right_within_half_a_head_size_of_the_truth():
    split, estimator = people(24), small_estimator.estimator()
    found = calibrate.gather(estimator, split)
    assert (
        found.known.sum() == 3 * 24 and not found.known[:, estimator.joints.index("pelvis")].any()
    )
    assert 0 < found.right.sum() < found.known.sum()
    for i in (0, 5, 23):
        example = split.source[i]
        crop = example_crop(example, LSP_RULE)
        image, _ = decode(example["image"])
        maps = estimator.maps(image, crop)
        points = np.subtract(crop.center, crop.side / 2) + crop.side * maps.keypoints
        for joint, name in enumerate(JOINTS):
            place = estimator.joints.index(name)
            distance = np.linalg.norm(points[place] - example["keypoints"][joint])
            expected = example["labeled"][joint] and distance <= 10.0
            assert found.right[i, place] == expected
        np.testing.assert_allclose(1 / (1 + np.exp(-found.logits[i])), maps.confidence, atol=1e-4)


def test_too_few_images_are_refused():
    with pytest.raises(JaxposeError, match="has 3 images with a head size"):
        calibrate.gather(small_estimator.estimator(), people(3))


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
    evidence = calibrate.gather(PoseEstimator.from_checkpoint(plain), split)
    assert metadata.calibration == calibrate.calibration.fit_calibration(evidence)
    assert metadata._replace(calibration=None) == small_estimator.METADATA
    for ours, theirs in zip(
        jax.tree.leaves(variables), jax.tree.leaves(store.load(plain)[0]), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert cli.main(["calibrate", str(plain), str(tmp_path / "b.npz"), "--data", "mpii"]) == 1
    assert "names no split" in capsys.readouterr().err
