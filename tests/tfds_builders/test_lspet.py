"""LSPET's builder on dummy data that `python -m tfds_builders.draw_dummy_data` drew."""

import pathlib

import numpy as np
import pytest

from tests.support.tfds_test_case import tfds_test_case
from tfds_builders import draw_dummy_data
from tfds_builders.__main__ import main
from tfds_builders.errors import BuildError
from tfds_builders.lspet import lspet_dataset_builder

DUMMY_DATA = pathlib.Path(lspet_dataset_builder.__file__).parent / "dummy_data"
SPLITS = {"train": 2, "validation": 1}


def build(data_dir, source=DUMMY_DATA, **options):
    builder = lspet_dataset_builder.Builder(data_dir=data_dir, sources=[source], **options)
    builder.download_and_prepare(file_format="array_record")
    return builder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    builder = build(tmp_path_factory.mktemp("lspet"))
    return {split: list(builder.as_data_source(split)) for split in builder.info.splits}


def test_splits_hold_the_images_of_their_numbers(prepared):
    names = {split: [e["image_name"].decode() for e in found] for split, found in prepared.items()}
    assert names == {"train": ["im00001.jpg", "im00002.jpg"], "validation": ["im00020.jpg"]}


def test_of_the_whole_release_9500_train_500_validate():
    splits = [lspet_dataset_builder.split_of(number) for number in range(1, 10001)]
    assert [splits.count(name) for name in SPLITS] == [9500, 500]


def test_every_labeled_joint_lies_on_its_dot(prepared):
    for example in prepared["train"]:
        for joint in np.flatnonzero(example["labeled"]):
            position = example["keypoints"][joint]
            assert draw_dummy_data.shows(example["image"], joint, 14, position), joint


def test_a_flag_of_zero_means_not_labeled_and_its_corner_is_dropped(prepared):
    _, second = prepared["train"]
    assert np.flatnonzero(~second["labeled"]).tolist() == [6]
    assert second["keypoints"][6].tolist() == [0, 0]


def test_labeled_joints_count_as_visible(prepared):
    for example in prepared["train"] + prepared["validation"]:
        assert np.array_equal(example["visible"], example["labeled"])


def test_joints_of_other_images_are_refused(tmp_path):
    joints = np.full((14, 3, 20), 500.0)
    joints[:, 2] = 1
    draw_dummy_data.write_leeds(tmp_path / "release", 5, (1, 2, 20), joints)
    with pytest.raises(BuildError, match="in 3 of 3 images, .* far outside the images"):
        build(tmp_path / "data", tmp_path / "release")


HEADER = "image\tjoint\told_x\told_y\tnew_x\tnew_y\treason\n"


def test_corrections_change_training_labels_and_nothing_else(tmp_path, prepared):
    file = tmp_path / "corrections.tsv"
    ankle, head = prepared["train"][0]["keypoints"][0], prepared["train"][1]["keypoints"][13]
    file.write_text(
        HEADER
        + f"im00001.jpg\tright_ankle\t{ankle[0]:.1f}\t{ankle[1]:.1f}\t33.5\t44.5\tmoved\n"
        + "im00002.jpg\tright_wrist\t\t\t12.5\t13.5\tfilled\n"
        + f"im00002.jpg\thead_top\t{head[0]:.1f}\t{head[1]:.1f}\t\t\tdropped\n"
    )
    config = lspet_dataset_builder.CORRECTED
    builder = build(tmp_path / "data", config=config, corrections=str(file))
    first, second = builder.as_data_source("train")
    before_first, before_second = prepared["train"]
    np.testing.assert_array_equal(first["keypoints"][0], [33.5, 44.5])
    np.testing.assert_array_equal(first["keypoints"][1:], before_first["keypoints"][1:])
    np.testing.assert_array_equal(second["keypoints"][6], [12.5, 13.5])
    assert second["labeled"][6] and not before_second["labeled"][6]
    assert not second["labeled"][13] and before_second["labeled"][13]
    (validation,) = builder.as_data_source("validation")
    np.testing.assert_array_equal(validation["keypoints"], prepared["validation"][0]["keypoints"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("im00020.jpg\thead_top\t\t\t1\t2\tfilled\n", "im00020.jpg, which is not a training image"),
        (
            "im00001.jpg\thead_top\t1\t2\t3\t4\tmoved\n",
            "other labels: its old position of head_top in im00001.jpg differs from the label",
        ),
        ("im-0005.jpg\thead_top\t\t\t1\t2\tfilled\n", "not a training image"),
        ("im00001.jpg\thead_top\t1\t2\tnan\t4\tmoved\n", "was not written by"),
        ("im00001.jpg\ttail\t\t\t1\t2\tfilled\n", "was not written by tools.correct_labels"),
        ("im00001.jpg\n", "was not written by tools.correct_labels"),
        (None, "cannot be read"),
    ],
)
def test_corrections_of_another_form_are_refused(tmp_path, line, says):
    file = tmp_path / "corrections.tsv"
    if line is not None:
        file.write_text(HEADER + line)
    config = lspet_dataset_builder.CORRECTED
    with pytest.raises(BuildError, match=says):
        build(tmp_path / "data", config=config, corrections=str(file))


def test_the_shipped_corrections_are_of_training_images_once_per_joint():
    rows = lspet_dataset_builder.read_corrections(lspet_dataset_builder.CORRECTIONS)
    assert {lspet_dataset_builder.split_of(number) for number, *_ in rows} == {"train"}
    assert all(1 <= number <= 10_000 for number, *_ in rows)
    assert {reason for *_, reason in rows} == {"moved", "filled"}
    assert len({(number, joint) for number, joint, *_ in rows}) == len(rows)


def test_the_shipped_corrections_are_the_default(tmp_path):
    config = lspet_dataset_builder.CORRECTED
    with pytest.raises(BuildError, match="corrections.tsv was made for other labels"):
        build(tmp_path / "data", config=config)  # of a release with 20 images


def test_corrections_for_the_released_labels_are_refused(capsys, tmp_path):
    command = ["lspet", "--source", str(DUMMY_DATA), "--data_dir", str(tmp_path)]
    assert main([*command, "--corrections", "missing.tsv"]) == 1
    assert "--corrections is only for lspet/corrected" in capsys.readouterr().err


TestTfds = tfds_test_case(lspet_dataset_builder.Builder, SPLITS)
