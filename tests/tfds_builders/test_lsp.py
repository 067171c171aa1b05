"""LSP's builder on dummy data that `python -m tfds_builders.draw_dummy_data` drew."""

import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.support.tfds_test_case import tfds_test_case
from tfds_builders import draw_dummy_data
from tfds_builders.errors import BuildError
from tfds_builders.lsp import lsp_dataset_builder

DUMMY_DATA = pathlib.Path(lsp_dataset_builder.__file__).parent / "dummy_data"
CONFIGS = ("person_centric", "observer_centric")
SPLITS = {"train": 2, "validation": 1, "test": 1}
KNEES = [1, 4]


def build(data_dir, config="person_centric", source=DUMMY_DATA, **options):
    builder = lsp_dataset_builder.Builder(
        config=config, data_dir=data_dir, sources=[source], **options
    )
    builder.download_and_prepare(file_format="array_record")
    return builder


def examples(builder):
    return {split: list(builder.as_data_source(split)) for split in builder.info.splits}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return {config: examples(build(tmp_path_factory.mktemp(config), config)) for config in CONFIGS}


def write_release(folder, xy, numbers):
    joints = np.zeros((3, 14, max(numbers)))
    for number in numbers:
        joints[:2, :, number - 1] = xy.T
    draw_dummy_data.write_leeds(folder, 4, numbers, joints)


@pytest.mark.parametrize("config", CONFIGS)
def test_splits_hold_the_images_of_their_numbers(prepared, config):
    names = {
        split: [example["image_name"].decode() for example in found]
        for split, found in prepared[config].items()
    }
    assert names == {
        "train": ["im0001.jpg", "im0002.jpg"],
        "validation": ["im0020.jpg"],
        "test": ["im1001.jpg"],
    }


def test_of_the_whole_release_950_train_50_validate_1000_test():
    splits = [lsp_dataset_builder.split_of(number) for number in range(1, 2001)]
    assert [splits.count(name) for name in SPLITS] == [950, 50, 1000]


def test_every_joint_lies_on_its_dot(prepared):
    for example in prepared["person_centric"]["train"]:
        for joint, position in enumerate(example["keypoints"]):
            assert draw_dummy_data.shows(example["image"], joint, 14, position), joint


def test_positions_are_centers_of_pixels(prepared):
    keypoints = prepared["person_centric"]["train"][0]["keypoints"]
    assert np.array_equal(keypoints - np.floor(keypoints), np.full((14, 2), 0.5))


def test_a_flag_of_one_means_occluded(prepared):
    _, second = prepared["person_centric"]["train"]
    assert second["labeled"].all()
    assert np.flatnonzero(~second["visible"]).tolist() == [1]


def test_observer_centric_exchanges_labels_and_keeps_places(prepared):
    person, observer = (prepared[config]["train"][0]["keypoints"] for config in CONFIGS)
    assert np.array_equal(observer[KNEES], person[KNEES[::-1]])
    assert np.array_equal(observer[6:], person[6:])


def test_box_center_and_scale_are_the_images(prepared):
    example = prepared["person_centric"]["test"][0]
    height, width = example["image"].shape[:2]
    assert example["box"].tolist() == [0, 0, width, height]
    assert example["center"].tolist() == [width / 2, height / 2]
    assert example["scale"] == max(width, height)


def test_the_sources_own_bytes_are_kept(tmp_path):
    builder = build(tmp_path)
    encoded = {"image": tfds.decode.SkipDecoding()}
    stored = builder.as_data_source("train", decoders=encoded)[0]["image"]
    assert stored == (DUMMY_DATA / "images/im0001.jpg").read_bytes()


def test_original_size_is_one_based(tmp_path):
    xy = draw_dummy_data.figure(draw_dummy_data.LSP, 40, 30, 260)
    numbers = (1, 20, 1001)
    (tmp_path / "release/images").mkdir(parents=True)
    joints = np.zeros((3, 14, max(numbers)))
    for number in numbers:
        joints[:2, :, number - 1] = xy.T + 1
        image = draw_dummy_data.draw_image(340, 300, [xy])
        path = tmp_path / f"release/images/im{number:04d}.jpg"
        path.write_bytes(draw_dummy_data.jpeg(image))
    (tmp_path / "release/joints.mat").write_bytes(draw_dummy_data.mat({"joints": joints}))
    builder = build(tmp_path / "data", source=tmp_path / "release")
    example = builder.as_data_source("train")[0]
    assert np.array_equal(example["keypoints"], xy + 0.5)
    assert builder.info.metadata["release"] == lsp_dataset_builder.ORIGINAL


def test_joints_of_the_other_size_are_refused(tmp_path):
    write_release(tmp_path / "release", np.full((14, 2), 300.0), (1, 20, 1001))
    with pytest.raises(BuildError, match="same release"):
        build(tmp_path / "data", source=tmp_path / "release")


def test_observer_centric_joints_of_other_images_are_refused(tmp_path):
    draw_dummy_data.draw_lsp(tmp_path / "release")
    joints = np.zeros((3, 14, 1001))
    (tmp_path / "release/lsp-joints-OC.mat").write_bytes(draw_dummy_data.mat({"joints": joints}))
    with pytest.raises(BuildError, match="does not contain the same points"):
        build(tmp_path / "data", "observer_centric", tmp_path / "release")


def test_metadata_name_the_joints(tmp_path):
    metadata = build(tmp_path).info.metadata
    assert metadata["joint_names"][:2] == ["right_ankle", "right_knee"]
    assert metadata["joint_names"][12:] == ["neck", "head_top"]
    assert metadata["annotated"] == [True] * 14


TestTfds = tfds_test_case(lsp_dataset_builder.Builder, SPLITS)
