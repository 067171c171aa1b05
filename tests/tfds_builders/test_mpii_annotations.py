"""MPII's annotation file with everything that the release does, and what it never does."""

import numpy as np
import pytest

from tfds_builders import mat_file, report
from tfds_builders.draw_dummy_data import EMPTY, cells, mat, small, structs
from tfds_builders.errors import BuildError
from tfds_builders.mpii import annotations


def point(joint, x, y, others=()):
    return {"x": small(x), "y": small(y), "id": small(joint), "is_visible": small(1)} | dict(others)


def person(points, **others):
    return {
        "x1": small(10),
        "y1": small(20),
        "x2": small(40),
        "y2": small(60),
        "annopoints": structs([{"point": structs(points)}]) if points else EMPTY,
        "scale": 1.5,
        "objpos": structs([{"x": small(300), "y": small(200)}]),
        **others,
    }


def release(people, training=1, single=(1,), **others):
    entry = {"image": structs([{"name": "1.jpg"}]), "annorect": people}
    fields = {
        "annolist": structs([entry]),
        "img_train": np.array([[training]], np.uint8),
        "single_person": cells([np.array(single, np.uint8)]),
        **others,
    }
    return {name: value for name, value in fields.items() if value is not None}


def parse(fields, found=None):
    variable = mat_file.read(mat({"RELEASE": structs([fields])}), "RELEASE", "a file")
    return list(annotations.persons(variable, "a file", found or report.Report()))


def parse_one(points, **others):
    (found,) = parse(release(structs([person(points, **others)])))
    return found


def reasons(people, **others):
    found = report.Report()
    return parse(release(people, **others), found), list(found.left_out)


def test_positions_are_one_based():
    found = parse_one([point(3, 101, 52.25)])
    assert found.keypoints[3].tolist() == [100.5, 51.75]
    assert found.center.tolist() == [299.5, 199.5]


def test_joints_go_by_their_number_not_their_place():
    found = parse_one([point(9, 90, 1), point(0, 10, 2), point(15, 70, 3)])
    assert np.flatnonzero(found.labeled).tolist() == [0, 9, 15]
    assert found.keypoints[[0, 9, 15], 0].tolist() == [9.5, 89.5, 69.5]


def test_a_single_point_is_a_struct_like_any_other():
    found = parse_one([point(7, 5, 6)])
    assert found.labeled.sum() == 1 and found.labeled[7]


def test_of_two_points_with_a_number_the_first_counts():
    found = report.Report()
    points = [point(4, 11, 12), point(4, 91, 92)]
    (parsed,) = parse(release(structs([person(points)])), found)
    assert parsed.keypoints[4].tolist() == [10.5, 11.5]
    assert sum(found.remarks.values()) == 1


@pytest.mark.parametrize(
    ("value", "seen"),
    [(small(1), True), (small(0), False), ("1", True), ("0", False), (EMPTY, True), ("", True)],
)
def test_visibility_is_a_number_a_letter_or_empty(value, seen):
    found = parse_one([point(2, 5, 5, {"is_visible": value})])
    assert found.labeled[2] and found.visible[2] == seen


def test_without_visibility_joints_are_visible():
    without = {key: value for key, value in point(2, 5, 5).items() if key != "is_visible"}
    assert parse_one([without]).visible[2]


def test_small_types_are_cast_before_they_are_subtracted():
    found = parse_one(
        [point(0, 0, 0)], x1=np.uint8(200), x2=np.uint8(170), y1=np.uint8(50), y2=np.uint8(10)
    )
    assert found.head_size == pytest.approx(0.6 * 50)
    assert found.keypoints[0].tolist() == [-0.5, -0.5]


def test_joints_far_outside_are_kept():
    assert parse_one([point(1, -400.5, 3000)]).keypoints[1].tolist() == [-401, 2999.5]


def test_height_is_200_times_scale():
    assert parse_one([point(1, 5, 5)]).scale == pytest.approx(300)


@pytest.mark.parametrize("field", ["x1", "y1", "x2", "y2"])
def test_without_a_whole_head_box_the_head_size_is_unknown(field):
    assert parse_one([point(1, 5, 5)], **{field: EMPTY}).head_size == 0


@pytest.mark.parametrize("field", ["scale", "objpos"])
def test_scale_and_position_may_be_left_out(field):
    found = parse_one([point(1, 5, 5)], **{field: EMPTY})
    assert (found.scale is None) == (field == "scale")
    assert (found.center is None) == (field == "objpos")


@pytest.mark.parametrize("annopoints", [EMPTY, structs([{"point": EMPTY}]), structs([{}], ["p"])])
def test_a_person_without_points_has_no_joints(annopoints):
    assert not parse_one([], annopoints=annopoints).labeled.any()


def test_a_person_with_a_head_box_and_nothing_else():
    box = {name: small(3) for name in ("x1", "y1", "x2", "y2")}
    (found,) = parse(release(structs([box])))
    assert not found.labeled.any() and found.scale is None and found.center is None


@pytest.mark.parametrize("people", [EMPTY, structs([], ["x1", "scale"])])
def test_an_image_without_persons(people):
    assert parse(release(people, single=())) == []


@pytest.mark.parametrize("training", [0, 1])
def test_img_train_tells_the_test_images(training):
    (found,) = parse(release(structs([person([])]), training))
    assert found.test == (not training)


@pytest.mark.parametrize(
    ("single", "separated"),
    [((), [0, 0, 0]), (2, [0, 1, 0]), ([1, 3], [1, 0, 1]), ([[1], [3]], [1, 0, 1])],
)
def test_single_person_is_empty_a_scalar_a_row_or_a_column(single, separated):
    found = parse(release(structs([person([point(0, 1, 1)])] * 3), single=single))
    assert [p.separated for p in found] == separated


def test_without_single_person_nobody_is_known_to_be_separated():
    (found,) = parse(release(structs([person([])]), single_person=None))
    assert not found.separated


@pytest.mark.parametrize(
    "bad",
    [
        point(0, 1, 1, {"id": EMPTY}),
        point(0, 1, 1, {"id": small(16)}),
        point(0, 1, 1, {"id": 1.5}),
        point(0, 1, 1, {"id": "3"}),
        point(0, 1, 1, {"x": "12"}),
        point(0, 1, 1, {"x": EMPTY}),
        point(0, 1, 1, {"x": np.nan}),
        point(0, 1, 1, {"y": np.array([1.0, 2.0])}),
        point(0, 1, 1, {"y": 1 + 2j}),
        point(0, 1, 1, {"is_visible": "2"}),
        point(0, 1, 1, {"is_visible": small(7)}),
        point(0, 1, 1, {"x": structs([{"x": 1}])}),
        {"x": small(1), "y": small(1)},
    ],
)
def test_a_point_that_says_nothing_sure_leaves_its_person_out_and_no_other(bad):
    people = structs([person([point(5, 8, 8), bad]), person([point(5, 8, 8)])])
    found, why = reasons(people)
    assert [p.number for p in found] == [1]
    assert len(why) == 1


@pytest.mark.parametrize(
    "field",
    [
        {"scale": 0.0},
        {"scale": -1.0},
        {"scale": np.inf},
        {"scale": "1"},
        {"objpos": small(3)},
        {"objpos": structs([{"x": 1, "y": 1}] * 2)},
        {"annopoints": small(1)},
        {"annopoints": structs([{"point": EMPTY}] * 2)},
        {"x1": "left"},
    ],
)
def test_a_field_of_another_kind_leaves_its_person_out(field):
    found, why = reasons(structs([person([point(5, 8, 8)], **field)]))
    assert found == [] and len(why) == 1


def test_a_number_that_no_person_has_in_single_person_leaves_the_image_out():
    found = report.Report()
    assert parse(release(structs([person([point(5, 8, 8)])] * 2), single=(3,)), found) == []
    reason = "single_person lists a person who does not exist"
    assert found.left_out == {("image", reason): ["image 1"]}
    assert found.lines() == [f"1 image skipped ({reason}): image 1"]


@pytest.mark.parametrize("name", ["", small(3), "../1.jpg", "a\\b.jpg"])
def test_an_image_without_a_plain_name_is_left_out(name):
    entry = {"image": structs([{"name": name}]), "annorect": structs([person([])])}
    found = report.Report()
    assert parse(release(None, annolist=structs([entry])), found) == []
    assert len(found.left_out) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"annolist": None},
        {"annolist": small(1)},
        {"img_train": None},
        {"img_train": np.array([[1, 1]])},
        {"img_train": small(2)},
        {"img_train": "1"},
        {"single_person": cells([1, 1])},
        {"single_person": small(1)},
    ],
)
def test_lists_that_do_not_fit_together_end_the_build(wrong):
    with pytest.raises(BuildError, match="is it the release's file"):
        parse(release(structs([person([point(5, 8, 8)])]), **wrong))
