"""Synthetic people: the prepared data set, the drawing and the labels that come out of it."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_builders import joints
from tfds_builders.synthetic_people import (
    anatomy,
    body,
    canvas,
    people,
    poses,
    records,
    scene,
    synthetic_people_dataset_builder,
    wardrobe,
)

SPLITS = {"train": 48, "validation": 16, "test": 16}
RED, BLUE = (255, 0, 0), (0, 0, 255)
NOON = canvas.Light(np.array([0.0, -0.6, -0.8]), 0.4)


README = pathlib.Path(scene.__file__).with_name("README.md").read_text()


def joint(name):
    return joints.MPII.joints.index(name)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    builder = synthetic_people_dataset_builder.Builder(
        config="tiny", data_dir=tmp_path_factory.mktemp("people")
    )
    builder.download_and_prepare(file_format="array_record")
    return builder


@pytest.fixture(scope="module")
def held_out():
    return [scene.render(0, "test", index) for index in range(160)]


def standing(yaw, arms=0.0):
    """A person with straight limbs, the arms raised forward by `arms`, seen from `yaw` degrees."""
    rng = np.random.default_rng(3)
    pose = poses.Pose(
        spine=np.zeros(3),
        neck=np.zeros(3),
        arms=np.array([[arms, 25, 0, 0]] * 2),
        legs=np.array([[0.0, 8, 0, 0]] * 2),
        feet=np.zeros(2),
        tip=0.0,
        activity="stand",
    )
    size = body.sample_proportions(rng)
    figure = body.pose_body(pose, size, body.camera_rotation(yaw, 0.0, 0.0))
    outfit = wardrobe.sample_outfit(rng)._replace(skirt=None, backpack=None)
    return anatomy.Person(size, figure, outfit, body.Camera(160.0, (96.0, 100.0), 6.0))


def drawn(person, **options):
    on = canvas.new_canvas(np.full((192, 192, 3), 128, np.float32))
    people.draw_person(on, person, NOON, **options)
    return on


def test_splits_have_the_sizes_of_the_config(prepared):
    assert {name: split.num_examples for name, split in prepared.info.splits.items()} == SPLITS


def test_an_example_has_the_schema_of_all_builders(prepared):
    example = prepared.as_data_source("test")[3]
    assert example["image"].shape == (96, 96, 3) and example["image"].dtype == np.uint8
    assert example["image_name"] == b"test_000003.jpg"
    shapes = {
        "keypoints": (16, 2),
        "labeled": (16,),
        "visible": (16,),
        "box": (4,),
        "center": (2,),
    }
    assert {name: example[name].shape for name in shapes} == shapes
    assert example["person"] == 0 and example["separated"]


def test_metadata_names_joints_pairs_and_limbs(prepared):
    metadata = prepared.info.metadata
    assert tuple(metadata["joint_names"]) == joints.MPII.joints
    assert len(metadata["flip_pairs"]) == 6 and len(metadata["limbs"]) == 15
    assert metadata["annotated"] == [True] * 16


def test_images_are_jpeg_as_drawn(prepared):
    skip = {"image": tfds.decode.SkipDecoding()}
    stored = prepared.as_data_source("train", decoders=skip)[5]["image"]
    settings = {"size": 96, "difficulty": scene.Difficulty(), "quality": 90}
    assert stored == records.record(5, seed=0, split="train", **settings)["image"]


def test_no_image_is_in_two_splits(prepared):
    skip = {"image": tfds.decode.SkipDecoding()}
    stored = [
        example["image"]
        for split in SPLITS
        for example in prepared.as_data_source(split, decoders=skip)
    ]
    assert len(set(stored)) == sum(SPLITS.values())


def test_the_report_counts_hidden_joints_and_cut_off_persons(prepared):
    lines = "\n".join(prepared.report.lines())
    examples = list(prepared.as_data_source("test"))
    hidden = sum(int((example["labeled"] & ~example["visible"]).sum()) for example in examples)
    cut_off = sum(not example["labeled"].all() for example in examples)
    assert f"test: hidden joints: {hidden}" in lines
    assert f"test: persons cut off by the image's edge: {cut_off}" in lines


def test_an_image_depends_on_seed_split_and_index_alone():
    first = scene.render(1, "train", 7)
    scene.render(1, "train", 8)
    again = scene.render(1, "train", 7)
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one, other)
    for other in (
        scene.render(2, "train", 7),
        scene.render(1, "test", 7),
        scene.render(1, "train", 8),
    ):
        assert not np.array_equal(first.keypoints, other.keypoints)


def test_processes_draw_the_same_images_in_the_same_order():
    settings = {"seed": 0, "split": "train", "size": 64, "quality": 90}
    settings["difficulty"] = scene.Difficulty()
    alone = list(records.records(30, workers=0, **settings))
    together = list(records.records(30, workers=2, **settings))
    assert [record["image"] for record in alone] == [record["image"] for record in together]


@pytest.mark.parametrize("difficulty", [scene.Difficulty(), synthetic_people_dataset_builder.DEMO])
def test_enough_joints_are_hidden_and_enough_persons_cut_off(difficulty):
    examples = [scene.render(0, "test", index, difficulty=difficulty) for index in range(200)]
    labeled = np.array([example.labeled for example in examples])
    visible = np.array([example.visible for example in examples])
    assert 1 - visible[labeled].mean() >= 0.15
    assert (~labeled.all(1)).mean() >= 0.10


def test_labeled_means_inside_the_image_and_visible_means_labeled(held_out):
    for example in held_out:
        inside = ((example.keypoints >= 0) & (example.keypoints < 192)).all(1)
        assert inside[example.labeled].all()
        assert not example.keypoints[~example.labeled].any()
        assert not (example.visible & ~example.labeled).any()


def test_the_box_holds_the_visible_joints(held_out):
    for example in held_out:
        low, high = example.box[:2], example.box[:2] + example.box[2:]
        seen = example.keypoints[example.visible]
        assert (seen >= low).all() and (seen <= high).all()


def test_the_center_has_the_offset_and_the_noise_of_the_readme(held_out):
    words = r"(\d+) / (\d+) of `scale` above .*standard deviation of ([\d.]+) of `scale`"
    numerator, denominator, noise = re.search(words, re.sub(r"\s+", " ", README)).groups()
    middles = np.array([example.box[:2] + example.box[2:] / 2 for example in held_out])
    centers = np.array([example.center for example in held_out])
    scales = np.array([example.scale for example in held_out])
    offsets = (middles - centers) / scales[:, None]
    expected = (0, int(numerator) / int(denominator))
    assert offsets.mean(0) == pytest.approx(expected, abs=0.005)
    assert offsets.std(0) == pytest.approx((float(noise), float(noise)), rel=0.2)


def test_the_example_of_the_readme_runs_as_a_script(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    few = example.replace("train=500", "train=3, validation=0, test=1, size=32")
    assert few != example and 500 > records.MIN_PARALLEL_IMAGES
    as_with_many = (
        "from tfds_builders.synthetic_people import records\nrecords.MIN_PARALLEL_IMAGES = 2\n"
    )
    (tmp_path / "script.py").write_text(as_with_many + few)
    root = pathlib.Path(scene.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    builder = tfds.builder_from_directory(tmp_path / "data/synthetic_people/calm/1.0.0")
    assert builder.info.splits["train"].num_examples == 3


def test_people_are_seen_from_in_front_and_from_behind(held_out):
    x = np.array([example.keypoints[:, 0] for example in held_out if example.labeled.all()])
    in_front = (x[:, joint("left_shoulder")] > x[:, joint("right_shoulder")]).mean()
    assert 0.4 < in_front < 0.85


def test_difficulty_turns_every_hindrance_off():
    easy = scene.Difficulty(
        pose_variety=0.0, occluders=0.0, strangers=0.0, stray_limbs=0.0, cut_off=0.0
    )
    examples = [scene.render(0, "train", index, difficulty=easy) for index in range(40)]
    assert all(example.labeled.all() for example in examples)
    assert all(poses.ACTIVITIES[example.activity].level == 0 for example in examples)


def test_an_ellipsoid_lies_where_it_should():
    on = canvas.new_canvas(np.zeros((40, 40, 3), np.float32))
    white = np.full((1, 1, 3), 255, np.float32)
    light = canvas.Light(np.array([0.0, 0.0, -1.0]), 0.0)
    middle = np.array([17.3, 22.6])
    canvas.paint_ellipsoid(on, middle, np.eye(3), np.array([5.0, 5.0, 5.0]), white, light, owner=1)
    weight = on.image[..., 0]
    places = np.arange(40) + 0.5  # the centers of the pixels
    found = (weight.sum(0) @ places / weight.sum(), weight.sum(1) @ places / weight.sum())
    assert np.allclose(found, middle, atol=0.05)


def test_a_tube_reaches_from_its_first_end_to_its_second():
    on = canvas.new_canvas(np.zeros((40, 40, 3), np.float32))
    light = canvas.Light(np.array([0.0, 0.0, -1.0]), 0.0)
    texture = np.zeros((2, 4, 3), np.float32)
    texture[0], texture[1] = RED, BLUE
    ends = np.array([[10.0, 12.0], [30.0, 26.0]])
    canvas.paint_tube(
        on, ends, np.eye(3), 4.0, 4.0, texture, light, profile="straight", owner=1
    )  # fmt: skip
    weight = on.image.sum(-1)
    places = np.arange(40) + 0.5
    found = (weight.sum(0) @ places / weight.sum(), weight.sum(1) @ places / weight.sum())
    assert np.allclose(found, ends.mean(0), atol=0.1)
    assert on.image[12, 10].argmax() == 0 and on.image[26, 30].argmax() == 2


@pytest.mark.parametrize("yaw", [0, 40, 140, 180, 250])
def test_joints_lie_on_the_limbs_of_their_own_side(yaw):
    person = standing(yaw)
    red, blue = (np.array(color, np.float32).reshape(1, 1, 3) for color in (RED, BLUE))
    limbs = ("upper_arms", "forearms", "thighs", "shins")
    outfit = person.outfit._replace(**{limb: (red, blue) for limb in limbs})
    on = drawn(person._replace(outfit=outfit))
    places = person.camera.project(person.figure.joints())
    visible = people.visible_joints(on.owner, person)
    for name in ("elbow", "knee"):
        for side, channel in (("right", 0), ("left", 2)):
            number = joint(f"{side}_{name}")
            x, y = places[number]
            if visible[number]:
                assert on.image[int(y), int(x)].argmax() == channel, (name, side)


def test_seen_from_in_front_the_left_arm_is_on_the_right_of_the_image():
    for yaw, sign in ((0, 1), (180, -1)):
        person = standing(yaw)
        wrists = person.figure.points["left_wrist"] - person.figure.points["right_wrist"]
        assert np.sign(wrists[0]) == sign


def test_front_and_back_of_a_shirt_differ_and_face_the_right_way():
    trunk = np.empty((44, 64, 3), np.float32)
    trunk[:, 16:48], trunk[:, :16], trunk[:, 48:] = RED, BLUE, BLUE  # red in front
    for yaw, channel in ((0, 0), (180, 2)):
        person = standing(yaw)
        person = person._replace(outfit=person.outfit._replace(trunk=trunk))
        on = drawn(person, only=("trunk",))
        x, y = person.camera.project(person.figure.points["spine"])
        assert on.image[int(y), int(x)].argmax() == channel


def test_someone_seen_from_the_side_hides_the_far_arm_and_hip():
    person = standing(90, arms=80.0)  # the chest to the right: the right side is near
    visible = people.visible_joints(drawn(person).owner, person)
    assert visible[joint("right_shoulder")] and visible[joint("right_hip")]
    assert not visible[joint("left_shoulder")] and not visible[joint("left_hip")]


def test_what_a_stranger_covers_is_hidden():
    person = standing(0)
    on = drawn(person)
    assert people.visible_joints(on.owner, person).all()
    x, y = person.camera.project(person.figure.points["left_knee"])
    corners = np.array([[x - 6, y - 6], [x + 6, y - 6], [x + 6, y + 6], [x - 6, y + 6]])
    canvas.paint_polygon(on, corners, np.zeros(3), owner=people.STRANGER)
    hidden = ~people.visible_joints(on.owner, person)
    assert np.flatnonzero(hidden).tolist() == [joint("left_knee")]


def test_bones_keep_their_length_in_every_pose():
    rng = np.random.default_rng(0)
    for _ in range(50):
        size = body.sample_proportions(rng)
        turn = body.camera_rotation(*rng.uniform(-180, 180, 3))
        points = body.pose_body(poses.sample_pose(rng), size, turn).points
        for side in body.SIDES:
            for bone, ends in {
                "thigh": ("hip", "knee"),
                "shin": ("knee", "ankle"),
                "upper_arm": ("shoulder", "elbow"),
                "forearm": ("elbow", "wrist"),
            }.items():
                first, second = (points[f"{side}_{end}"] for end in ends)
                assert np.isclose(np.linalg.norm(first - second), getattr(size, bone))


@pytest.mark.parametrize("name", list(poses.ACTIVITIES))
def test_every_activity_has_five_groups_of_angles(name):
    activity = poses.ACTIVITIES[name]
    assert [len(group) for group in activity[:5]] == [3, 4, 4, 4, 4]
    assert activity.spread > 0 and activity.level in (0, 1, 2, 3)
