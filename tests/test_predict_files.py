"""Files of prediction: COCO's JSON, boxes that people give, and what goes where."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from jaxpose.errors import JaxposeError
from jaxpose.predict import Prediction
from jaxpose.predict.box_file import BoxFile
from jaxpose.predict.coco import CocoWriter
from jaxpose.predict.jobs import plan

JOINTS = ("right_wrist", "left_wrist", "head_top")
LIMBS = (("head_top", "left_wrist"),)


def prediction(*people):
    """Of people who stand at x; the left wrist is hardly there."""
    points = np.array([[(x, 10.0), (x + 5, 20.25), (x + 2, 1.0)] for x in people])
    sure = np.tile(np.array([0.9, 0.2, 0.5], np.float32), (len(people), 1))
    boxes = np.array([[x, 0.0, 10.0, 30.0] for x in people])
    return Prediction(points.reshape(-1, 3, 2), sure, boxes.reshape(-1, 4), JOINTS)


def write(path, *entries):
    with CocoWriter(path, joints=JOINTS, limbs=LIMBS, checkpoint="runs/demo") as writer:
        for found, name, more in entries:
            writer.add(found, file_name=name, size=(640, 480), **more)
    return json.loads(path.read_text())


# COCO's JSON


def test_the_container_is_cocos(tmp_path):
    entries = [
        (prediction(3.0, 300.0), "a.jpg", {}),
        (prediction(), "b.jpg", {}),
        (prediction(7.0), "c.mp4", {"frame": 4, "time": 0.16}),
    ]
    found = write(tmp_path / "x.json", *entries)
    assert list(found) == ["info", "categories", "annotations", "images"]
    assert found["images"] == [
        {"id": 1, "file_name": "a.jpg", "width": 640, "height": 480},
        {"id": 2, "file_name": "b.jpg", "width": 640, "height": 480},
        {"id": 3, "file_name": "c.mp4", "width": 640, "height": 480, "frame": 4, "time": 0.16},
    ]
    (category,) = found["categories"]
    assert category["keypoints"] == list(JOINTS) and category["skeleton"] == [[3, 2]]
    assert [(a["id"], a["image_id"]) for a in found["annotations"]] == [(1, 1), (2, 1), (3, 3)]
    person = found["annotations"][1]
    # (x, y, v): a joint that is hardly there has its place and v = 0
    assert person["keypoints"] == [300, 10, 2, 305, 20.25, 0, 302, 1, 2]
    assert person["num_keypoints"] == 2 and person["category_id"] == category["id"]
    assert person["bbox"] == [300, 0, 10, 30] and person["area"] == 300
    assert person["confidence"] == pytest.approx([0.9, 0.2, 0.5], abs=1e-4)
    assert "(0, 0) is the picture's upper left" in found["info"]["coordinates"]
    assert found["info"]["checkpoint"] == "runs/demo"


def test_no_picture_is_an_empty_container(tmp_path):
    found = write(tmp_path / "x.json")
    assert found["images"] == found["annotations"] == []


def test_an_error_leaves_the_file_that_was_there(tmp_path):
    write(tmp_path / "x.json", (prediction(1.0), "a.jpg", {}))
    before = (tmp_path / "x.json").read_text()
    with pytest.raises(ValueError, match="stop"):
        with CocoWriter(tmp_path / "x.json", joints=JOINTS, limbs=LIMBS, checkpoint=""):
            raise ValueError("stop")
    assert (tmp_path / "x.json").read_text() == before
    assert os.listdir(tmp_path) == ["x.json"]


def test_names_of_any_script_survive(tmp_path):
    found = write(tmp_path / "x.json", (prediction(1.0), 'fotoğraf "1" 写真.jpg', {}))
    assert found["images"][0]["file_name"] == 'fotoğraf "1" 写真.jpg'


# Files of boxes


def boxes_of(tmp_path, text, name="boxes.txt"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return BoxFile(tmp_path / name)


LINES = "file,x,y,width,height\na.jpg,1,2,30,40\nb.jpg,5,6,70.5,80\na.jpg,9,9,9,9\n"


@pytest.mark.parametrize("text", [LINES, LINES.split("\n", 1)[1], "\ufeff" + LINES])
def test_lines_hold_boxes(tmp_path, text):
    found = boxes_of(tmp_path, text)
    assert found.of("pictures/a.jpg")[0].tolist() == [[1, 2, 30, 40], [9, 9, 9, 9]]
    assert found.of("b.jpg")[0].tolist() == [[5, 6, 70.5, 80]]
    assert found.of("c.jpg") is None


def test_an_object_holds_boxes(tmp_path):
    found = boxes_of(tmp_path, '{"a.jpg": [[1, 2, 3, 4]], "b.jpg": []}')
    assert found.of("a.jpg")[0].tolist() == [[1, 2, 3, 4]]
    assert found.of("b.jpg")[0].shape == (0, 4)


def test_the_boxes_of_our_own_json_come_back(tmp_path):
    entries = [
        (prediction(3.0, 300.0), "photos/a.jpg", {}),
        (prediction(7.0), "c.mp4", {"frame": 4}),
        (prediction(), "c.mp4", {"frame": 5}),
    ]
    write(tmp_path / "x.json", *entries)
    found = BoxFile(tmp_path / "x.json")
    assert found.of("photos/a.jpg")[0].tolist() == [[3, 0, 10, 30], [300, 0, 10, 30]]
    frames = found.of("c.mp4")
    assert {frame: len(boxes) for frame, boxes in frames.items()} == {4: 1, 5: 0}


def test_the_longer_part_of_a_path_decides(tmp_path):
    found = boxes_of(tmp_path, "one/a.jpg,1,1,1,1\ntwo/a.jpg,2,2,2,2\na.jpg,3,3,3,3\n")
    for folder, first in (("one", 1), ("two", 2), ("three", 3)):
        assert found.of(f"/data/{folder}/a.jpg")[0][0, 0] == first


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a.jpg,1,2,3\n", "line 1 has 4 fields, not 5"),
        ("a.jpg,1,2,3,4\na.jpg,1,2,x,4\n", "line 2 has a box that is no number"),
        ("a.jpg,1,2,0,4\n", "a.jpg: box 1,2,0,4 has no area"),
        ('{"a.jpg": [[1, 2, 3]]}', "a.jpg: boxes have shape"),
        ('{"a.jpg": ', "no boxes that can be read"),
        ("[1, 2]", "no boxes that can be read"),
        ('{"annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4]}], "images": []}', "KeyError: 7"),
        (",1,2,3,4\n", "boxes without the name"),
    ],
)
def test_bad_boxes_are_named(tmp_path, text, says):
    with pytest.raises(JaxposeError, match=says):
        boxes_of(tmp_path, text)


def test_a_missing_file_of_boxes_is_named(tmp_path):
    with pytest.raises(JaxposeError, match="cannot read boxes from .*absent"):
        BoxFile(tmp_path / "absent.csv")
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(JaxposeError, match="it is no text"):
        BoxFile(tmp_path / "x.npz")


# What goes where

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = Image.new("RGB", (8, 8))
    os.mkdir("in")
    for name in ("a.jpg", "b.PNG", "b.webp", "still.gif", "odd.name.jpeg"):
        picture.save(f"in/{name}")
    picture.save("in/moving.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])
    for name in ("in/clip.mov", "in/notes.txt", "in/.hidden.jpg", "clip.mp4"):
        open(name, "w").close()
    return tmp_path


def outputs(given, output=None, json=False):
    planned = plan(given, output=output, json=json)
    return [(str(job.path), job.video, job.out and str(job.out)) for job in planned.jobs]


def test_a_folder_is_its_pictures_and_videos(inputs):
    assert outputs(["in"]) == [
        ("in/a.jpg", False, "predictions/a.jpg"),
        ("in/b.PNG", False, "predictions/b.PNG"),
        ("in/b.webp", False, "predictions/b_2.png"),
        ("in/clip.mov", True, "predictions/clip.mp4"),
        ("in/moving.gif", True, "predictions/moving.mp4"),
        ("in/odd.name.jpeg", False, "predictions/odd.name.jpeg"),
        ("in/still.gif", False, "predictions/still.png"),
    ]
    assert os.path.isdir("predictions")


def test_one_input_may_name_its_output(inputs):
    assert outputs(["in/a.jpg"], "x/y.png") == [("in/a.jpg", False, "x/y.png")]
    assert outputs(["in/clip.mov"], "z.mp4") == [("in/clip.mov", True, "z.mp4")]
    assert plan(["in/a.jpg"], output="y.png", json=True).json.name == "y.json"
    assert plan(["in"], output="out.v2", json=True).json.as_posix() == "out.v2/keypoints.json"


@pytest.mark.parametrize("name", ["kp.csv", "kp.txt", "x/kp.npz", "kp.h5", "kp.xml"])
def test_a_file_that_is_not_written_becomes_no_folder(inputs, name):
    with pytest.raises(JaxposeError, match="is written; give .*kp.json for the keypoints, or a fo"):
        plan(["in"], output=name, json=False)
    assert not os.path.exists(name)
    assert plan(["in"], output=f"{name}/", json=False).jobs[0].out.as_posix() == f"{name}/a.jpg"
    assert plan(["in"], output=name, json=False).jobs[0].out.as_posix() == f"{name}/a.jpg"


def test_a_heic_photo_without_its_suffix_is_no_video(inputs):
    with open("IMG_1", "wb") as file:
        file.write(HEIC)
    assert outputs(["IMG_1"]) == [("IMG_1", False, "predictions/IMG_1.png")]


def test_json_alone_draws_nothing(inputs):
    planned = plan(["in"], output="all.json", json=False)
    assert planned.json.name == "all.json" and not any(job.out for job in planned.jobs)


@pytest.mark.parametrize(
    ("given", "output", "says"),
    [
        (["absent.jpg"], None, "no file absent.jpg"),
        (["in", "absent"], None, "no file absent"),
        (["predictions"], None, "no picture or video in the folder"),
        (["in"], "one.jpg", "one.jpg is one file and there are 7 inputs"),
        (["in/a.jpg"], "one.mp4", "a photo is written as .jpeg or .jpg or .png, not as one.mp4"),
        (["in/clip.mov"], "one.avi", "a video is written as .mp4, not as one.avi"),
        (["in/a.jpg"], "in/a.jpg", "in/a.jpg is an input and would be overwritten"),
        (["in/a.jpg"], "in", "in/a.jpg is an input and would be overwritten"),
        (["in/a.jpg"], "in/a.jpg/x", "cannot make the folder in/a.jpg/x"),
    ],
)
def test_plans_that_cannot_work_are_named(inputs, given, output, says):
    os.mkdir("predictions")
    with pytest.raises(JaxposeError, match=says):
        plan(given, output=output, json=False)
