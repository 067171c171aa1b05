"""What views of a person agree on corrects the labels, in a file that lspet/corrected applies."""

import numpy as np
import pytest

from jaxpose.checkpoints.packed import pack
from jaxpose.errors import JaxposeError
from jaxpose.geometry import Crop
from tests.support import small_estimator
from tests.support.drawn_people import split_of
from tfds_builders.lspet.lspet_dataset_builder import read_corrections
from tools.correct_labels import Teacher, Views, decide, write

SIDE = 100.0  # RADIUS is 5 pixels, CONTRADICTION 10
TRUTH = np.array([[50.0, 50.0]])


def views_of(*points, presence=0.9):
    """Views of one joint at these positions."""
    keypoints = np.array(points, float)[:, None]
    return Views(keypoints, np.full(keypoints.shape[:2], presence))


AGREEING = views_of(*[(50 + d, 50) for d in (-3, -1, 0, 1, 3)])
SCATTERED = views_of((10, 10), (90, 10), (10, 90), (90, 90), (50, 50))


@pytest.mark.parametrize(
    ("label", "views", "expected"),
    [
        ((55, 50), AGREEING, None),  # near what the views agree on
        ((80, 50), AGREEING, "moved"),
        (None, AGREEING, "filled"),
        (None, views_of(*AGREEING.keypoints[:, 0], presence=0.4), None),  # not in the image
        (None, SCATTERED, None),
        ((30, 50), SCATTERED, "dropped"),  # no view is near it
        ((12, 12), views_of((10, 10), (12, 14), (90, 90), (90, 10)), None),  # half of them are
    ],
)
def test_a_label_stays_moves_appears_or_goes(label, views, expected):
    keypoints = np.array([label or (0, 0)], float)
    changes = decide(keypoints, np.array([label is not None]), views, SIDE)
    assert [reason for _, reason, _ in changes] == ([expected] if expected else [])
    for joint, reason, position in changes:
        assert joint == 0
        if reason == "dropped":
            assert position is None
        else:
            np.testing.assert_allclose(position, TRUTH[0])


def test_the_unit_is_the_side_of_the_persons_crop():
    label = np.array([[65.0, 50.0]])
    reasons = [
        [reason for _, reason, _ in decide(label, np.array([True]), AGREEING, side)]
        for side in (100.0, 200.0)
    ]
    assert reasons == [["moved"], []]


def test_the_second_view_of_a_crop_is_the_first_of_its_mirror_image(tmp_path):
    """In the image's pixels, with left and right exchanged."""
    path = pack(small_estimator.variables(), small_estimator.METADATA, tmp_path / "small.npz")
    split = split_of(1)._replace(joints=("right_wrist", "left_wrist", "head_top"))
    teacher = Teacher(str(path), split, which="best", dtype="float32")
    size = small_estimator.SIZE
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    crops = [Crop((30.0, 50.0), 20.0), Crop((70.0, 40.0), 60.0, rotation=30.0)]
    views = teacher(images, crops)
    mirrored = teacher(images[:, :, ::-1], [crop._replace(flip=True) for crop in crops])
    np.testing.assert_allclose(views.keypoints[1], mirrored.keypoints[0][:, [1, 0, 2]], rtol=1e-4)
    np.testing.assert_allclose(views.presence[1], mirrored.presence[0][:, [1, 0, 2]], rtol=1e-4)
    assert np.abs(views.keypoints[1] - views.keypoints[0]).max() > 0.1


def test_joints_that_the_network_does_not_know_are_left_alone(tmp_path):
    metadata = small_estimator.METADATA._replace(trained_joints=("head_top", "thorax"))
    path = pack(small_estimator.variables(), metadata, tmp_path / "small.npz")
    split = split_of(1)._replace(joints=("nose", "right_wrist", "head_top"))
    teacher = Teacher(str(path), split, which="best", dtype="float32")
    assert teacher.known.tolist() == [False, False, True]
    with pytest.raises(JaxposeError, match="trained on none of the joints"):
        Teacher(str(path), split._replace(joints=("nose",)), which="best", dtype="float32")


def test_a_written_file_is_read_as_it_was_meant(tmp_path):
    rows = [
        ("im00003.jpg", 0, np.array([1.0, 2.0]), np.array([3.04, 4.0]), "moved"),
        ("im00003.jpg", 1, None, np.array([5.0, 6.0]), "filled"),
        ("im00017.jpg", 13, np.array([7.0, 8.0]), None, "dropped"),
    ]
    joints = tuple(
        "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow "
        "right_shoulder left_shoulder left_elbow left_wrist neck head_top".split()
    )
    counts = write(tmp_path / "corrections.tsv", joints, rows)
    assert counts == {"moved": 1, "filled": 1, "dropped": 1}
    assert read_corrections(tmp_path / "corrections.tsv") == [
        (3, 0, (1.0, 2.0), (3.0, 4.0), "moved"),
        (3, 1, None, (5.0, 6.0), "filled"),
        (17, 13, (7.0, 8.0), None, "dropped"),
    ]


def test_only_corrections_with_the_chosen_reasons_are_written(tmp_path):
    rows = [
        ("im00003.jpg", 0, None, np.zeros(2), "filled"),
        ("im00003.jpg", 1, np.ones(2), None, "dropped"),
    ]
    counts = write(tmp_path / "corrections.tsv", ("head_top", "neck"), rows, reasons=("filled",))
    assert counts == {"filled": 1}
    assert len(read_corrections(tmp_path / "corrections.tsv")) == 1


def test_an_interrupted_run_leaves_the_previous_file(tmp_path):
    def interrupted():
        yield ("im00003.jpg", 0, None, np.zeros(2), "filled")
        raise KeyboardInterrupt

    path = tmp_path / "corrections.tsv"
    path.write_text("as before")
    with pytest.raises(KeyboardInterrupt):
        write(path, ("head_top", "neck"), interrupted())
    assert path.read_text() == "as before" and list(tmp_path.iterdir()) == [path]
