"""Inputs of `jaxpose predict`, and which file is written for each."""

import os

import pytest
from PIL import Image

from jaxpose.errors import JaxposeError
from jaxpose.predict.jobs import plan

DEFAULTS = {"output": None, "json": False}
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = Image.new("RGB", (8, 8))
    os.mkdir("in")
    for name in ("a.jpg", "b.PNG", "b.webp", "still.gif", "odd.name.jpeg"):
        image.save(f"in/{name}")
    image.save("in/moving.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])
    for name in ("in/clip.mov", "in/notes.txt", "in/.hidden.jpg", "clip.mp4"):
        open(name, "w").close()
    return tmp_path


def outputs(given, output=None, json=False):
    planned = plan(given, output=output, json=json)
    return [(str(job.path), job.video, job.out and str(job.out)) for job in planned.jobs]


def test_a_folder_is_its_images_and_videos(inputs):
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
    with pytest.raises(JaxposeError, match="cannot write .*; use .*kp.json for the keypoints"):
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


def test_a_folder_in_the_place_of_the_keypoints_is_named_before_any_work(inputs):
    os.makedirs("predictions/keypoints.json")
    with pytest.raises(JaxposeError, match="predictions/keypoints.json, which is a folder"):
        plan(["in"], output=None, json=True)
    assert plan(["in"], output=None, json=False).json is None


def test_heat_maps_take_the_name_of_no_file_of_the_call(inputs):
    for name in ("y_heatmaps.png", "Y_Heatmaps_2.png"):
        Image.new("RGB", (8, 8)).save(f"in/{name}")
    given = {"output": "in/y.png", "json": False, "box_file": "in/y_heatmaps.png"}
    os.symlink("y_heatmaps.png", "in/y_heatmaps_3.png")
    planned = plan(["in/Y_Heatmaps_2.png"], **given)
    (job,) = planned.jobs
    assert planned.sheet_path(job, "heatmaps").name == "y_heatmaps_4.png"
    assert planned.sheet_path(job, "heatmaps").name == "y_heatmaps_5.png"
    assert planned.sheet_path(job, "context").name == "y_context.png"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"output": "in/b.json"}, "in/b.json is an input and would be overwritten; give another"),
        ({"output": "link.jpg"}, "link.jpg is an input and would be overwritten; give another"),
        ({"output": "c.png", "box_file": "./c.png"}, "c.png contains the boxes and would be"),
        ({"results": "in/b.json"}, "--results in/b.json is an input and would be overwritten"),
        ({"results": "x.json", "box_file": "./x.json"}, "--results x.json would overwrite the"),
        ({"results": "new/keypoints.json", "output": "new", "json": True}, "would overwrite the"),
    ],
)
def test_nothing_that_is_read_or_written_is_overwritten(inputs, options, says):
    """Found before a folder is made."""
    open("in/b.json", "w").close()
    os.link("in/a.jpg", "link.jpg")
    one = options.get("output") in ("link.jpg", "c.png")
    with pytest.raises(JaxposeError, match=says):
        plan(["in/a.jpg", "in/b.json"][: 1 if one else 2], **DEFAULTS | options)
    assert not {"new", "predictions"} & set(os.listdir())


@pytest.mark.parametrize(
    ("given", "output", "says"),
    [
        (["absent.jpg"], None, "no file absent.jpg"),
        (["in", "absent"], None, "no file absent"),
        (["predictions"], None, "no image or video in the folder"),
        (["in"], "one.jpg", "one.jpg is a single file, but there are 7 inputs"),
        (["in/a.jpg"], "one.mp4", "a photo is written as .jpeg or .jpg or .png, not as one.mp4"),
        (["in/clip.mov"], "one.avi", "a video is written as .mp4, not as one.avi"),
        (["in/a.jpg"], "in/a.jpg", "in/a.jpg is an input and would be overwritten"),
        (["in/a.jpg"], "in", "in/a.jpg is an input and would be overwritten"),
        (["in/a.jpg"], "in/a.jpg/x", "cannot create the folder in/a.jpg/x"),
    ],
)
def test_plans_that_cannot_work_are_named(inputs, given, output, says):
    os.mkdir("predictions")
    with pytest.raises(JaxposeError, match=says):
        plan(given, output=output, json=False)
