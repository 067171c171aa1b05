"""The file for MPII's server, read as the release's own evaluation reads it."""

import numpy as np
import pytest
import scipy.io

from jaxpose.errors import JaxposeError
from jaxpose.evaluation import mpii_submission
from jaxpose.evaluation.labeled_predictions import LabeledPredictions
from jaxpose.skeleton import AUTHORS, MPII
from tests.support.truth import annotations_of

# The release's test part: an image without persons, one with a rectangle that has no position.
IMAGES = (
    ("b.jpg", []),
    ("a.jpg", [[10.5, 20.5], None, [30.5, 40.5]]),
    ("c.jpg", [[50.5, 60.5]]),
)
WHO = annotations_of(
    np.zeros((2, 16, 2)),
    np.zeros((2, 16), bool),
    image_name=np.array(["a.jpg", "a.jpg"]),
    person=np.array([2, 0]),
)


def predictions(joints=MPII.joints):
    points = np.random.default_rng(0).uniform(0, 500, (2, len(joints), 2))
    nobody = np.zeros((2, len(joints)), bool)
    return LabeledPredictions(points, np.zeros_like(points), nobody, MPII.joints, tuple(joints))


def written(tmp_path, found, images=IMAGES):
    path = tmp_path / mpii_submission.NAME
    mpii_submission.write(path, images, WHO, found)
    return scipy.io.loadmat(path)["pred"]


def poses(pred):
    """By (image, rectangle) of those with an objpos, as flatten_annolist.m counts them: [16, 2]."""
    found = {}
    for image in pred[0]:
        name, rectangles = image["image"][0, 0]["name"][0], image["annorect"]
        for number, rectangle in enumerate(rectangles[0] if rectangles.size else []):
            if rectangle["objpos"].size == 0:
                continue
            points = np.full((16, 2), np.nan)
            if rectangle["annopoints"].size:
                for point in rectangle["annopoints"][0, 0]["point"][0]:
                    points[int(point["id"][0, 0])] = point["x"][0, 0], point["y"][0, 0]
            found[name, number] = points
    return found


def test_every_test_image_has_its_place_in_the_releases_order(tmp_path):
    pred = written(tmp_path, predictions())
    assert pred.shape == (1, 3)
    assert [image["image"][0, 0]["name"][0] for image in pred[0]] == ["b.jpg", "a.jpg", "c.jpg"]
    assert list(poses(pred)) == [("a.jpg", 0), ("a.jpg", 2), ("c.jpg", 0)]


def test_joints_are_one_based_pixels_under_their_number_from_0(tmp_path):
    given = predictions()
    found = poses(written(tmp_path, given))
    np.testing.assert_allclose(found["a.jpg", 2], given.prediction[0] + 0.5)
    np.testing.assert_allclose(found["a.jpg", 0], given.prediction[1] + 0.5)
    assert np.isnan(found["c.jpg", 0]).all()  # not answered, and still counted


def test_positions_are_the_releases(tmp_path):
    objpos = written(tmp_path, predictions())[0, 1]["annorect"][0, 0]["objpos"][0, 0]
    assert (objpos["x"][0, 0], objpos["y"][0, 0]) == (11, 21)


def test_joints_go_by_name(tmp_path):
    ours = predictions()
    order = [MPII.joints.index(name) for name in AUTHORS.joints]
    theirs = ours._replace(prediction=ours.prediction[:, order], prediction_joints=AUTHORS.joints)
    found, expected = poses(written(tmp_path, theirs)), poses(written(tmp_path, ours))
    assert list(found) == list(expected) and len(found) == 3
    for name, points in found.items():
        np.testing.assert_array_equal(points, expected[name])


def test_joints_that_mpii_lacks_are_left_out(tmp_path):
    found = poses(written(tmp_path, predictions(("nose", "head_top"))))
    assert np.flatnonzero(np.isfinite(found["a.jpg", 0]).all(axis=1)).tolist() == [9]


def test_a_person_of_no_test_image_is_told(tmp_path):
    with pytest.raises(JaxposeError, match=r"a\.jpg person 2 is not in .*; prepare the data set"):
        written(tmp_path, predictions(), images=IMAGES[:1])
