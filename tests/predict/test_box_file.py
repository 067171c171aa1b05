"""Boxes that people and detectors write into files."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxpose import coco
from jaxpose.errors import JaxposeError
from jaxpose.predict.box_file import BoxFile
from jaxpose.predict.images import as_image


def boxes_of(tmp_path, text, name="boxes.txt"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return BoxFile(tmp_path / name)


LINES = "file,x,y,width,height\na.jpg,1,2,30,40\nb.jpg,5,6,70.5,80\na.jpg,9,9,9,9\n"


@pytest.mark.parametrize("text", [LINES, LINES.split("\n", 1)[1], "\ufeff" + LINES])
def test_lines_hold_boxes(tmp_path, text):
    found = boxes_of(tmp_path, text)
    assert found.of("images/a.jpg")[0].tolist() == [[1, 2, 30, 40], [9, 9, 9, 9]]
    assert found.of("b.jpg")[0].tolist() == [[5, 6, 70.5, 80]]
    assert found.of("c.jpg") is None


def test_an_object_holds_boxes(tmp_path):
    found = boxes_of(tmp_path, '{"a.jpg": [[1, 2, 3, 4]], "b.jpg": []}')
    assert found.of("a.jpg")[0].tolist() == [[1, 2, 3, 4]]
    assert found.of("b.jpg")[0].shape == (0, 4)


def test_the_boxes_of_our_own_json_come_back(tmp_path):
    entries = [
        (coco.WrittenImage("photos/a.jpg", (640, 480)), [[3, 0, 10, 30], [300, 0, 10, 30]]),
        (coco.WrittenImage("c.mp4", (640, 480), frame=4), [[7, 0, 10, 30]]),
        (coco.WrittenImage("c.mp4", (640, 480), frame=5), np.zeros((0, 4))),
    ]
    described = {"joints": ["head"], "limbs": [], "checkpoint": "", "threshold": 0.5}
    with coco.CocoWriter(tmp_path / "x.json", **described) as writer:
        for image, boxes in entries:
            count = len(boxes)
            writer.add(image, np.ones((count, 1, 2)), np.ones((count, 1)), np.array(boxes))
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
        ("a.jpg,1,2,3,4\na.jpg,1,2,x,4\n", "line 2 has a box that is not four numbers"),
        ("a.jpg,1,2,3O,4\na.jpg,1,2,3,4\n", "line 1 has a box that is not four numbers"),
        ("a.jpg,1,2,0,4\n", "a.jpg: box 1,2,0,4 has no area"),
        ('{"a.jpg": [[1, 2, 3]]}', "a.jpg: boxes have shape"),
        (
            '{"a.jpg": [[1' + "0" * 400 + ", 2, 3, 4]]}",
            "a.jpg: a box has a number that is too large",
        ),
        ('{"a.jpg": ', "is not valid JSON"),
        ('{"a.jpg": [], "a.jpg": [[1, 2, 3, 4]]}', "has the key 'a.jpg' twice"),
        ("[1, 2]", r"results\[0\] is a number without an image_id"),
        ('{"annotations": []}', "there is no 'images'"),
        (",1,2,3,4\n", "boxes without a file name"),
    ],
)
def test_bad_boxes_are_named(tmp_path, text, says):
    with pytest.raises(JaxposeError, match=says):
        boxes_of(tmp_path, text)


def as_coco(*annotations, names=("a.jpg", "b.jpg")):
    images = [{"id": f"im{n}", "file_name": name} for n, name in enumerate(names)]
    entries = [{"id": n, "category_id": 1, **entry} for n, entry in enumerate(annotations)]
    categories = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    return json.dumps({"images": images, "annotations": entries, "categories": categories})


BOXES = ((1, 7), (2, 8), (3, 7))


def test_what_is_not_a_person_is_left_out_and_listed(tmp_path):
    one = {"image_id": "im0", "bbox": [1, 2, 30, 40]}
    unusable = [
        {**one, "category_id": 3},
        {**one, "iscrowd": 1},
        {**one, "ignore": 1},
        {**one, "image_id": "im7"},
        {**one, "bbox": [1, 2, 0, 40]},
        {"image_id": "im1"},
    ]
    found = boxes_of(tmp_path, as_coco(*unusable, one))
    assert found.of("a.jpg")[0].tolist() == [[1, 2, 30, 40]]
    assert found.of("b.jpg")[0].shape == (0, 4)
    assert found.dropped == {
        "image_id that is not in images": ["annotations[3]"],
        "of another category": ["annotations[0]"],
        "marked iscrowd": ["annotations[1]"],
        "marked ignore": ["annotations[2]"],
        "no usable box": ["annotations[4]", "annotations[5]"],
    }


def test_an_image_that_is_listed_under_two_ids_has_the_boxes_of_both(tmp_path):
    entries = [{"image_id": f"im{n}", "bbox": [n, 2, 30, 40]} for n in (0, 1)]
    found = boxes_of(tmp_path, as_coco(*entries, names=("a.jpg", "./a.jpg")))
    assert found.of("a.jpg")[0].tolist() == [[0, 2, 30, 40], [1, 2, 30, 40]]


def test_a_box_out_of_the_keypoints_is_listed(tmp_path):
    entry = {"image_id": "im0", "keypoints": [1, 2, 2, 11, 22, 2]}
    content = json.loads(as_coco(entry))
    content["categories"][0]["keypoints"] = ["nose", "neck"]
    found = boxes_of(tmp_path, json.dumps(content))
    assert found.of("a.jpg")[0].tolist() == [[1.5, 2.5, 10, 20]]
    assert (
        found.changed == {"no usable box (the box of the keypoints is used)": ["annotations[0]"]}
        and not found.dropped
    )


def test_results_name_images_by_their_ids(tmp_path):
    box = {"category_id": 1, "bbox": [1, 2, 3, 4]}
    entries = [{"image_id": 139, **box}, {"image_id": "left one", **box}, {"image_id": 5, **box}]
    entries[2]["file_name"] = "photos/a.jpg"
    found = boxes_of(tmp_path, json.dumps(entries))
    for path in ("val/000000000139.jpg", "139.png", "left one.jpg", "photos/a.jpg"):
        assert found.of(path)[0].tolist() == [[1, 2, 3, 4]]
    assert found.of("5.jpg") is None
    assert "139 is 139.jpg or 000000000139.jpg" in found.unmatched(["5.jpg"])


@pytest.mark.parametrize("ids", [("beach", "street"), (2**60, 2**60 + 1), ("007", "08")])
def test_each_image_id_has_its_own_boxes(tmp_path, ids):
    boxes = [[1.0, 2.0, 30.0, 40.0], [100.0, 200.0, 50.0, 60.0]]
    entries = [
        {"image_id": name, "category_id": 1, "bbox": box}
        for name, box in zip(ids, boxes, strict=True)
    ]
    found = boxes_of(tmp_path, json.dumps(entries))
    assert [found.of(f"{name}.jpg")[0].tolist() for name in ids] == [[box] for box in boxes]
    assert [found.image(f"{name}.jpg").id for name in ids] == list(ids)
    assert found.of("other.jpg") is None and "other.jpg" in found.unmatched(["other.jpg"])


def test_inputs_that_no_entry_matches_are_named(tmp_path):
    found = boxes_of(tmp_path, "/x/one/a.jpg,1,2,3,4\n/x/two/a.jpg,1,2,3,4\nb.jpg,1,2,3,4\n")
    assert found.unmatched(["b.jpg"]) == ""
    assert found.unmatched(["b.jpg", "c.jpg"]).endswith(" has no boxes for 1 of 2 inputs: c.jpg")
    line = found.unmatched([f"{n}.jpg" for n in range(9)])
    assert line.endswith("for 9 of 9 inputs: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, ...")
    line = found.unmatched(["three/a.jpg"])
    assert line.endswith(
        "(three/a.jpg matches several names in the file: /x/one/a.jpg and /x/two/a.jpg)"
    )


def test_boxes_of_another_folder_are_not_taken_where_the_right_one_is_an_input(tmp_path):
    (tmp_path / "boxes.csv").write_text("/x/train/a.jpg,1,2,3,4\n")
    found = BoxFile(tmp_path / "boxes.csv", ["train/a.jpg", "val/a.jpg"])
    assert found.of("train/a.jpg") and found.of("val/a.jpg") is None


def test_coco_entries_of_images_are_handed_out(tmp_path):
    found = boxes_of(tmp_path, as_coco(names=("set/a.jpg", "b.jpg")))
    assert found.image("set/a.jpg").id == "im0" and found.image("c.jpg") is None
    assert found.category == (1, "person") and found.image_ids == ("im0", "im1")
    without = boxes_of(tmp_path, LINES)
    assert without.image("a.jpg") is None and without.category == (1, "")


def test_a_photo_has_the_boxes_of_its_entry_whatever_its_frame(tmp_path):
    """Such as frames of a video that a tool wrote as photos, with their numbers."""
    content = json.loads(as_coco(*({"image_id": i, "bbox": [n, 2, 30, 40]} for n, i in BOXES)))
    content["images"] = [
        {"id": 7, "file_name": "f17.jpg", "frame": 17},
        {"id": 8, "file_name": "f18.jpg", "frame": 18},
    ]
    found = boxes_of(tmp_path, json.dumps(content))
    assert found.of_photo("f17.jpg", (90, 90)).tolist() == [[1, 2, 30, 40], [3, 2, 30, 40]]
    assert found.image("f17.jpg").id == 7 and found.image("f18.jpg").id == 8
    assert found.image("f17.jpg", 17).id == 7 and found.image("f17.jpg", 0) is None
    assert found.of_photo("other.jpg", (90, 90)).shape == (0, 4)


def sized(tmp_path, width, height, frame=0):
    content = json.loads(as_coco({"image_id": "im0", "bbox": [10, 20, 30, 40]}, names=["a.jpg"]))
    content["images"][0] |= {"width": width, "height": height, "frame": frame}
    return boxes_of(tmp_path, json.dumps(content))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((80, 100), [10, 20, 30, 40]),  # of the upright photo
        ((100, 80), [20, 10, 40, 30]),  # of the stored one: turned clockwise
    ],
)
def test_boxes_of_a_rotated_photo_move_to_the_upright_photo(tmp_path, size, expected):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 80)).save(tmp_path / "a.jpg", exif=exif)
    upright = as_image(tmp_path / "a.jpg").shape[1::-1]
    assert upright == (80, 100)
    assert sized(tmp_path, *size).of_photo(tmp_path / "a.jpg", upright).tolist() == [expected]


def test_boxes_for_another_size_are_refused(tmp_path):
    Image.new("RGB", (100, 80)).save(tmp_path / "a.jpg")
    says = r"a.jpg has 100x80 pixels, but .* gives boxes for {}; give boxes for this size"
    for width, height in ((1000, 800), (80, 100)):
        found = sized(tmp_path, width, height)
        with pytest.raises(JaxposeError, match=says.format(f"{width}x{height}")):
            found.of_photo(tmp_path / "a.jpg", (100, 80))
    found = sized(tmp_path, 1000, 800, frame=3)
    found.check_frame("a.jpg", 2, (100, 80))  # has no boxes
    found.check_frame("a.jpg", 3, (1000, 800))
    with pytest.raises(JaxposeError, match="frame 3 of " + says.format("1000x800")):
        found.check_frame("a.jpg", 3, (100, 80))


def test_a_missing_file_of_boxes_is_named(tmp_path):
    with pytest.raises(JaxposeError, match="cannot read .*absent.csv: No such file"):
        BoxFile(tmp_path / "absent.csv")
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(JaxposeError, match="it is not a text file"):
        BoxFile(tmp_path / "x.npz")
