"""MPII's builder on dummy data that `python -m tfds_builders.draw_dummy_data` drew."""

import pathlib

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.support.tfds_test_case import tfds_test_case
from tfds_builders import draw_dummy_data
from tfds_builders.errors import BuildError
from tfds_builders.joints import MPII
from tfds_builders.mpii import mpii_dataset_builder

DUMMY_DATA = pathlib.Path(mpii_dataset_builder.__file__).parent / "dummy_data"
CONFIGS = ("full", "crops")
SPLITS = {"train": 2, "validation": 1, "test": 2}


def build(data_dir, config="full", sources=(DUMMY_DATA,), **options):
    builder = mpii_dataset_builder.Builder(
        config=config, data_dir=data_dir, sources=sources, **options
    )
    builder.download_and_prepare(file_format="array_record")
    return builder


def examples(builder):
    return {split: list(builder.as_data_source(split)) for split in builder.info.splits}


def write_release(folder, images, photos):
    (folder / "images").mkdir(parents=True)
    for name, image in photos.items():
        (folder / "images" / name).write_bytes(draw_dummy_data.jpeg(image))
    annotations = draw_dummy_data.mat(draw_dummy_data.mpii_release(images))
    (folder / "mpii_human_pose_v1_u12_1.mat").write_bytes(annotations)
    return folder


def release_pixels(example):
    return example["origin"] + example["keypoints"] / example["zoom"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return {config: examples(build(tmp_path_factory.mktemp(config), config)) for config in CONFIGS}


@pytest.mark.parametrize("config", CONFIGS)
def test_splits_hold_their_persons(prepared, config):
    who = {
        split: [(example["image_name"].decode(), int(example["person"])) for example in found]
        for split, found in prepared[config].items()
    }
    assert who == {
        "train": [("100000001.jpg", 0), ("100000001.jpg", 1)],
        "validation": [("000040154.jpg", 0)],
        "test": [("200000001.jpg", 0), ("200000001.jpg", 1)],
    }


def test_persons_of_validation_images_that_it_does_not_name_are_in_no_split(tmp_path):
    builder = build(tmp_path)
    (who,) = builder.report.left_out.values()
    assert who == ["000040154.jpg person 1"]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_joint_lies_on_its_dot(prepared, config):
    for example in prepared[config]["train"] + prepared[config]["validation"]:
        assert example["labeled"].all()
        for joint, position in enumerate(example["keypoints"]):
            assert draw_dummy_data.shows(example["image"], joint, 16, position), joint


def test_both_configs_name_the_same_release_pixels(prepared):
    for full, crop in zip(prepared["full"]["train"], prepared["crops"]["train"], strict=True):
        assert np.allclose(release_pixels(full), release_pixels(crop), atol=1e-3)


@pytest.mark.parametrize("config", CONFIGS)
def test_test_persons_have_no_joints(prepared, config):
    for example in prepared[config]["test"]:
        assert not example["labeled"].any() and not example["keypoints"].any()


def test_center_scale_box_and_head_follow_the_release(prepared):
    points = draw_dummy_data.figure(MPII, 4, 8, 80)
    example = prepared["full"]["train"][0]
    height = np.ptp(points[:, 1])
    middle = np.rint((points.min(axis=0) + points.max(axis=0)) / 2 + 1) - 0.5
    assert example["scale"] == pytest.approx(height)
    assert example["center"].tolist() == middle.tolist()
    assert example["box"].tolist() == pytest.approx([*(middle - height / 2), height, height])
    assert example["head_size"] == pytest.approx(0.6 * np.hypot(12, 16))


def test_separated_persons_are_those_that_single_person_lists(prepared):
    assert [bool(e["separated"]) for e in prepared["full"]["train"]] == [True, True]
    assert [bool(e["separated"]) for e in prepared["full"]["test"]] == [False, False]


def test_annolist_index_is_the_images_place_in_the_release(prepared):
    assert [int(e["annolist_index"]) for e in prepared["full"]["test"]] == [2, 2]
    assert [int(e["annolist_index"]) for e in prepared["full"]["validation"]] == [1]


def test_the_metadata_list_every_image_of_the_test_part(tmp_path):
    points = draw_dummy_data.figure(MPII, 4, 8, 80)
    person = draw_dummy_data.mpii_person(points)
    head_alone = {"x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0}
    images = [
        ("1.jpg", True, [person], [1]),
        ("3.jpg", False, [], []),
        ("2.jpg", False, [head_alone, {"objpos": person["objpos"], "scale": 1.5}], [2]),
        ("absent.jpg", False, [{"objpos": person["objpos"], "scale": 1.5}], [1]),
    ]
    image = draw_dummy_data.draw_image(100, 100, [points])
    source = write_release(tmp_path / "a", images, {"1.jpg": image, "2.jpg": image})
    builder = build(tmp_path / "data", sources=[source])
    again = tfds.builder_from_directory(builder.data_dir).info.metadata["test_images"]
    place = (np.rint((points.min(axis=0) + points.max(axis=0)) / 2 + 1) - 0.5).tolist()
    assert again == [["3.jpg", []], ["2.jpg", [None, place]], ["absent.jpg", [place]]]


def test_crops_are_square_and_nearly_black_outside_the_image(prepared):
    example = prepared["crops"]["train"][0]
    height, width = example["image"].shape[:2]
    assert height == width
    left = int(-example["origin"][0]) - 8  # JPEG blurs a block
    assert left > 0 and example["image"][:, :left].max() < 16


def test_a_large_person_is_stored_smaller_and_points_move_along(tmp_path):
    points = draw_dummy_data.figure(MPII, 300, 200, 2000)
    image = draw_dummy_data.draw_image(2400, 2600, [])
    for joint, (x, y) in enumerate(points):
        cv2.rectangle(
            image,
            (int(x) - 20, int(y) - 20),
            (int(x) + 20, int(y) + 20),
            draw_dummy_data.color(joint, 16).tolist(),
            -1,
        )
    person = draw_dummy_data.mpii_person(points)
    source = write_release(tmp_path / "a", [("1.jpg", True, [person], [1])], {"1.jpg": image})
    (example,) = build(tmp_path / "data", "crops", [source]).as_data_source("train")
    assert example["zoom"] < 0.25
    assert np.allclose(release_pixels(example), points + 0.5, atol=0.01)
    for joint, (x, y) in enumerate(example["keypoints"]):
        near = np.abs(example["image"].astype(int) - draw_dummy_data.color(joint, 16)).max(axis=2)
        rows, columns = np.nonzero(near < 60)
        here = (abs(rows - y) < 12) & (abs(columns - x) < 12)
        if joint not in (6, 7, 8):  # others' squares overlap these
            dot = columns[here].mean() + 0.5, rows[here].mean() + 0.5
            assert np.allclose(dot, (x, y), atol=0.5), joint


def test_sources_add_up_and_the_first_one_wins(tmp_path):
    points = [draw_dummy_data.figure(MPII, left, 6, 80) for left in (4, 10)]
    people = [[draw_dummy_data.mpii_person(p)] for p in points]
    images = [draw_dummy_data.draw_image(100, 100, [p]) for p in points]
    first = write_release(tmp_path / "a", [("1.jpg", True, people[0], [1])], {"1.jpg": images[0]})
    second = write_release(
        tmp_path / "b",
        [("1.jpg", True, people[1], [1]), ("2.jpg", True, people[1], [1])],
        {"1.jpg": images[1], "2.jpg": images[1]},
    )
    one, two = build(tmp_path / "data", sources=[first, second]).as_data_source("train")
    assert np.array_equal(one["keypoints"], points[0] + 0.5)
    assert np.array_equal(two["keypoints"], points[1] + 0.5)


def test_two_parts_of_the_images_make_a_whole(tmp_path):
    points = draw_dummy_data.figure(MPII, 4, 6, 80)
    people = [draw_dummy_data.mpii_person(points)]
    release = [(f"{number}.jpg", True, people, [1]) for number in (1, 2, 3, 4)]
    image = draw_dummy_data.draw_image(100, 100, [points])
    sources = [
        write_release(tmp_path / folder, release, dict.fromkeys(names, image))
        for folder, names in (("a", ["1.jpg"]), ("b", ["1.jpg", "2.jpg", "3.jpg"]))
    ]
    builder = build(tmp_path / "data", sources=sources)
    found = sorted(example["image_name"] for example in builder.as_data_source("train"))
    assert found == [b"1.jpg", b"2.jpg", b"3.jpg"]
    assert builder.report.missing == ["4.jpg (train)"]


def test_a_folder_of_two_releases_gives_each_its_own_images(tmp_path):
    points = [draw_dummy_data.figure(MPII, left, 6, 80) for left in (4, 10)]
    for folder, p in zip(("a", "b"), points, strict=True):
        write_release(
            tmp_path / "both" / folder,
            [(f"{folder}.jpg", True, [draw_dummy_data.mpii_person(p)], [1])],
            {name: draw_dummy_data.draw_image(100, 100, [p]) for name in ("a.jpg", "b.jpg")},
        )
    for example in build(tmp_path / "data", sources=[tmp_path / "both"]).as_data_source("train"):
        assert draw_dummy_data.shows(example["image"], 0, 16, example["keypoints"][0])


@pytest.mark.parametrize("strict", [False, True])
def test_a_damaged_person_is_left_out_and_named_or_ends_a_strict_build(tmp_path, strict):
    points = draw_dummy_data.figure(MPII, 4, 8, 80)
    people = [draw_dummy_data.mpii_person(points), draw_dummy_data.mpii_person(points, scale="2")]
    images = {"1.jpg": draw_dummy_data.draw_image(100, 100, [points])}
    source = write_release(tmp_path / "a", [("1.jpg", True, people, [1])], images)
    if strict:
        with pytest.raises(BuildError, match=r"1\.jpg person 1 .* scale is a text, not a number"):
            build(tmp_path / "data", sources=[source], strict=True)
    else:
        builder = build(tmp_path / "data", sources=[source])
        reason = "scale is a text, not a number"
        assert builder.report.left_out == {("person", reason): ["1.jpg person 1"]}
        assert len(builder.as_data_source("train")) == 1


def test_the_list_of_validation_persons_is_whole():
    persons = mpii_dataset_builder.validation_persons()
    assert len(persons) == 2729
    assert sum(len(numbers) for numbers in persons.values()) == 2958


TestTfds = tfds_test_case(mpii_dataset_builder.Builder, SPLITS)
