"""`jaxpose predict` and `jaxpose visualize`: what they write, what they say, how they leave."""

import functools
import json
import os
import pathlib
import re
import sys

import cv2
import numpy as np
import pytest
import small_estimator
from PIL import Image
from test_predict_video import damaged, make

from jaxpose import cli, pretrained
from jaxpose.predict import PoseEstimator
from jaxpose.predict.video import VideoReader
from jaxpose.predict.webcam import Window

TRAINED = [name for name in small_estimator.METADATA["joints"] if name not in ("pelvis", "thorax")]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A packed checkpoint of a network that never saw a label for pelvis and thorax."""
    metadata = {**small_estimator.METADATA, "trained_joints": TRAINED}
    path = tmp_path_factory.mktemp("network") / "small.npz"
    return str(pretrained.pack(small_estimator.variables(), metadata, path))


OPENED = functools.cache(PoseEstimator.from_checkpoint)


@pytest.fixture(autouse=True)
def open_once(monkeypatch):
    """What a network compiles serves all tests."""
    monkeypatch.setattr(PoseEstimator, "from_checkpoint", OPENED)


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "off")
    small = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    Image.fromarray(small).resize((180, 240), Image.BICUBIC).save("photo.png")
    return "photo.png"


def predict(*arguments, network):
    return cli.main(["predict", *arguments, "--checkpoint", network])


def changed(path, other):
    return (np.asarray(Image.open(path)) != np.asarray(Image.open(other))).any(axis=-1)


def test_a_photo_gets_a_skeleton_and_its_keypoints(photo, network, capsys):
    assert predict(photo, "--json", "--box", "20,30,90,150", network=network) == 0
    out = capsys.readouterr().out
    assert out == (
        f"checkpoint: {network}\nphoto.png: 1 person: predictions/photo.png\n"
        "keypoints: predictions/keypoints.json\n"
    )
    assert 0 < changed("predictions/photo.png", photo).mean() < 0.3
    with open("predictions/keypoints.json") as file:
        found = json.load(file)
    (person,) = found["annotations"]
    assert found["categories"][0]["keypoints"] == TRAINED
    assert len(person["keypoints"]) == 3 * len(TRAINED) and person["bbox"] == [20, 30, 90, 150]
    assert found["images"][0] == {"id": 1, "file_name": photo, "width": 180, "height": 240}
    expected = small_estimator.estimator().predict(photo, [[20, 30, 90, 150]])
    points = np.reshape(person["keypoints"], (-1, 3))[:, :2]
    kept = [expected.joints.index(name) for name in TRAINED]
    np.testing.assert_allclose(points, expected.keypoints[0][kept], atol=1.0)  # packed: float16


def test_a_photo_needs_no_library_of_videos(photo, network, monkeypatch, capsys):
    make("clip.mp4", frames=2)
    monkeypatch.setitem(sys.modules, "av", None)
    assert predict(photo, network=network) == 0
    assert predict("clip.mp4", network=network) == 1
    assert (
        "av is not installed; it comes with the extra jaxpose[predict]" in capsys.readouterr().err
    )


def test_panels_are_written_for_every_person(photo, network, capsys):
    boxes = ["--box", "20,30,90,150", "--box", "60,30,90,150"]
    assert predict(photo, *boxes, "--heatmaps", "--context", network=network) == 0
    assert sorted(os.listdir("predictions")) == [
        "photo.png",
        "photo_1_context.png",
        "photo_1_heatmaps.png",
        "photo_2_context.png",
        "photo_2_heatmaps.png",
    ]
    assert "2 persons" in capsys.readouterr().out


def test_a_folder_goes_on_after_a_broken_photo(photo, network, capsys):
    os.mkdir("in")
    for name in ("a.jpg", "c.png"):
        Image.open(photo).save(f"in/{name}")
    with open("in/b.jpg", "wb") as file:
        file.write(b"\xff\xd8\xff\xe0 nothing more")
    assert predict("in", "-o", "out", "--json", network=network) == 1
    assert sorted(os.listdir("out")) == ["a.jpg", "c.png", "keypoints.json"]
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0].startswith("error: in/b.jpg cannot be read as a picture")
    assert lines[-1] == "error: 1 of 3 inputs failed, see above; the others are done"
    with open("out/keypoints.json") as file:
        assert [image["file_name"] for image in json.load(file)["images"]] == [
            "in/a.jpg",
            "in/c.png",
        ]


def test_a_video_keeps_its_frames(photo, network, capsys):
    make("clip.mov", frames=7)
    arguments = ["clip.mov", "-o", "out.mp4", "--json", "--smooth", "1"]
    assert predict(*arguments, network=network) == 0
    assert "clip.mov: 7 frames: out.mp4" in capsys.readouterr().out
    with VideoReader("clip.mov") as before, VideoReader("out.mp4") as after:
        pairs = list(zip(before.frames(), after.frames(), strict=True))
    assert len(pairs) == 7
    assert all(np.abs(a.image.astype(int) - b.image).max() > 60 for a, b in pairs)  # drawn on
    with open("out.json") as file:
        found = json.load(file)
    assert [image["frame"] for image in found["images"]] == list(range(7))
    assert len(found["annotations"]) == 7


def test_boxes_of_a_video_count_from_their_frame(photo, network):
    make("clip.mp4", frames=6)
    images = [{"id": n, "file_name": "clip.mp4", "frame": n} for n in range(6)]
    boxes = [(2, [10, 5, 40, 50]), (4, [10, 5, 40, 50]), (4, [50, 5, 40, 50])]
    annotations = [{"image_id": n, "bbox": box} for n, box in boxes]
    with open("boxes.json", "w") as file:
        json.dump(
            {"images": [i for i in images if i["id"] in (2, 4)], "annotations": annotations}, file
        )
    assert predict("clip.mp4", "--boxes", "boxes.json", "-o", "out.json", network=network) == 0
    with open("out.json") as file:
        found = [a["image_id"] - 1 for a in json.load(file)["annotations"]]
    assert found == [2, 3, 4, 4, 5, 5]
    assert not os.path.exists("predictions")


def test_photos_that_a_file_of_boxes_leaves_out_have_nobody(photo, network, capsys):
    Image.open(photo).save("other.png")
    with open("boxes.csv", "w") as file:
        file.write("photo.png,20,30,90,150\n")
    assert predict(photo, "other.png", "--boxes", "boxes.csv", network=network) == 0
    assert changed("predictions/photo.png", photo).any()
    assert not changed("predictions/other.png", photo).any()


class FakeCamera:
    """OpenCV's camera of three frames, then Ctrl-C or the end."""

    ends_by = None

    def __init__(self, number):
        self.left = 3 if number < 2 else 0

    def isOpened(self):
        return True

    def read(self):
        if not self.left and self.ends_by:
            raise self.ends_by
        self.left -= 1
        return self.left >= 0, np.full((48, 64, 3), (0, 0, 200), np.uint8)

    def release(self):
        pass


@pytest.mark.parametrize("end", [None, KeyboardInterrupt])
def test_a_camera_is_recorded(photo, network, monkeypatch, capsys, end):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    monkeypatch.setattr(FakeCamera, "ends_by", end)
    assert predict("--webcam", "--json", network=network) == 0
    with VideoReader("predictions/webcam.mp4") as reader:
        frames = list(reader.frames())
    assert len(frames) == 3
    assert np.abs(frames[0].image[2, 2].astype(int) - (200, 0, 0)).max() < 12  # red is red
    with open("predictions/keypoints.json") as file:
        assert len(json.load(file)["images"]) == 3
    assert "predictions/webcam.mp4" in capsys.readouterr().out


def test_a_window_without_a_display_shows_nothing(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    window = Window("jaxpose")
    window.show(np.zeros((4, 4, 3), np.uint8))
    assert window.open
    window.close()
    assert not window.open


def test_a_python_without_tk_shows_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tkinter", None)
    window = Window("jaxpose")
    window.show(np.zeros((4, 4, 3), np.uint8))
    assert window.open


def test_visualize_writes_three_pictures(photo, network, capsys):
    assert cli.main(["visualize", network, photo, "--box", "20,30,90,150", "-o", "out"]) == 0
    names = [f"out/photo_{kind}_maps.png" for kind in ("part", "single", "context")]
    assert capsys.readouterr().out.splitlines()[1:] == names
    for name in names:
        with Image.open(name) as picture:
            assert min(picture.size) > 200


def test_visualize_needs_no_checkpoint(photo, capsys):
    assert cli.main(["visualize", photo]) == 0
    first, *written = capsys.readouterr().out.splitlines()
    assert first == f"checkpoint: {pretrained.path('small')}" and len(written) == 3


def test_a_network_without_context_has_two(photo, tmp_path, capsys):
    from jaxpose.network import PoseNet, initial_variables

    arguments = {**small_estimator.NETWORK, "num_context_maps": 0}
    metadata = {**small_estimator.METADATA, "network": arguments}
    pretrained.pack(initial_variables(PoseNet(**arguments), 0), metadata, "plain.npz")
    assert cli.main(["visualize", "plain.npz", photo]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert cli.main(["predict", photo, "--checkpoint", "plain.npz", "--context"]) == 1
    assert "no context maps" in capsys.readouterr().err


WRONG = {
    "nothing": ([], "give photos, videos or folders, or --webcam"),
    "both": (["photo.png", "--webcam"], "or --webcam"),
    "no file": (["absent.jpg"], "no file absent.jpg"),
    "an empty folder": (["empty"], "no picture or video in the folder empty"),
    "a text": (["notes.txt"], "notes.txt can be read neither as a picture nor as a video"),
    "a box of three": (["photo.png", "--box", "1,2,3"], "'1,2,3' is no box.*--help"),
    "a box without area": (["photo.png", "--box", "1,2,0,9"], "'1,2,0,9' is no box"),
    "a box outside": (["photo.png", "--box", "999,2,9,9"], "999,2,9,9 lies outside.*180x240"),
    "box and boxes": (["photo.png", "--box", "1,2,3,4", "--boxes", "x"], "not allowed with"),
    "no file of boxes": (["photo.png", "--boxes", "absent.csv"], "cannot read boxes from absent"),
    "boxes of others": (
        ["photo.png", "--boxes", "others.csv"],
        "others.csv has no boxes for photo",
    ),
    "ten crops": (["photo.png", "--num_crops", "10"], "num_crops is 10; it must be 1 to 9"),
    "a bad frequency": (["photo.png", "--smooth", "0"], "'0' is no frequency"),
    "heat maps of a video": (["clip.mp4", "--heatmaps"], "--heatmaps is for photos"),
    "heat maps as JSON": (["photo.png", "--heatmaps", "-o", "x.json"], "heat maps are pictures"),
    "another suffix": (["photo.png", "-o", "x.mp4"], "a photo is written as"),
    "over itself": (["photo.png", "-o", "."], "photo.png is an input and would be overwritten"),
    "over its boxes": (
        ["photo.png", "--boxes", "boxes.json", "-o", "./boxes.json"],
        "boxes.json holds the boxes and would be overwritten",
    ),
    "no camera": (["--webcam", "77"], "no camera 77 can be opened"),
}


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG)
def test_what_a_person_can_do_wrong_gets_one_line(arguments, says, photo, network, capfd):
    os.mkdir("empty")
    make("clip.mp4", frames=2)
    for name, text in (
        ("notes.txt", "words\n" * 99),
        ("others.csv", "b.jpg,1,2,3,4\n"),
        ("boxes.json", "{}"),
    ):
        with open(name, "w") as file:
            file.write(text)
    assert predict(*arguments, network=network) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ")
    assert re.search(says, error)


def test_photos_that_differ_in_their_suffix_keep_their_heat_maps_apart(photo, network):
    Image.open(photo).save("photo.jpg")
    assert predict(photo, "photo.jpg", "--heatmaps", network=network) == 0
    assert sorted(os.listdir("predictions")) == [
        "photo.png", "photo_2.jpg", "photo_2_heatmaps.png", "photo_heatmaps.png"
    ]  # fmt: skip


def test_damage_in_one_of_several_videos_is_said(photo, network, capfd):
    assert predict(photo, str(damaged(pathlib.Path("in.avi"))), network=network) == 0
    assert "in.avi: 11 frames (1 damaged parts left out)" in capfd.readouterr().err


def test_a_photo_of_more_pixels_than_pillow_takes_is_refused(photo, network, capfd, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    assert predict(photo, network=network) == 1
    assert "photo.png has more pixels than Pillow takes; reduce it" in capfd.readouterr().err


@pytest.mark.parametrize("checkpoint", ["absent.npz", "photo.png", "empty"])
def test_what_is_no_checkpoint_gets_one_line(photo, checkpoint, capfd):
    os.makedirs("empty", exist_ok=True)
    assert predict(photo, network=checkpoint) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and checkpoint in error


def test_the_default_network_is_the_small_one(photo, monkeypatch, network, capsys):
    asked = []
    monkeypatch.setattr(pretrained, "path", lambda name: asked.append(name) or network)
    assert cli.main(["predict", photo]) == 0
    assert asked == ["small"]
