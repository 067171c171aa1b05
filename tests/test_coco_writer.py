"""What is written as COCO's container and as COCO's results."""

import json
import os

import numpy as np
import pytest

from jaxpose import coco

JOINTS = ["nose", "left_eye", "right_eye"]
BOX = [10.0, 20.0, 30.0, 40.0]
POINTS = [[10.5, 11.5], [20.5, 32.0], [0.0, 0.0]]
MAKE = {
    "container": lambda path: coco.CocoWriter(
        path, joints=["a"], limbs=[], checkpoint="", threshold=0.5
    ),
    "results": lambda path: coco.ResultWriter(path, threshold=0.5),
}


def predictions(tmp_path, image_ids, **options):
    """Three joints at POINTS; the third is improbable."""
    path = tmp_path / "keypoints.json"
    options = {"threshold": 0.5, "limbs": [("nose", "left_eye")], "checkpoint": "", **options}
    with coco.CocoWriter(path, joints=JOINTS, **options) as writer:
        for number, image_id in enumerate(image_ids):
            points = np.array([[[10.5, 11.5], [20.5, 32.0], [7.25, 8.25]]])
            boxes = np.array([BOX])
            sure = np.array([[0.9, 0.5, 0.49]], np.float32)
            image = coco.WrittenImage(f"{number}.jpg", (100, 80), image_id)
            writer.add(image, points, sure, boxes)
    return path


def test_what_is_written_is_read_back(tmp_path):
    file = coco.read_coco(predictions(tmp_path, [None, "x"]))
    assert [image.id for image in file.images] == [1, "x"]
    assert (file.dropped, file.changed) == ({}, {})
    for found in file.annotations:
        np.testing.assert_array_equal(found.keypoints, POINTS)
        assert found.visibility.tolist() == [2, 2, 0]
        assert found.box.tolist() == BOX


def test_image_ids_are_kept_and_never_given_twice(tmp_path):
    path = predictions(tmp_path, [2, None, None, 2, "7"], taken=[1, 2, "3"])
    content = json.loads(path.read_text())
    assert [image["id"] for image in content["images"]] == [2, 4, 5, 6, "7"]
    assert [a["image_id"] for a in content["annotations"]] == [2, 4, 5, 6, "7"]


def test_pycocotools_matches_what_is_written_with_the_truth(tmp_path):
    """The truth as predictions scores 1; the same half a pixel off scores what OKS says."""
    pycocotools = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    truth_of = {"category_id": 1, "bbox": BOX, "iscrowd": 0, "area": 4.0, "num_keypoints": 2}
    keypoints = [10, 11, 2, 20, 31.5, 1, 0, 0, 0]
    content = {
        "images": [{"id": 1, "width": 100, "height": 80}, {"id": 2, "width": 50, "height": 60}],
        "annotations": [
            {"id": image, "image_id": image, "keypoints": keypoints, **truth_of} for image in (1, 2)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": JOINTS}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    truth = pycocotools.COCO(str(tmp_path / "truth.json"))
    written = json.loads(predictions(tmp_path, [1, 2], category=(1, "person")).read_text())

    def similarities():
        found = cocoeval.COCOeval(truth, truth.loadRes(written["annotations"]), "keypoints")
        found.params.kpt_oks_sigmas = np.full(3, 0.1)
        found.evaluate()
        return [found.ious[image, 1].item() for image in (1, 2)]

    assert similarities() == [1.0, 1.0]
    for entry in written["annotations"]:  # as if the half pixel had not been subtracted
        entry["keypoints"] = [10.5, 11.5, 2, 20.5, 32, 2, 0, 0, 0]
    expected = np.exp(-0.5 / (0.2**2 * 4.0 * 2))
    assert similarities() == pytest.approx([expected, expected], rel=1e-6)


def test_results_keep_positions_of_improbable_joints_and_the_ids_of_images(tmp_path):
    path = tmp_path / "results.json"
    points = np.array([[[10.5, 11.5], [20.25, 32.0]]])
    sure = np.array([[0.9, 0.3]], np.float32)
    with coco.ResultWriter(path, threshold=0.5, category=(3, "dog"), taken=[1]) as writer:
        for image_id in (7, "x", None):
            writer.add(
                coco.WrittenImage("a.jpg", (64, 48), image_id), points, sure, np.ones((1, 4))
            )
    found = json.loads(path.read_text())
    assert [entry["image_id"] for entry in found] == [7, "x", 2]
    for entry in found:
        assert set(entry) == {"image_id", "category_id", "keypoints", "score"}
        assert entry["category_id"] == 3 and entry["score"] == pytest.approx(0.6)
        assert entry["keypoints"] == [10, 11, 2, 19.75, 31.5, 0]


def test_a_result_file_of_nobody_is_an_empty_list(tmp_path):
    with coco.ResultWriter(tmp_path / "results.json", threshold=0.5) as writer:
        nobody = np.zeros((0, 2, 2)), np.zeros((0, 2)), np.zeros((0, 4))
        writer.add(coco.WrittenImage("a.jpg", (64, 48)), *nobody)
    assert json.loads((tmp_path / "results.json").read_text()) == []


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize("before", [0, 2])
def test_images_of_an_input_that_fails_are_removed(tmp_path, make, before):
    """The file is the one of the other images alone, and ids that were given stay unique."""
    kept = [*range(7, 7 + before), 30]

    def write(writer, image_ids):
        for image_id in image_ids:
            points = np.full((2, 1, 2), float(image_id))
            image = coco.WrittenImage("a.jpg", (64, 48), image_id)
            writer.add(image, points, np.ones((2, 1)), np.ones((2, 4)))

    with make(tmp_path / "expected.json") as writer:
        write(writer, kept)
    with make(tmp_path / "found.json") as writer:
        write(writer, kept[:-1])
        with pytest.raises(ValueError, match="stop"), writer.all_or_nothing():
            write(writer, [20, 21, 22])
            raise ValueError("stop")
        with writer.all_or_nothing():
            write(writer, [30])
    found, expected = (tmp_path / name for name in ("found.json", "expected.json"))
    assert found.read_text() == expected.read_text()


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize("images", [0, 1])
def test_ctrl_c_keeps_the_images_until_then_or_the_earlier_file(tmp_path, make, images):
    path = tmp_path / "x.json"
    path.write_text("earlier")
    with pytest.raises(KeyboardInterrupt), make(path) as writer:
        for _ in range(images):
            image = coco.WrittenImage("a.jpg", (64, 48))
            writer.add(image, np.zeros((1, 1, 2)), np.ones((1, 1)), np.ones((1, 4)))
        raise KeyboardInterrupt
    text = path.read_text()
    if images:
        content = json.loads(text)
        assert len(content["annotations"] if isinstance(content, dict) else content) == 1
    else:
        assert text == "earlier"


def test_both_writers_give_an_image_the_same_id(tmp_path):
    ids = [2, None, None, 2, "7"]
    path = predictions(tmp_path, ids, taken=[1, 2, "3"])
    written = [a["image_id"] for a in json.loads(path.read_text())["annotations"]]
    with coco.ResultWriter(tmp_path / "results.json", threshold=0.5, taken=[1, 2, "3"]) as writer:
        for image_id in ids:
            image = coco.WrittenImage("a.jpg", (64, 48), image_id)
            writer.add(image, np.ones((1, 3, 2)), np.ones((1, 3)), np.ones((1, 4)))
    found = json.loads((tmp_path / "results.json").read_text())
    assert [entry["image_id"] for entry in found] == written


def test_the_container_is_cocos(tmp_path):
    path = tmp_path / "x.json"
    described = {"limbs": [("right_eye", "left_eye")], "checkpoint": "runs/demo", "threshold": 0.5}
    people = [3.0, 300.0], [], [7.0]
    images = (
        coco.WrittenImage("a.jpg", (640, 480)),
        coco.WrittenImage('foto\u011fraf "1" \u5199\u771f.jpg', (64, 48)),
        coco.WrittenImage("c.mp4", (640, 480), frame=0, time=0.16),
    )
    with coco.CocoWriter(path, joints=JOINTS, **described) as writer:
        for image, places in zip(images, people, strict=True):
            points = np.array([[(x, 10.0), (x + 5, 20.25), (x + 2, 1.0)] for x in places])
            confidence = np.tile(np.float32([0.9, 0.2, 0.5]), (len(places), 1))
            boxes = np.array([[x, 0.0, 10.0, 30.0] for x in places])
            writer.add(image, points, confidence, boxes)
    found = json.loads(path.read_text())
    assert list(found) == ["info", "categories", "annotations", "images"]
    assert found["images"] == [
        {"id": 1, "file_name": "a.jpg", "width": 640, "height": 480},
        {"id": 2, "file_name": images[1].file_name, "width": 64, "height": 48},
        {"id": 3, "file_name": "c.mp4", "width": 640, "height": 480, "frame": 0, "time": 0.16},
    ]
    (category,) = found["categories"]
    assert category["keypoints"] == JOINTS and category["skeleton"] == [[3, 2]]
    assert [(a["id"], a["image_id"]) for a in found["annotations"]] == [(1, 1), (2, 1), (3, 3)]
    person = found["annotations"][1]
    # COCO's pixel indices; a joint of low confidence has no position
    assert person["keypoints"] == [299.5, 9.5, 2, 0, 0, 0, 301.5, 0.5, 2]
    assert person["num_keypoints"] == 2 and person["category_id"] == category["id"]
    assert person["bbox"] == [300, 0, 10, 30] and person["area"] == 300
    assert person["confidence"] == pytest.approx([0.9, 0.2, 0.5], abs=1e-4)
    assert "(0, 0) is the center of the first pixel" in found["info"]["coordinates"]
    assert "at least 0.5; otherwise v, x and y are 0" in found["info"]["visibility"]
    assert found["info"]["checkpoint"] == "runs/demo"


def test_no_image_is_an_empty_container(tmp_path):
    with MAKE["container"](tmp_path / "x.json"):
        pass
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["images"] == found["annotations"] == []


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize("earlier", [False, True])
def test_an_error_leaves_the_file_that_was_there(tmp_path, make, earlier):
    path = tmp_path / "x.json"
    if earlier:
        path.write_text("earlier")
    with pytest.raises(ValueError, match="stop"), make(path) as writer:
        image = coco.WrittenImage("a.jpg", (64, 48))
        writer.add(image, np.ones((1, 1, 2)), np.ones((1, 1)), np.ones((1, 4)))
        raise ValueError("stop")
    assert os.listdir(tmp_path) == ["x.json"] * earlier
    assert not earlier or path.read_text() == "earlier"


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_file_with_the_longest_name_is_written(make, tmp_path):
    path = tmp_path / f"{'é' * 125}.json"  # 255 bytes
    with make(path):
        pass
    assert json.loads(path.read_text()) is not None


@pytest.mark.parametrize("threshold", [0.0, 0.5])
@pytest.mark.parametrize("writer", ["container", "results"])
def test_joints_that_are_not_finite_are_written_as_absent(tmp_path, writer, threshold):
    path = tmp_path / "keypoints.json"
    options = {"joints": JOINTS, "limbs": [], "checkpoint": ""} if writer == "container" else {}
    make = {"container": coco.CocoWriter, "results": coco.ResultWriter}[writer]
    points = np.array([[[10.5, 11.5], [np.nan, 32.0], [7.25, np.inf]]])
    with make(path, threshold=threshold, **options) as written:
        sure = np.array([[0.9, 0.8, 0.7]])
        written.add(coco.WrittenImage("a.jpg", (100, 80)), points, sure, np.array([BOX]))
        sure = np.array([[np.nan, 0.8, 0.7]])
        written.add(coco.WrittenImage("b.jpg", (100, 80)), points, sure, np.array([BOX]))

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads(path.read_text(), parse_constant=refuse)
    first, second = content["annotations"] if writer == "container" else content
    assert first["keypoints"] == [10, 11, 2, 0, 0, 0, 0, 0, 0]
    assert second["keypoints"] == [0] * 9
    assert (first["score"], second["score"]) == (pytest.approx(0.3), 0)
