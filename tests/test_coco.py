"""COCO's JSON: unusual and damaged files, and file names of labeling tools."""

import copy
import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxpose import coco
from jaxpose.errors import JaxposeError
from tfds_builders.image_files import TRANSPOSE

JOINTS = ["nose", "left_eye", "right_eye"]
BOX = [10.0, 20.0, 30.0, 40.0]
FILE = {
    "images": [
        {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80},
        {"id": 2, "file_name": "b.jpg", "width": 50, "height": 60},
    ],
    "annotations": [
        {"id": n, "image_id": image, "category_id": 1, "bbox": BOX, "iscrowd": 0, "area": 600,
         "keypoints": [10, 11, 2, 20, 31.5, 1, 0, 0, 0], "segmentation": [[1, 2, 3, 4, 5, 6]]}
        for n, image in ((11, 1), (12, 1), (13, 2))
    ],
    "categories": [
        {"id": 1, "name": "person", "keypoints": JOINTS, "skeleton": [[1, 2], [1, 3]]},
        {"id": 3, "name": "car"},
    ],
}  # fmt: skip
ALL = ["annotations[0]", "annotations[1]", "annotations[2]"]
POINTS = [[10.5, 11.5], [20.5, 32.0], [0.0, 0.0]]


def write(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def mutated(key, index, **changes):
    """The file with one entry's fields set, or removed where the new value is ...."""
    content = copy.deepcopy(FILE)
    for field, value in changes.items():
        if value is ...:
            del content[key][index][field]
        else:
            content[key][index][field] = value
    return content


def replaced(key, index, *entries):
    """The file with other entries in place of one."""
    content = copy.deepcopy(FILE)
    content[key][index : index + 1] = entries
    return content


def annotation(**changes):
    return mutated("annotations", 1, **changes)


def test_an_ordinary_file_is_read_completely(tmp_path):
    file = coco.read_coco(write(tmp_path, FILE))
    assert [(i.id, i.file_name, i.size, i.frame) for i in file.images] == [
        (1, "a.jpg", (100, 80), 0),
        (2, "b.jpg", (50, 60), 0),
    ]
    person, car = file.categories
    assert person == (1, "person", tuple(JOINTS), (("nose", "left_eye"), ("nose", "right_eye")))
    assert car == (3, "car", (), ())
    first = file.annotations[0]
    assert (first.id, first.image, first.category, first.area) == (11, file.images[0], person, 600)
    assert not first.crowd and not first.ignore and first.score is None
    np.testing.assert_array_equal(first.box, BOX)
    # An index means the center of its pixel; what is not labeled is 0.
    np.testing.assert_array_equal(first.keypoints, POINTS)
    np.testing.assert_array_equal(first.visibility, [2, 1, 0])
    assert (file.dropped, file.changed, file.results) == ({}, {}, False)


# What is kept of each mutated file, and the reason for each entry that is not.
TOLERATED = {
    "id as text": (annotation(image_id="1"), {}),
    "all ids as text": (
        json.loads(json.dumps(FILE).replace('"id": 1,', '"id": "1",')),
        {},
    ),
    "id with a fraction of zero": (annotation(image_id=1.0), {}),
    "category id as text": (annotation(category_id="1"), {}),
    "RLE as counts": (annotation(segmentation={"counts": [3, 5], "size": [4, 2]}), {}),
    "compressed RLE": (annotation(segmentation={"counts": "04e0", "size": [4, 2]}), {}),
    "segmentation missing": (annotation(segmentation=...), {}),
    "area missing": (annotation(area=...), {}),
    "area as words": (annotation(area="big"), {}),
    "iscrowd missing": (annotation(iscrowd=...), {}),
    "numbers as text": (annotation(bbox=["10", "20", "30", "40"]), {}),
    "annotation id missing": (annotation(id=...), {}),
    "v with a fraction of zero": (annotation(keypoints=[10, 11, 2.0, 20, 31.5, 1.0, 0, 0, 0]), {}),
    "nested keypoints": (annotation(keypoints=[[10, 11, 2], [20, 31.5, 1], [0, 0, 0]]), {}),
    "crowd": (annotation(iscrowd=1), {"marked iscrowd": ALL[1:2]}),
    "crowd as a boolean": (annotation(iscrowd=True), {"marked iscrowd": ALL[1:2]}),
    "ignore": (annotation(ignore=1), {"marked ignore": ALL[1:2]}),
    "other category": (annotation(category_id=3), {"of another category": ALL[1:2]}),
    "unlisted category": (
        annotation(category_id=7),
        {"category_id missing or not in categories": ALL[1:2]},
    ),
    "category missing": (
        annotation(category_id=...),
        {"category_id missing or not in categories": ALL[1:2]},
    ),
    "unlisted image": (annotation(image_id=7), {"image_id that is not in images": ALL[1:2]}),
    "image id missing": (annotation(image_id=...), {"no image_id": ALL[1:2]}),
    "image id null": (annotation(image_id=None), {"no image_id": ALL[1:2]}),
    "not an object": (replaced("annotations", 1, [1, 2]), {"not an object": ALL[1:2]}),
    "listed twice": (
        replaced("annotations", 1, *FILE["annotations"][1:2] * 2),
        {"duplicate annotation": ["annotations[2]"]},
    ),
    "annotation nested in a list": (
        replaced("annotations", 1, [FILE["annotations"][1]]),
        {"not an object": ALL[1:2]},
    ),
    "image without a name": (
        mutated("images", 1, file_name=...),
        {"image without a file name": ["images[1]"], "image_id that is not in images": ALL[2:]},
    ),
    "image without an id": (
        mutated("images", 1, id=...),
        {"image without an id": ["images[1]"], "image_id that is not in images": ALL[2:]},
    ),
    "image with a frame of null": (mutated("images", 1, frame=None), {}),
    "image with a bad frame": (
        mutated("images", 1, frame="last"),
        {
            "image with an invalid frame number": ["images[1]"],
            "image_id that is not in images": ALL[2:],
        },
    ),
    "image that is a name": (
        replaced("images", 1, "b.jpg"),
        {"not an object": ["images[1]"], "image_id that is not in images": ALL[2:]},
    ),
    "image listed twice": (
        replaced("images", 1, FILE["images"][1], FILE["images"][1]),
        {"duplicate image": ["images[2]"]},
    ),
    "category without a name": (
        mutated("categories", 1, name=None),
        {"category without an id or without a name": ["categories[1]"]},
    ),
    "limb of a joint that is not there": (
        mutated("categories", 0, skeleton=[[1, 2], [1, 9], [1, 3], [2]]),
        {
            "limb that does not connect two keypoints": [
                "categories[0].skeleton[1]",
                "categories[0].skeleton[3]",
            ]
        },
    ),
    "limbs counted from 0": (mutated("categories", 0, skeleton=[[0, 1], [0, 2]]), {}),
    "limbs by name": (
        mutated("categories", 0, skeleton=[["nose", "left_eye"], ["nose", "right_eye"]]),
        {},
    ),
}
BAD_KEYPOINTS = {
    "keypoints cut off": ([10, 11, 2, 20], "4 keypoint values, not 3 x 3"),
    "keypoints of another set": ([1, 1, 2] * 17, "51 keypoint values, not 3 x 3"),
    "keypoints as text": ("10 11 2", "keypoints are text, not a list"),
    "keypoints by name": ({"nose": [10, 11, 2]}, "keypoints are an object, not a list"),
    "unknown v": ([10, 11, 2, 20, 31, 3, 0, 0, 0], "keypoint 2 has a v that is not 0, 1 or 2"),
    "v null": ([10, 11, 2, 20, 31, None, 0, 0, 0], "keypoint 2 has a v that is not 0, 1 or 2"),
}
BAD_BOXES = {
    "no box": ...,
    "empty box": [],
    "box without width": [10, 20, 0, 40],
    "negative height": [10, 20, 30, -1],
    "box cut off": [10, 20, 30],
    "box as text": "10,20,30,40",
    "box of nulls": [None] * 4,
    "nested box": [[10, 20, 30, 40]],
    "box of infinity": [10, 20, float("inf"), 40],
    "box of NaN": [10, float("nan"), 30, 40],
    "box beyond float64": [10**400, 20, 30, 40],
}
REFUSED = {
    "cut off": (json.dumps(FILE)[:300], r"not valid JSON: .* at line 1, column \d+"),
    "empty": ("", "not valid JSON"),
    "nested without end": ("[" * 100_000, "nested too deeply"),
    "key given twice": (
        '{"images": [], "annotations": [{"id": 7, "bbox": 1, "bbox": 2}]}',
        "the one with the id 7.* has the key 'bbox' twice",
    ),
    "integer of 5000 digits": ('{"annotations": [' + "1" * 5000 + "]}", "cannot be used: .*digits"),
    "a number": ("3", "it contains a number"),
    "list of numbers": ("[1, 2]", r"results\[0\] is a number without an image_id"),
    "no images": ({"annotations": []}, "there is no 'images'; give COCO's JSON"),
    "no annotations": ({"images": []}, "there is no 'annotations'"),
    "annotations by id": ({**FILE, "annotations": {"11": {}}}, "'annotations' is an object"),
    "images null": ({**FILE, "images": None}, "'images' is null"),
    "categories as names": ({**FILE, "categories": ["person"]}, "no entry of 'categories'"),
    "two images with one id": (mutated("images", 1, id="1"), r"images\[1\] has the same id 1"),
    "two categories with one id": (
        mutated("categories", 1, id=1),
        r"categories\[1\] has the same id 1",
    ),
    "joint given twice": (
        mutated("categories", 0, keypoints=["nose", "eye", "eye"]),
        r"categories\[0\] has the keypoint 'eye' twice",
    ),
    "joints as text": (
        mutated("categories", 0, keypoints="nose,eye"),
        r"categories\[0\] has keypoints that are not a list of names",
    ),
}


@pytest.mark.parametrize(("content", "dropped"), TOLERATED.values(), ids=TOLERATED)
def test_one_unusual_entry_spoils_no_other(tmp_path, content, dropped):
    file = coco.read_coco(write(tmp_path, content))
    chosen = coco.select(file, needs=("box", "keypoints"))
    assert chosen.dropped == dropped
    assert file.changed == {}
    lost = {entry for entries in dropped.values() for entry in entries}
    names = [f"annotations[{n}]" for n in range(len(content["annotations"]))]
    assert [a.name for a in chosen.annotations] == [name for name in names if name not in lost]
    for kept in chosen.annotations:
        np.testing.assert_array_equal(kept.box, BOX)
        np.testing.assert_array_equal(kept.keypoints, POINTS)
        assert kept.visibility.tolist() == [2, 1, 0]
        assert kept.category.limbs == (("nose", "left_eye"), ("nose", "right_eye"))


@pytest.mark.parametrize(("value", "problem"), BAD_KEYPOINTS.values(), ids=BAD_KEYPOINTS)
def test_unusable_keypoints_are_named_and_leave_the_box(tmp_path, value, problem):
    file = coco.read_coco(write(tmp_path, annotation(keypoints=value)))
    dropped = coco.select(file, needs=("keypoints",)).dropped
    assert dropped == {"no usable keypoints": [f"annotations[1] ({problem})"]}
    assert len(coco.select(file, needs=("box",)).annotations) == 3


@pytest.mark.parametrize("bbox", BAD_BOXES.values(), ids=BAD_BOXES)
def test_unusable_boxes_are_those_of_the_keypoints_or_named(tmp_path, bbox):
    file = coco.read_coco(write(tmp_path, annotation(bbox=bbox)))
    assert file.changed == {"no usable box (the box of the keypoints is used)": ["annotations[1]"]}
    np.testing.assert_array_equal(file.annotations[1].box, [10.5, 11.5, 10, 20.5])
    content = annotation(bbox=bbox, keypoints=...)
    chosen = coco.select(coco.read_coco(write(tmp_path, content)))
    assert chosen.dropped == {"no usable box": ["annotations[1]"]}
    assert [a.name for a in chosen.annotations] == ["annotations[0]", "annotations[2]"]


@pytest.mark.parametrize("bbox", [..., [50, 10, 0, 80], [0, 0, 0, 0]])
@pytest.mark.parametrize(
    ("keypoints", "box"),
    [
        ([50, 10, 2, 50, 90, 2, 0, 0, 0], [50, 10.5, 1, 80]),
        ([50, 10, 2, 90, 10, 1, 70, 10, 2], [50.5, 10, 40, 1]),
        ([50, 10, 2, 50.25, 90, 2, 0, 0, 0], [50.125, 10.5, 1, 80]),
        ([50, 10, 2, 51.5, 90, 2, 0, 0, 0], [50.5, 10.5, 1.5, 80]),
        ([50, 10, 2, 0, 0, 0, 0, 0, 0], None),
        ([50, 10, 2, 50, 10, 2, 50, 10, 2], None),
    ],
)
def test_joints_on_a_vertical_or_horizontal_line_have_a_box(tmp_path, keypoints, box, bbox):
    file = coco.read_coco(write(tmp_path, annotation(bbox=bbox, keypoints=keypoints)))
    chosen = coco.select(file, needs=("box", "keypoints"))
    if box is None:  # a single position has no extent
        assert chosen.dropped == {"no usable box": ALL[1:2]} and not chosen.changed
    else:
        assert chosen.annotations[1].box.tolist() == box and not chosen.dropped
        assert chosen.changed == {coco.KEYPOINT_BOX: ALL[1:2]}


@pytest.mark.parametrize("field", ["bbox", "keypoints"])
def test_changes_are_those_of_the_selected_annotations(tmp_path, field):
    content = copy.deepcopy(FILE)
    value = {"bbox": ..., "keypoints": [None, 11, 2, 20, 31.5, 1, 0, 0, 0]}[field]
    for entry in content["annotations"]:
        if value is ...:
            del entry[field]
        else:
            entry[field] = value
    content["annotations"][1]["iscrowd"] = 1
    content["annotations"][2]["category_id"] = 3
    content["categories"][1]["keypoints"] = JOINTS
    file = coco.read_coco(write(tmp_path, content))
    (reason,) = file.changed
    assert len(file.changed[reason]) == 3
    assert coco.select(file).changed == {reason: file.changed[reason][:1]}
    assert coco.select(file, category="car").changed == {reason: file.changed[reason][2:]}


@pytest.mark.parametrize(
    ("changes", "reason", "intact"),
    [
        ({"keypoints": []}, "no labeled keypoints", True),
        ({"keypoints": ...}, "no labeled keypoints", True),
        ({"keypoints": [0] * 9, "bbox": [0, 0, 0, 0]}, "no labeled keypoints", True),
        ({"keypoints": [9, 9, 2] + [0] * 6, "bbox": [9, 9, 0, 0]}, "no usable box", False),
        ({"keypoints": [9, 9]}, "no usable keypoints", False),
        ({"iscrowd": 1, "bbox": ..., "keypoints": ...}, "marked iscrowd", True),
        ({"ignore": 1}, "marked ignore", True),
        ({"category_id": 3}, "of another category", True),
        ({"image_id": 9}, "image_id that is not in images", False),
    ],
)
def test_reasons_of_intact_annotations_are_told_from_those_of_damaged_ones(
    tmp_path, changes, reason, intact
):
    file = coco.read_coco(write(tmp_path, annotation(**changes)))
    assert [*coco.select(file, needs=("box", "keypoints")).dropped] == [reason]
    assert (reason in coco.INTACT_REASONS) == intact


@pytest.mark.parametrize(("content", "says"), REFUSED.values(), ids=REFUSED)
def test_an_unusable_file_gets_one_line(tmp_path, content, says):
    with pytest.raises(JaxposeError, match=says) as raised:
        coco.read_coco(write(tmp_path, content))
    assert "x.json" in str(raised.value) and "\n" not in str(raised.value)


def test_files_that_are_no_text_get_one_line(tmp_path):
    with pytest.raises(JaxposeError, match="cannot read .*absent.json: No such file"):
        coco.read_coco(tmp_path / "absent.json")
    (tmp_path / "x.json").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(JaxposeError, match="it is not a text file"):
        coco.read_coco(tmp_path / "x.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_other_encodings_are_read(tmp_path, encoding):
    (tmp_path / "x.json").write_bytes(json.dumps(FILE).encode(encoding))
    assert len(coco.read_coco(tmp_path / "x.json").annotations) == 3


def test_keypoints_without_v_are_labeled_where_they_are_not_zero(tmp_path):
    file = coco.read_coco(write(tmp_path, annotation(keypoints=[10, 11, 0, 7, 0, 0])))
    assert file.annotations[1].visibility.tolist() == [2, 2, 0]
    assert file.annotations[1].keypoints.tolist() == [[10.5, 11.5], [0.5, 7.5], [0, 0]]
    assert file.changed == {"keypoints without v (labeled unless at (0, 0))": ["annotations[1]"]}


def test_a_keypoint_without_a_position_is_not_labeled(tmp_path):
    keypoints = [10, 11, 2, None, 31.5, 1, 0, 0, 0]
    file = coco.read_coco(write(tmp_path, annotation(keypoints=keypoints)))
    assert file.annotations[1].visibility.tolist() == [2, 0, 0]
    reason = "keypoint without a position (not labeled)"
    assert file.changed == {reason: ["annotations[1].keypoints[3]"]}


def test_unlabeled_joints_are_zero_whatever_the_file_says(tmp_path):
    file = coco.read_coco(write(tmp_path, annotation(keypoints=[1, 1, 2, 1, 2, 2, 7, 7, 0])))
    assert file.annotations[1].keypoints[2].tolist() == [0, 0]


def test_joints_named_by_numbers_keep_the_limbs_of_their_positions(tmp_path):
    content = mutated("categories", 0, keypoints=["3", "1", "2"], skeleton=[[1, 2]])
    assert coco.read_coco(write(tmp_path, content)).categories[0].limbs == (("3", "1"),)


ANIMALS = [{"id": 1, "name": "dog", "keypoints": JOINTS}, {"id": 3, "name": "cat"}]


@pytest.mark.parametrize(
    ("categories", "asked", "name"),
    [
        (FILE["categories"], None, "person"),
        ([{"id": 3, "name": "Person"}, {"id": 1, "name": "dog"}], None, "Person"),
        (ANIMALS, None, "dog"),  # the one with keypoints
        ([{"id": 1, "name": "a"}, {"id": 9, "name": "b"}], None, "a"),  # the one that is used
        (ANIMALS, "CAT", "cat"),
    ],
)
def test_the_category_is_chosen_by_name_keypoints_or_use(tmp_path, categories, asked, name):
    content = {**FILE, "categories": categories}
    chosen = coco.select(coco.read_coco(write(tmp_path, content)), category=asked, needs=())
    assert chosen.category.name == name


def test_a_category_that_cannot_be_chosen_is_named(tmp_path):
    content = annotation(category_id=3)
    content["categories"] = [{"id": 1, "name": "dog"}, {"id": 3, "name": "cat"}]
    file = coco.read_coco(write(tmp_path, content))
    with pytest.raises(JaxposeError, match="has the categories 'dog', 'cat'; rename one"):
        coco.select(file)
    with pytest.raises(JaxposeError, match="has no category 'bird'; it has 'dog', 'cat'"):
        coco.select(file, category="bird")


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (100, 80, (100, 80)),
        (100.0, "80", (100, 80)),
        (0, 80, None),
        (-100, 80, None),
        (100, ..., None),
    ],
)
def test_a_size_that_no_image_can_have_counts_as_missing(tmp_path, width, height, size):
    path = write(tmp_path, mutated("images", 0, width=width, height=height))
    assert coco.read_coco(path).images[0].size == size


@pytest.mark.parametrize(
    ("listed", "orientation", "found"),
    [
        (None, 6, 1),
        ((80, 100), 6, 1),
        ((100, 80), 6, 6),
        ((100, 80), 8, 8),
        ((100, 80), 3, None),
        ((100, 80), None, None),
        ((1000, 800), 6, None),
    ],
)
def test_the_size_in_the_file_tells_the_frame_of_the_labels(listed, orientation, found):
    assert coco.label_orientation(listed, (80, 100), orientation) == found


@pytest.mark.parametrize("orientation", [1, 5, 6, 7, 8])
def test_points_turn_like_the_image(orientation):
    stored = np.zeros((3, 5), np.uint8)
    stored[1, 4] = 255
    upright = Image.fromarray(stored)
    if orientation != 1:
        upright = upright.transpose(TRANSPOSE[orientation])
    ((row, column),) = np.argwhere(np.asarray(upright))
    center = coco.upright_points(np.array([4.5, 1.5]), orientation, (5, 3))
    np.testing.assert_array_equal(center, [column + 0.5, row + 0.5])
    box = coco.upright_box(np.array([4.0, 1, 1, 1]), orientation, (5, 3))
    np.testing.assert_array_equal(box, [column, row, 1, 1])


@pytest.mark.parametrize(
    "value", [7, -7, 10**30, "7", "0012", "a", "null", "1.5", '"', "ü", "\udcfc"]
)
def test_ids_keep_their_type_as_text(value):
    assert coco.id_from_text(coco.id_to_text(value)) == value
    assert coco.id_to_text(7.0) == "7"


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("0012", "0012"), ("a", "a"), ("1.5", "1.5"), ("null", "null")]
)
def test_ids_of_data_sets_prepared_earlier_are_words_without_quotes(text, value):
    assert coco.id_from_text(text) == value


def test_results_are_read_by_image_id(tmp_path):
    results = [
        {"image_id": 7, "category_id": 1, "bbox": BOX, "score": 0.9},
        {"image_id": "7", "category_id": 3, "bbox": BOX, "score": 0.8},
        {"image_id": 8, "category_id": 1, "keypoints": [1, 1, 0.3, 5, 9, 1, 0, 0, 0], "score": 1},
        "nothing",
    ]
    file = coco.read_coco(write(tmp_path, results))
    chosen = coco.select(file)
    assert file.results and [image.id for image in file.images] == [7, 8]
    assert [a.name for a in chosen.annotations] == ["results[0]", "results[2]"]
    assert chosen.dropped == {
        "not an object": ["results[3]"],
        "of another category": ["results[1]"],
    }
    assert chosen.annotations[0].score == 0.9
    assert chosen.annotations[1].box.tolist() == [1.5, 1.5, 4, 8]


@pytest.mark.parametrize(
    ("name", "persons", "ignored"), [("coco_persons", 2368, 1968), ("parse_persons", 202, 0)]
)
def test_real_files_hold_the_persons_that_their_readmes_count(shared, name, persons, ignored):
    file = coco.read_coco(shared / "data" / name / "person_keypoints.json")
    chosen = coco.select(file, needs=("box", "keypoints"))
    assert len(chosen.annotations) == persons and not file.changed
    assert {reason: len(names) for reason, names in chosen.dropped.items()} == (
        {"marked ignore": ignored} if ignored else {}
    )
    found, lacking = coco.find_files(
        [image.file_name for image in file.images], shared / "data" / name / "images"
    )
    assert len(found) == len(file.images) and not lacking


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 20) | st.floats() | st.sampled_from(["1", "a.jpg"]),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=12,
)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_any_mutation_is_read_or_refused_and_nothing_is_lost(data):
    """Every annotation is either returned or in `dropped`, exactly once."""
    content = copy.deepcopy(FILE)
    key = data.draw(st.sampled_from(list(content)))
    entry = data.draw(st.sampled_from(content[key]))
    for field in data.draw(st.lists(st.sampled_from([*entry]), min_size=1, max_size=3)):
        entry[field] = data.draw(VALUES)
    try:
        file = coco.parse_coco(content, "x.json")
        chosen = coco.select(file)
    except JaxposeError as error:
        assert "\n" not in str(error) and str(error).startswith("x.json")
        return
    dropped = [name for names in chosen.dropped.values() for name in names]
    found = [a.name for a in chosen.annotations]
    assert sorted(found + [n for n in dropped if n.startswith("annotations[")]) == sorted(ALL)
    for kept in chosen.annotations:
        assert np.isfinite(kept.box).all() and kept.box[2:].min() > 0
        assert kept.keypoints is None or np.isfinite(kept.keypoints).all()


# File names


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "photos/a.jpg"),
        ("photos/a.jpg", "photos/a.jpg"),
        ("./photos//a.jpg", "photos/a.jpg"),
        ("/data/upload/a.jpg", "photos/a.jpg"),
        ("../../media/upload/4/a.jpg", "photos/a.jpg"),
        ("C:\\Users\\me\\a.jpg", "photos/a.jpg"),
        ("photos\\a.jpg", "photos/a.jpg"),
        ("https://example.org/photos/a.jpg?token=1", "photos/a.jpg"),
        ("s3://bucket/a.jpg", "photos/a.jpg"),
        ("/data/local-files/?d=set/a%20b.jpg", "photos/a b.jpg"),
        ("a%20b.jpg", "photos/a b.jpg"),
        ("a b.jpg", "photos/a%20b.jpg"),
        (unicodedata.normalize("NFC", "Jürgen.jpg"), unicodedata.normalize("NFD", "x/Jürgen.jpg")),
        (unicodedata.normalize("NFD", "Jürgen.jpg"), unicodedata.normalize("NFC", "x/Jürgen.jpg")),
        ("J%C3%BCrgen.jpg", unicodedata.normalize("NFD", "x/Jürgen.jpg")),
        ("100%.jpg", "100%.jpg"),
    ],
)
def test_names_of_labeling_tools_are_matched_by_their_last_parts(name, path):
    assert coco.NameIndex([name, "c.jpg"]).find(path).names == (name,)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("train/a.jpg", "val/a.jpg"),  # a plain name matches as a whole
        ("/data/b.jpg", "a.jpg"),
        ("A.jpg", "a.jpg"),
        ("aa.jpg", "a.jpg"),
        ("", "a.jpg"),
        ("/", "a.jpg"),
    ],
)
def test_names_of_other_files_are_not_matched(name, path):
    assert coco.NameIndex([name]).find(path) == coco.Match()


def test_the_closest_name_wins_and_equals_are_rivals():
    index = coco.NameIndex(["/x/one/a.jpg", "/x/two/a.jpg", "b%20c.jpg", "b c.jpg"])
    assert index.find("/data/one/a.jpg").names == ("/x/one/a.jpg",)
    assert index.find("/data/three/a.jpg").rivals == ("/x/one/a.jpg", "/x/two/a.jpg")
    assert index.find("b%20c.jpg").names == ("b%20c.jpg",)


def test_a_name_that_fits_several_files_belongs_to_the_closest():
    found = coco.NameIndex(["/x/train/a.jpg"]).match(["train/a.jpg", "val/a.jpg"])
    assert found["train/a.jpg"].names and not found["val/a.jpg"].names
    found = coco.NameIndex(["a.jpg"]).match(["train/a.jpg", "val/a.jpg"])
    assert found["train/a.jpg"].names == found["val/a.jpg"].names == ("a.jpg",)


def test_files_are_found_below_a_folder(tmp_path):
    for name in ("a.jpg", "sub/a.jpg", "sub/b.jpg", "other/c.jpg", "sub/c.jpg", "d e.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = ["a.jpg", "sub/a.jpg", "/elsewhere/b.jpg", "/x/c.jpg", "../d%20e.jpg", "absent.jpg"]
    found, lacking = coco.find_files(names, tmp_path)
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in found.items()} == {
        "a.jpg": "a.jpg",
        "sub/a.jpg": "sub/a.jpg",
        "/elsewhere/b.jpg": "sub/b.jpg",
        "../d%20e.jpg": "d e.jpg",
    }
    assert lacking == {"/x/c.jpg": "ambiguous", "absent.jpg": "missing"}


def test_a_file_behind_two_links_is_one_file(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    (tmp_path / "latest").symlink_to(tmp_path / "images")
    found, lacking = coco.find_files(["/elsewhere/a.jpg", "latest/a.jpg"], tmp_path)
    assert not lacking and found["latest/a.jpg"] == tmp_path / "latest" / "a.jpg"
    assert found["/elsewhere/a.jpg"].samefile(tmp_path / "images" / "a.jpg")
