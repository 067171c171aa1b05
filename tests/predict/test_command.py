"""`jaxpose predict` and `jaxpose visualize`: what they write, what they say, how they leave."""

import functools
import importlib
import io
import itertools
import json
import os
import pathlib
import re
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxpose import cli
from jaxpose.checkpoints import packed
from jaxpose.checkpoints.metadata import Calibration
from jaxpose.cli import exits
from jaxpose.errors import JaxposeError
from jaxpose.predict import PoseEstimator
from jaxpose.predict.boxes import MIN_CONFIDENCE
from jaxpose.predict.video import VideoReader
from jaxpose.predict.webcam import Window
from tests.support import small_estimator
from tests.support.videos import changing, damaged, make, with_sound, with_unknown_sound

TRAINED = [name for name in small_estimator.METADATA.joints if name not in ("pelvis", "thorax")]
BIAS = tuple(np.linspace(-0.5, 0.5, len(TRAINED)).tolist())
CALIBRATED = small_estimator.METADATA._replace(
    trained_joints=tuple(TRAINED), calibration=Calibration(BIAS, presence=0.5, spread=-0.25)
)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A packed checkpoint of a network that never saw a label for pelvis and thorax."""
    path = tmp_path_factory.mktemp("network") / "small.npz"
    return str(packed.pack(small_estimator.variables(), CALIBRATED, path))


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
        f"checkpoint: {network}\nphoto.png: 1 person, written to predictions/photo.png\n"
        "keypoints: predictions/keypoints.json\n"
    )
    assert 0 < changed("predictions/photo.png", photo).mean() < 0.3
    with open("predictions/keypoints.json") as file:
        found = json.load(file)
    (person,) = found["annotations"]
    assert found["categories"][0]["keypoints"] == TRAINED
    assert len(person["keypoints"]) == 3 * len(TRAINED) and person["bbox"] == [20, 30, 90, 150]
    assert found["images"][0] == {"id": 1, "file_name": photo, "width": 180, "height": 240}
    calibrated = PoseEstimator(small_estimator.variables(), CALIBRATED)
    expected = calibrated.predict(photo, [[20, 30, 90, 150]])
    assert np.abs(expected.confidence - expected.presence).max() > 0.1
    np.testing.assert_allclose(person["confidence"], expected.confidence[0], atol=0.01)
    points = np.reshape(person["keypoints"], (-1, 3))
    present = expected.confidence[0] >= MIN_CONFIDENCE
    np.testing.assert_array_equal(points[:, 2], 2 * present)
    pixels = np.where(present[:, None], expected.keypoints[0] - 0.5, 0)
    np.testing.assert_allclose(points[:, :2], pixels, atol=0.5)  # packed: float16


def test_a_photo_needs_no_library_of_videos(photo, network, monkeypatch, capsys):
    make("clip.mp4", frames=2)
    monkeypatch.setitem(sys.modules, "av", None)
    assert predict(photo, network=network) == 0
    assert predict("clip.mp4", network=network) == 1
    assert "av is not installed; install the extra jaxpose[predict]" in capsys.readouterr().err


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
    assert lines[0].startswith("error: in/b.jpg cannot be read as an image")
    assert lines[-1] == "error: 1 of 3 inputs failed, see above; the others are complete"
    with open("out/keypoints.json") as file:
        assert [image["file_name"] for image in json.load(file)["images"]] == [
            "in/a.jpg",
            "in/c.png",
        ]


def test_a_file_that_cannot_be_written_fails_its_input_alone(photo, network, capsys):
    long = "n" * 250
    Image.open(photo).save(f"{long}.png")  # its heat maps would have a name of over 255 bytes
    for name in ("a.png", "c.png"):
        Image.open(photo).save(name)
    make("b.mp4", frames=2)
    os.makedirs("predictions/a.png")
    os.makedirs("predictions/b.mp4")
    inputs = ["a.png", "b.mp4", f"{long}.png", "c.png"]
    box = ["--box", "20,30,60,30"]
    assert predict(*inputs, "--json", "--heatmaps", *box, network=network) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0] == "error: predictions/a.png cannot be written (Is a directory)"
    assert lines[1] == "error: predictions/b.mp4 cannot be written (Is a directory)"
    assert lines[2].endswith("_heatmaps.png cannot be written (File name too long)")
    assert lines[3] == "error: 3 of 4 inputs failed, see above; the others are complete"
    with open("predictions/keypoints.json") as file:
        found = json.load(file)
    assert {image["file_name"] for image in found["images"]} == {"c.png"}


def test_frames_of_a_video_that_fails_at_its_end_are_in_no_file(photo, network, monkeypatch):
    make("clip.mp4", frames=4)
    frames = VideoReader.frames

    def cut_off(reader, writer=None):
        yield from itertools.islice(frames(reader, writer), 2)
        raise JaxposeError("clip.mp4 cannot be read to its end")

    monkeypatch.setattr(VideoReader, "frames", cut_off)
    options = ["--json", "--results", "results.json", "--box", "20,30,60,30"]
    assert predict("clip.mp4", photo, *options, network=network) == 1
    assert sorted(os.listdir("predictions")) == ["keypoints.json", photo]
    with open("predictions/keypoints.json") as file:
        assert [image["file_name"] for image in json.load(file)["images"]] == [photo]
    with open("results.json") as file:
        assert len(json.load(file)) == 1


@pytest.mark.parametrize("inputs", [1, 2])
def test_a_call_whose_inputs_all_fail_leaves_the_json_of_an_earlier_one(photo, network, inputs):
    names = ["a.jpg", "b.jpg"][:inputs]
    for name in names:
        pathlib.Path(name).write_bytes(b"\xff\xd8\xff\xe0 nothing more")
    os.mkdir("predictions")
    json_file = pathlib.Path("predictions/keypoints.json")
    json_file.write_text("of an earlier call")
    assert predict(*names, "--json", network=network) == 1
    assert json_file.read_text() == "of an earlier call"


def test_a_video_keeps_its_frames(photo, network, capsys):
    make("clip.mov", frames=7)
    box = ["--box", "10,5,40,50"]
    arguments = ["clip.mov", "-o", "out.mp4", "--json", "--smooth", "1", *box]
    assert predict(*arguments, network=network) == 0
    assert "clip.mov: 7 frames, written to out.mp4" in capsys.readouterr().out
    with VideoReader("clip.mov") as before, VideoReader("out.mp4") as after:
        pairs = list(zip(before.frames(), after.frames(), strict=True))
    assert len(pairs) == 7
    assert all(np.abs(a.image.astype(int) - b.image).max() > 60 for a, b in pairs)  # drawn on
    with open("out.json") as file:
        found = json.load(file)
    assert [image["frame"] for image in found["images"]] == list(range(7))
    assert len(found["annotations"]) == 7


def test_a_video_whose_frames_shrink_is_done_to_its_end(photo, network, capsys):
    changing(pathlib.Path("call.webm"), [(160, 96), (48, 32)])
    arguments = ["call.webm", "--json", "-o", "out.mp4", "--box", "10,5,40,50"]
    assert predict(*arguments, network=network) == 0
    assert "call.webm: 8 frames, written to out.mp4" in capsys.readouterr().out
    with open("out.json") as file:
        found = json.load(file)
    assert {(image["width"], image["height"]) for image in found["images"]} == {(160, 96)}
    assert len(found["annotations"]) == 8


def test_sound_that_is_left_out_is_reported(photo, network, capsys):
    with_unknown_sound(pathlib.Path("in.avi"))
    assert predict("in.avi", network=network) == 0
    line = "in.avi: 5 frames, written to predictions/in.mp4 (no sound: its codec is unknown)\n"
    assert line in capsys.readouterr().out
    with_sound(pathlib.Path("in.mov"), "pcm_s16le")
    assert predict("in.mov", network=network) == 0
    assert "in.mov: 5 frames, written to predictions/in.mp4\n" in capsys.readouterr().out


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
        written = json.load(file)
    ids = {image["frame"]: image["id"] for image in written["images"]}
    assert (ids[2], ids[4]) == (2, 4)  # the file's own; 3 and 5 have none there
    found = [a["image_id"] for a in written["annotations"]]
    assert found == [ids[n] for n in (2, 3, 4, 4, 5, 5)]
    assert not os.path.exists("predictions")


def test_frames_that_are_listed_without_boxes_do_not_end_tracking(photo, network):
    make("clip.mp4", frames=4)
    images = [{"id": n, "file_name": "clip.mp4", "frame": n} for n in range(4)]
    annotations = [{"image_id": 0, "bbox": [10, 5, 40, 50]}]
    with open("boxes.json", "w") as file:
        json.dump({"images": images, "annotations": annotations}, file)
    assert predict("clip.mp4", "--boxes", "boxes.json", "-o", "out.json", network=network) == 0
    with open("out.json") as file:
        found = json.load(file)["annotations"]
    assert [(a["image_id"], a["track_id"]) for a in found] == [(n, 1) for n in range(4)]


def test_persons_of_a_low_score_in_given_boxes_of_a_video_are_omitted(photo, network):
    make("clip.mp4", frames=2)
    found = {}
    for score in ("0", "1"):
        options = ["--box", "10,5,40,50", "--min_score", score, "-o", f"{score}.json"]
        assert predict("clip.mp4", *options, network=network) == 0
        with open(f"{score}.json") as file:
            found[score] = len(json.load(file)["annotations"])
    assert found == {"0": 2, "1": 0}


def test_photos_that_a_file_of_boxes_leaves_out_have_nobody(photo, network, capsys):
    Image.open(photo).save("other.png")
    with open("boxes.csv", "w") as file:
        file.write("photo.png,20,30,90,150\n")
    assert predict(photo, "other.png", "--boxes", "boxes.csv", network=network) == 0
    assert changed("predictions/photo.png", photo).any()
    assert not changed("predictions/other.png", photo).any()
    assert "boxes.csv has no boxes for 1 of 2 inputs: other.png\n" in capsys.readouterr().err


def test_ids_and_names_of_a_coco_file_are_kept_and_unused_entries_said(photo, network, capsys):
    Image.open(photo).save("other.png")
    box = {"category_id": 4, "bbox": [20, 30, 90, 150]}
    content = {
        "images": [{"id": 1, "file_name": "c.png"}, {"id": "b", "file_name": "/x/photo.png"}],
        "annotations": [
            {"image_id": "b", **box},
            {"image_id": 1, **box},
            {"image_id": "b", **box, "iscrowd": 1},
        ],
        "categories": [{"id": 4, "name": "Person"}],
    }
    with open("boxes.json", "w") as file:
        json.dump(content, file)
    arguments = [photo, "other.png", "--boxes", "boxes.json", "-o", "out.json"]
    assert predict(*arguments, network=network) == 0
    assert capsys.readouterr().err == (
        "boxes.json, entries not used: marked iscrowd: 1 (annotations[2])\n"
        "boxes.json has no boxes for 1 of 2 inputs: other.png\n"
    )
    with open("out.json") as file:
        found = json.load(file)
    assert [(i["id"], i["file_name"]) for i in found["images"]] == [
        ("b", "/x/photo.png"),
        (2, "other.png"),  # 1 is another image in the file
    ]
    assert [(a["image_id"], a["category_id"]) for a in found["annotations"]] == [("b", 4)]
    assert (found["categories"][0]["id"], found["categories"][0]["name"]) == (4, "Person")


def test_a_photo_with_the_number_of_a_frame_has_its_box_and_id(photo, network):
    content = {
        "images": [{"id": 7, "file_name": "photo.png", "frame": 17}],
        "annotations": [{"image_id": 7, "bbox": [20, 30, 90, 150]}],
    }
    with open("boxes.json", "w") as file:
        json.dump(content, file)
    assert predict(photo, "--boxes", "boxes.json", "-o", "out.json", network=network) == 0
    with open("out.json") as file:
        found = json.load(file)
    assert [(image["id"], image["file_name"]) for image in found["images"]] == [(7, "photo.png")]
    assert [person["bbox"] for person in found["annotations"]] == [[20, 30, 90, 150]]


def test_results_are_a_list_that_keeps_every_position(photo, network, capsys):
    box = {"category_id": 4, "bbox": [20, 30, 90, 150]}
    content = {
        "images": [{"id": 139, "file_name": "photo.png"}],
        "annotations": [{"image_id": 139, **box}],
        "categories": [{"id": 4, "name": "Person"}],
    }
    with open("boxes.json", "w") as file:
        json.dump(content, file)
    arguments = [photo, "--boxes", "boxes.json", "-o", "out.json", "--results", "made/results.json"]
    assert predict(*arguments, network=network) == 0
    assert capsys.readouterr().out.endswith("keypoints: out.json\nresults: made/results.json\n")
    with open("made/results.json") as file:
        (person,) = json.load(file)
    with open("out.json") as file:
        (annotation,) = json.load(file)["annotations"]
    assert (person["image_id"], person["category_id"]) == (139, 4)
    assert person["score"] == pytest.approx(annotation["score"], abs=1e-4)
    expected = OPENED(network).predict(photo, [[20, 30, 90, 150]])
    points = np.reshape(person["keypoints"], (-1, 3))
    np.testing.assert_allclose(points[:, :2], expected.keypoints[0] - 0.5, atol=1e-3)
    np.testing.assert_array_equal(points[:, 2], np.reshape(annotation["keypoints"], (-1, 3))[:, 2])


@pytest.mark.parametrize("name", ["boxes.json", "out.json"])
def test_results_overwrite_no_other_file_of_the_call(photo, network, capfd, name):
    with open("boxes.json", "w") as file:
        json.dump({"photo.png": [[20, 30, 90, 150]]}, file)
    arguments = [photo, "--boxes", "boxes.json", "-o", "out.json", "--results", name]
    assert predict(*arguments, network=network) == 1
    assert f"--results {name} would overwrite the file of boxes" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "says"), [("photo.png", "is not a .json file"), ("made", "is a folder; give a .json")]
)
def test_results_are_written_to_json_files_alone(photo, network, capfd, monkeypatch, name, says):
    monkeypatch.setattr("jaxpose.predict.command.open_estimator", None)  # refused before loading
    os.mkdir("made")
    before = pathlib.Path(photo).read_bytes()
    assert predict(photo, "--results", name, network=network) == 1
    assert f"--results {name} {says}" in capfd.readouterr().err
    assert pathlib.Path(photo).read_bytes() == before


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
    assert "webcam.mp4: 3 frames, written to predictions/webcam.mp4\n" in capsys.readouterr().out


def test_a_camera_that_is_stopped_before_its_first_frame_leaves_earlier_files(
    photo, network, monkeypatch, capsys
):
    os.mkdir("predictions")
    files = [pathlib.Path("predictions", name) for name in ("webcam.mp4", "keypoints.json")]
    for file in files:
        file.write_text("of another call")
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)

    def interrupt(*_, **__):  # while the first program is compiled
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxpose.predict.command.follow", interrupt)
    assert predict("--webcam", "--json", network=network) == 1
    output = capsys.readouterr()
    assert "error: interrupted before the first frame; nothing was recorded\n" in output.err
    assert "predictions" not in output.out
    assert [file.read_text() for file in files] == ["of another call"] * 2


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


def test_visualize_writes_three_images(photo, network, capsys):
    assert cli.main(["visualize", network, photo, "--box", "20,30,90,150", "-o", "out"]) == 0
    names = [f"out/photo_{kind}_maps.png" for kind in ("part", "single", "context")]
    assert capsys.readouterr().out.splitlines()[1:] == names
    for name in names:
        with Image.open(name) as image:
            assert min(image.size) > 200


@pytest.mark.slow
def test_visualize_needs_no_checkpoint(photo, capsys):
    assert cli.main(["visualize", photo]) == 0
    first, *written = capsys.readouterr().out.splitlines()
    assert first == f"checkpoint: {packed.path('base')}" and len(written) == 3


@pytest.mark.slow
def test_a_network_without_context_has_two(photo, tmp_path, capsys):
    from jaxpose.network import PoseNet, initial_variables

    arguments = {**small_estimator.NETWORK, "num_context_maps": 0}
    metadata = small_estimator.METADATA._replace(network=arguments)
    packed.pack(initial_variables(PoseNet(**arguments), 0), metadata, "plain.npz")
    assert cli.main(["visualize", "plain.npz", photo]) == 0
    assert sorted(os.listdir("predictions")) == ["photo_part_maps.png", "photo_single_maps.png"]
    capsys.readouterr()
    box = ["--box", "20,30,90,150"]
    assert cli.main(["predict", photo, *box, "--checkpoint", "plain.npz", "--context"]) == 1
    assert "no context maps" in capsys.readouterr().err
    assert not os.path.exists("predictions/photo.png")  # said before any work


SIZED = {
    "images": [
        {"id": frame, "file_name": name, "frame": frame, "width": 90, "height": 120}
        for frame, name in enumerate(["photo.png", "clip.mp4"])
    ],
    "annotations": [{"image_id": frame, "bbox": [10, 10, 30, 40]} for frame in (0, 1)],
}
WRONG = {
    "no file": (["absent.jpg"], "no file absent.jpg"),
    "an empty folder": (["empty"], "no image or video in the folder empty"),
    "a text": (["notes.txt"], "notes.txt can be read neither as an image nor as a video"),
    "a box outside": (["photo.png", "--box", "999,2,9,9"], "999,2,9,9 lies outside.*180x240"),
    "no file of boxes": (["photo.png", "--boxes", "absent.csv"], "cannot read absent.csv"),
    "boxes of others": (
        ["photo.png", "--boxes", "others.csv"],
        "others.csv has no boxes for 1 of 1 inputs: photo.png",
    ),
    "boxes for another size": (
        ["photo.png", "--boxes", "sized.json"],
        "photo.png has 180x240 pixels, but sized.json gives boxes for 90x120",
    ),
    "boxes for frames of another size": (
        ["clip.mp4", "--boxes", "sized.json"],
        "frame 1 of clip.mp4 has .* pixels, but sized.json gives boxes for 90x120",
    ),
    "ten crops": (
        ["photo.png", "--num_crops", "10"],
        "num_crops is 10; it must be an integer from 1 to 9",
    ),
    "heat maps of a video": (["clip.mp4", "--heatmaps"], "--heatmaps works on photos only"),
    "heat maps as JSON": (["photo.png", "--heatmaps", "-o", "x.json"], "heat maps are written as"),
    "another suffix": (["photo.png", "-o", "x.mp4"], "a photo is written as"),
    "a table": (
        ["photo.png", "-o", "kp.csv"],
        "cannot write .csv files; use kp.json",
    ),
    "an address": (["gs://bucket/photo.png"], "gs://bucket/photo.png is a URL, not a local"),
    "a place at an address": (["photo.png", "-o", "s3://b/x"], "s3://b/x is a URL"),
    "subfolders alone": (["outer"], "no image or video in the folder outer; it has subfolders"),
    "over itself": (["photo.png", "-o", "."], "photo.png is an input and would be overwritten"),
    "over its boxes": (
        ["photo.png", "--boxes", "boxes.json", "-o", "./boxes.json"],
        "boxes.json contains the boxes and would be overwritten",
    ),
    "no camera": (["--webcam", "77"], "camera 77 cannot be opened"),
}


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG)
def test_what_a_person_can_do_wrong_gets_one_line(arguments, says, photo, network, capfd):
    os.mkdir("empty")
    os.makedirs("outer/inner")
    make("clip.mp4", frames=2)
    for name, text in (
        ("notes.txt", "words\n" * 99),
        ("others.csv", "b.jpg,1,2,3,4\n"),
        ("boxes.json", "{}"),
        ("sized.json", json.dumps(SIZED)),
    ):
        with open(name, "w") as file:
            file.write(text)
    assert predict(*arguments, network=network) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ")
    assert re.search(says, error)
    assert not {"kp.csv", "gs:", "s3:", "x.mp4"} & set(os.listdir())


USAGE = {
    "nothing": ([], "give photos, videos or folders, or --webcam"),
    "both": (["photo.png", "--webcam"], "or --webcam"),
    "a box of three": (["photo.png", "--box", "1,2,3"], "'1,2,3' is not a box.*--help"),
    "a box without area": (["photo.png", "--box", "1,2,0,9"], "'1,2,0,9' is not a box"),
    "box and boxes": (["photo.png", "--box", "1,2,3,4", "--boxes", "x"], "not allowed with"),
    "box and a limit": (
        ["photo.png", "--box", "1,2,3,4", "--max_persons", "1"],
        "--max_persons does not apply to given boxes",
    ),
    "a bad frequency": (["photo.png", "--smooth", "0"], "'0' is not a frequency"),
    "a negative camera": (["--webcam", "-1"], "'-1' is not the number of a camera; give 0 to 99"),
    "a camera beyond all": (["--webcam=99999999999999"], "'99999999999999' is not the number"),
    "a driver's number": (["--webcam", "200"], "'200' is not the number of a camera"),
    "a named camera": (["--webcam", "front"], "'front' is not the number of a camera"),
}


@pytest.mark.parametrize(("arguments", "says"), USAGE.values(), ids=USAGE)
def test_wrong_arguments_are_one_line_and_status_2(arguments, says, photo, network, capfd):
    assert predict(*arguments, network=network) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and re.search(says, error)


@pytest.mark.parametrize("box", [["--box", "-5,10,60,130"], ["--box=-5,10,60,130"]])
def test_a_box_may_start_left_of_the_image(photo, network, box):
    assert predict(photo, *box, "-o", "x.json", network=network) == 0
    with open("x.json") as file:
        assert json.load(file)["annotations"][0]["bbox"] == [-5, 10, 60, 130]


def test_options_may_be_spelled_with_dashes(photo, network):
    for name, option in [("a", "--flip_test"), ("b", "--flip-test"), ("c", "--json")]:
        assert predict(photo, option, "-o", f"{name}.json", network=network) == 0
    texts = [pathlib.Path(f"{name}.json").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
@pytest.mark.parametrize("name", [os.fsdecode(b"J\xfcrgen.png"), "\u65e5\u672c.png"])
def test_a_name_that_cannot_be_printed_loses_nothing(photo, network, monkeypatch, name, encoding):
    os.rename(photo, name)
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    assert predict(name, "--json", "--box", "20,30,90,150", network=network) == 0
    assert sorted(os.listdir("predictions")) == sorted(["keypoints.json", name])
    with open("predictions/keypoints.json") as file:
        assert json.load(file)["images"][0]["file_name"] == name
    assert b".png: 1 person, written to " in out.buffer.getvalue()


class ClosedPipe(io.StringIO):
    """A stdout whose reader leaves when the first results arrive."""

    def write(self, text):
        if "photo.png" in text:
            raise BrokenPipeError
        return super().write(text)


def test_the_json_is_written_before_the_results_are_printed(photo, network, monkeypatch):
    monkeypatch.setattr(sys, "stdout", ClosedPipe())
    monkeypatch.setattr(exits, "_discard_output", lambda: None)
    assert predict(photo, "--json", "--box", "20,30,90,150", network=network) == 1
    with open("predictions/keypoints.json") as file:
        assert len(json.load(file)["annotations"]) == 1


def test_a_tilde_after_an_equals_sign_is_the_home_folder(photo, network, monkeypatch, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / "boxes.csv").write_text("photo.png,20,30,90,150\n")
    arguments = ["--output=~/out", "--boxes=~/boxes.csv", "--json"]
    assert predict(photo, *arguments, network=network) == 0
    assert sorted(os.listdir(home / "out")) == ["keypoints.json", "photo.png"]
    assert cli.main(["visualize", network, photo, "--output=~/maps"]) == 0
    assert len(os.listdir(home / "maps")) == 3
    assert not os.path.exists("~")


def test_visualize_takes_no_file_for_its_folder(photo, network, capsys):
    assert cli.main(["visualize", network, photo, "-o", "maps.png"]) == 1
    assert "-o maps.png is the name of a file; give a folder" in capsys.readouterr().err
    assert not os.path.exists("maps.png")


def test_what_is_skipped_in_a_folder_is_named(photo, network, capsys):
    os.makedirs("in/more")
    for path in ("in/a.png", "in/more/b.png"):
        Image.open(photo).save(path)
    pathlib.Path("in/raw.dng").touch()
    assert predict("in", "-o", "in/out", network=network) == 0
    assert predict("in", "-o", "in/out", network=network) == 0  # its own results are no input
    line = (
        "skipped in in: subfolders (more; give them as inputs, too) and files that are neither "
        "photos nor videos (.dng)\n"
    )
    assert capsys.readouterr().err == 2 * line


def test_photos_that_differ_in_their_suffix_keep_their_heat_maps_apart(photo, network):
    Image.open(photo).save("photo.jpg")
    box = ["--box", "20,30,90,150"]
    assert predict(photo, "photo.jpg", "--heatmaps", *box, network=network) == 0
    assert sorted(os.listdir("predictions")) == [
        "photo.png", "photo_2.jpg", "photo_2_heatmaps.png", "photo_heatmaps.png"
    ]  # fmt: skip


def test_heat_maps_overwrite_no_other_photos(photo, network):
    """Names that are those of another photo's person, or of another photo itself."""
    for name in ("photo_1.png", "photo_2_heatmaps.png"):
        Image.open(photo).save(name)
    with open("boxes.csv", "w") as file:
        boxes = [("photo", 20), ("photo", 60), ("photo_1", 20), ("photo_2_heatmaps", 20)]
        file.writelines(f"{name}.png,{x},30,90,150\n" for name, x in boxes)
    photos = [photo, "photo_1.png", "photo_2_heatmaps.png"]
    assert predict(*photos, "--heatmaps", "--boxes", "boxes.csv", network=network) == 0
    assert sorted(os.listdir("predictions")) == [
        "photo.png",
        "photo_1.png",
        "photo_1_heatmaps.png",  # of the first person of photo.png
        "photo_1_heatmaps_2.png",  # of the person of photo_1.png
        "photo_2_heatmaps.png",  # the photo of that name
        "photo_2_heatmaps_2.png",  # of the second person of photo.png
        "photo_2_heatmaps_heatmaps.png",
    ]
    assert changed("predictions/photo_2_heatmaps.png", photo).mean() < 0.3


@pytest.mark.parametrize("option", ["--heatmaps", "--context"])
def test_heat_maps_overwrite_no_input(photo, network, capsys, option):
    name = f"out_{option.removeprefix('--')}"
    os.rename(photo, f"{name}.png")
    before = pathlib.Path(f"{name}.png").read_bytes()
    box = ["--box", "20,30,90,150"]
    assert predict(f"{name}.png", "-o", "out.png", option, *box, network=network) == 0
    assert pathlib.Path(f"{name}.png").read_bytes() == before
    assert f"written to out.png, {name}_2.png\n" in capsys.readouterr().out
    assert sorted(path for path in os.listdir() if path.endswith(".png")) == [
        "out.png", f"{name}.png", f"{name}_2.png"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["keypoints.json", "results.json"])
def test_a_file_of_keypoints_that_cannot_be_written_is_named(photo, network, capfd, name):
    os.makedirs(f"predictions/.new-{name}")  # in the place of the temporary file
    options = ["--json", "--results", "predictions/results.json"]
    assert predict(photo, *options, network=network) == 1
    error = f"error: predictions/{name} cannot be written (Is a directory)\n"
    assert capfd.readouterr().err == error
    assert sorted(os.listdir("predictions")) == [f".new-{name}"]


def test_damage_in_one_of_several_videos_is_said(photo, network, capfd):
    assert predict(photo, str(damaged(pathlib.Path("in.avi"))), network=network) == 0
    assert (
        "in.avi: 11 frames, written to predictions/in.mp4 (1 corrupt part skipped)"
        in capfd.readouterr().err
    )


def test_a_photo_of_more_pixels_than_pillow_takes_is_refused(photo, network, capfd, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    assert predict(photo, network=network) == 1
    assert "photo.png has more than 198 pixels; resize it" in capfd.readouterr().err


@pytest.mark.parametrize("checkpoint", ["absent.npz", "photo.png", "empty"])
def test_what_is_no_checkpoint_gets_one_line(photo, checkpoint, capfd):
    os.makedirs("empty", exist_ok=True)
    assert predict(photo, network=checkpoint) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and checkpoint in error


def test_the_default_network_is_the_better_one(photo, monkeypatch, network, capsys):
    asked = []
    monkeypatch.setattr(packed, "path", lambda name: asked.append(name) or network)
    assert cli.main(["predict", photo]) == 0
    assert asked == ["base"]


def test_a_network_without_a_calibration_says_so(photo, tmp_path, capsys):
    file = packed.pack(small_estimator.variables(), small_estimator.METADATA, tmp_path / "a.npz")
    assert predict(photo, "--box", "20,30,90,150", network=str(file)) == 0
    assert capsys.readouterr().out.count("the checkpoint is not calibrated") == 1


def test_a_detector_of_the_callers_module_finds_the_boxes(photo, network, capsys):
    with open("boxes_of_mine.py", "w") as file:
        file.write("def detect(image):\n    return [[20, 30, 90, 150], [60, 30, 90, 150]]\n")
    options = ["--detector", "boxes_of_mine:detect", "-o", "out.json"]
    assert predict(photo, *options, network=network) == 0
    with open("out.json") as file:
        found = json.load(file)["annotations"]
    assert sorted(person["bbox"][0] for person in found) == [20, 60]
    assert predict(photo, *options, "--max-persons", "1", network=network) == 0
    with open("out.json") as file:
        assert len(json.load(file)["annotations"]) == 1
    capsys.readouterr()
    for name, says in (
        ("boxes_of_mine", "is not the name of a function"),
        ("boxes_of_mine:other", "cannot be loaded"),
        ("no_such_module:f", "cannot be loaded"),
        ("boxes_of_mine:__name__", "is not a function"),
        (".boxes_of_mine:detect", "is not the name of a function"),
    ):
        assert predict(photo, "--detector", name, network=network) == 1
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def detect(image:\n", "cannot be loaded (SyntaxError: "),
        ("x = 1\ny = z\n", "cannot be loaded (NameError: name 'z' is not defined; {}, line 2)"),
        ("import no_such_module\n", "cannot be loaded (ModuleNotFoundError: No module named "),
        (
            "def detect(image):\n    return 1 / 0\n",
            "failed (ZeroDivisionError: division by zero; {}",
        ),
        ("def detect(image):\n    return [[1, 2, 0, 4]]\n", "box 1,2,0,4 has no area"),
    ],
    ids=["syntax", "name", "import", "call", "boxes"],
)
def test_what_a_detector_of_the_callers_raises_is_one_line(
    photo, network, capsys, monkeypatch, code, says
):
    monkeypatch.delitem(sys.modules, "wrong_detector", raising=False)
    importlib.invalidate_caches()
    monkeypatch.syspath_prepend(os.getcwd())
    with open("wrong_detector.py", "w") as file:
        file.write(code)
    assert predict(photo, "--detector", "wrong_detector:detect", network=network) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ")
    assert says.format(os.path.abspath("wrong_detector.py")) in error


def test_a_person_in_a_given_box_is_written_whatever_the_score(photo, tmp_path):
    """The least score is of persons that are found."""
    calibration = Calibration((-9.0,) * 16, presence=0.1, spread=0.0)
    metadata = small_estimator.METADATA._replace(calibration=calibration)
    file = packed.pack(small_estimator.variables(), metadata, tmp_path / "a.npz")
    box = ["--box", "20,30,90,150"]
    assert predict(photo, *box, "-o", "out.json", network=str(file)) == 0
    with open("out.json") as opened:
        (person,) = json.load(opened)["annotations"]
    assert person["score"] < 0.1


def test_joints_of_low_confidence_are_left_out(photo, network):
    box = ["--box", "20,30,90,150", "-o", "out.json"]
    confidence = np.sort(OPENED(network).predict(photo, [[20, 30, 90, 150]]).confidence[0])
    between = (confidence[4] + confidence[5]) / 2
    for least, left in ((0, len(TRAINED)), (between, len(TRAINED) - 5), (1, 0)):
        assert predict(photo, *box, "--min-confidence", f"{least}", network=network) == 0
        with open("out.json") as file:
            assert json.load(file)["annotations"][0]["num_keypoints"] == left
    assert predict(photo, *box, "--min-confidence", "2", network=network) == 2


def test_persons_of_a_video_have_ids(photo, network):
    make("clip.mp4", frames=3)
    boxes = ["--box", "20,30,90,150", "--box", "60,30,90,150"]
    assert predict("clip.mp4", *boxes, "-o", "out.json", network=network) == 0
    with open("out.json") as file:
        found = json.load(file)["annotations"]
    assert [person["track_id"] for person in found] == [1, 2] * 3
