"""The reader of MPII's annotations: every quirk of the release, and damage of every kind.

A mutated file has to be read rightly or refused, person by person: a wrong joint never.
"""

import collections
import copy

import numpy as np
import pytest

from tfds_builders import draw_dummy_data, mat_file, report
from tfds_builders.draw_dummy_data import EMPTY, cells, structs
from tfds_builders.errors import BuildError
from tfds_builders.mpii import annotations

MUTATIONS = 1200
CORNERS = ("x1", "y1", "x2", "y2")


def person(rng, *, test=False):
    """An element of annorect, numbers and structs as they are before MATLAB."""
    xy = rng.integers(3, 600, (17, 2)) + rng.choice([0, 0.25], (17, 2))
    fields = {"scale": float(rng.uniform(1, 3)), "objpos": {"x": xy[16, 0], "y": xy[16, 1]}}
    if test:
        return fields
    left, top = rng.integers(3, 300, 2)
    points = [
        {"x": x, "y": y, "id": joint, "is_visible": int(rng.integers(2))}
        for joint, (x, y) in enumerate(xy[:16])
    ]
    head = dict(zip(CORNERS, (left, top, left + 30, top + 40), strict=True))
    return {**head, "points": points, **fields}


def release(rng):
    """Four images: two persons, one, none, and two of the test part."""
    images = [
        ("a.jpg", 1, [person(rng), person(rng)]),
        ("b.jpg", 1, [person(rng)]),
        ("c.jpg", 1, []),
        ("d.jpg", 0, [person(rng, test=True), person(rng, test=True)]),
    ]
    return {
        "images": [
            {"name": name, "people": people, "single": list(range(1, len(people) + 1))}
            for name, _, people in images
        ],
        "img_train": [train for _, train, _ in images],
    }


def struct_of(value):
    """A dict as a struct; whatever a mutation put in its place as it is."""
    return structs([value or {"other": 1.0}]) if isinstance(value, dict) else value


def annorect(people):
    if not isinstance(people, list):
        return people
    elements = []
    for fields in people:
        element = {name: value for name, value in fields.items() if name != "points"}
        if "objpos" in element:
            element["objpos"] = struct_of(element["objpos"])
        if "points" in fields:
            points = fields["points"]
            listed = structs(points) if isinstance(points, list) and points else points
            listed = EMPTY if isinstance(listed, list) else listed
            element["annopoints"] = structs([{"point": listed}])
        elements.append(element)
    return structs(elements) if elements else EMPTY


def encoded(spec):
    """The .mat file of a described release."""
    images = spec["images"]
    annolist = structs(
        [
            {"image": struct_of(image["image"] if "image" in image else {"name": image["name"]})}
            | {"annorect": annorect(image["people"]), "vididx": 1}
            for image in images
        ]
    )
    variable = {
        "annolist": annolist,
        "img_train": np.array([spec["img_train"]], np.uint8),
        "single_person": cells([np.array(i["single"], float).reshape(-1, 1) for i in images]),
        **spec.get("others", {}),
    }
    kept = {name: value for name, value in variable.items() if value is not None}
    return draw_dummy_data.mat({"RELEASE": structs([kept])}, compressed=False)


def parsed(data):
    found = report.Report()
    variable = mat_file.read(data, "RELEASE", "a.mat")
    people = list(annotations.persons(variable, "a.mat", found))
    return {(p.image_name, p.number): p for p in people}, found


def truth(spec):
    """What each person is, stated from the description."""
    facts = {}
    for image in spec["images"]:
        for number, fields in enumerate(image["people"]):
            points = {p["id"]: (p["x"] - 0.5, p["y"] - 0.5) for p in fields.get("points", [])}
            seen = {p["id"] for p in fields.get("points", []) if p["is_visible"]}
            head = [fields.get(name, 0) for name in CORNERS]
            facts[image["name"], number] = (
                points,
                seen,
                (fields["objpos"]["x"] - 0.5, fields["objpos"]["y"] - 0.5),
                200 * fields["scale"],
                0.6 * np.hypot(head[2] - head[0], head[3] - head[1]),
            )
    return facts


def assert_right(found, facts, *, complete):
    """What was found is true; with `complete` nothing is missing."""
    points, seen, center, scale, head_size = facts
    for joint in range(16):
        if found.labeled[joint]:
            assert found.keypoints[joint].tolist() == list(points[joint])
        else:
            assert not found.keypoints[joint].any()
    assert found.center is None or found.center.tolist() == list(center)
    assert found.scale is None or found.scale == pytest.approx(scale, rel=1e-6)
    assert found.head_size == 0 or found.head_size == pytest.approx(head_size)
    if complete:
        assert found.labeled.tolist() == [joint in points for joint in range(16)]
        assert set(np.flatnonzero(found.visible)) == seen
        assert found.center is not None and found.scale is not None
        assert found.head_size == pytest.approx(head_size)


def test_a_whole_release_is_read_as_it_is():
    spec = release(np.random.default_rng(0))
    people, found = parsed(encoded(spec))
    facts = truth(spec)
    assert people.keys() == facts.keys()
    for who, one in people.items():
        assert_right(one, facts[who], complete=True)
        assert one.separated and one.test == (who[0] == "d.jpg")
    assert not found.left_out and not found.remarks


def change(fields):
    """A parser's answer for the first person of a.jpg with some fields changed."""
    spec = release(np.random.default_rng(0))
    spec["images"][0]["people"][0] |= fields
    people, found = parsed(encoded(spec))
    return people.get(("a.jpg", 0)), found


POINT = {"x": 10, "y": 20, "id": 3}


@pytest.mark.parametrize(
    ("mark", "visible"),
    [("1", True), ("0", False), (1, True), (0, False), (EMPTY, True), ("", True), (None, True)],
)
def test_visibility_is_a_number_a_character_empty_or_absent(mark, visible):
    point = POINT if mark is None else {**POINT, "is_visible": mark}
    one, _ = change({"points": [point]})
    assert one.labeled.tolist() == [joint == 3 for joint in range(16)]
    assert one.visible[3] == visible


def test_a_single_struct_and_fewer_points_in_any_order():
    one, _ = change({"points": [{**POINT, "id": 9}, POINT]})
    assert np.flatnonzero(one.labeled).tolist() == [3, 9]
    assert one.keypoints[3].tolist() == [9.5, 19.5]


def test_of_a_joint_with_two_points_the_first_counts_and_it_is_remarked():
    one, found = change({"points": [POINT, {**POINT, "x": 99}]})
    assert one.keypoints[3].tolist() == [9.5, 19.5]
    assert sum(found.remarks.values()) == 1


def test_small_unsigned_numbers_are_cast_before_they_are_subtracted():
    head = dict(zip(CORNERS, map(np.uint8, (200, 200, 20, 10)), strict=True))
    one, _ = change({**head, "points": [{**POINT, "x": np.uint8(0)}]})
    assert one.keypoints[3, 0] == -0.5
    assert one.head_size == pytest.approx(0.6 * np.hypot(180, 190))


@pytest.mark.parametrize("points", [EMPTY, cells([])])
def test_no_points_are_no_joints(points):
    one, _ = change({"points": points})
    assert one is None or not one.labeled.any()


def test_a_head_box_alone_is_a_person_without_joints_scale_and_position():
    spec = release(np.random.default_rng(0))
    spec["images"][1]["people"] = [dict(zip(CORNERS, (1, 2, 4, 6), strict=True))]
    one = parsed(encoded(spec))[0]["b.jpg", 0]
    assert (one.center, one.scale, one.head_size) == (None, None, 3.0)
    assert not one.labeled.any()


# Mutations. Each changes the description and returns whom it touched: one person (image, number),
# all of one image, everything, or, where nothing may be lost, nobody.

EVERYBODY, NOBODY = "everybody", "nobody"
WRONG = (
    lambda: "7",
    lambda: cells([7.0]),
    lambda: structs([{"a": 1.0}]),
    lambda: np.array([[7.0, 8.0]]),
    lambda: 7 + 2j,
    lambda: np.nan,
    lambda: np.inf,
    lambda: 1e9,
    lambda: EMPTY,
)
SAME = (np.float32, np.float64, np.int32, np.int64, np.uint16, np.int16)


def some_person(rng, spec, *, labeled=False):
    people = [
        (image, number)
        for image in spec["images"]
        for number, fields in enumerate(image["people"])
        if "points" in fields or not labeled
    ]
    image, number = people[rng.integers(len(people))]
    return image["people"][number], (image["name"], number)


def some_number(rng, spec):
    """A dict, the name of one of its numbers, and whose it is."""
    fields, who = some_person(rng, spec)
    places = [(fields, name) for name in ("scale", *CORNERS) if name in fields]
    places += [(fields["objpos"], axis) for axis in ("x", "y")]
    points = fields.get("points", [])
    places += [(point, name) for point in points for name in ("x", "y", "id", "is_visible")]
    return *places[rng.integers(len(places))], who


def drop_a_number(rng, spec):
    place, name, who = some_number(rng, spec)
    del place[name]
    return who


def retype_a_number(rng, spec):
    place, name, who = some_number(rng, spec)
    place[name] = WRONG[rng.integers(len(WRONG))]()
    return who


def recast_a_number(rng, spec):
    place, name, _ = some_number(rng, spec)
    kinds = [kind for kind in SAME if kind(place[name]) == place[name]]
    place[name] = kinds[rng.integers(len(kinds))](place[name])
    return NOBODY


def retype_a_struct(rng, spec):
    fields, who = some_person(rng, spec)
    names = [name for name in ("objpos", "points") if name in fields]
    fields[names[rng.integers(len(names))]] = WRONG[rng.integers(len(WRONG))]()
    return who


def drop_a_field_of_all_points(rng, spec):
    fields, who = some_person(rng, spec, labeled=True)
    name = ("x", "y", "id", "is_visible")[rng.integers(4)]
    for point in fields["points"]:
        del point[name]
    return who


def shuffle_points(rng, spec):
    fields, _ = some_person(rng, spec, labeled=True)
    rng.shuffle(fields["points"])
    return NOBODY


def double_points(rng, spec):
    """The later ones lie elsewhere, and must not count."""
    fields, _ = some_person(rng, spec, labeled=True)
    again = copy.deepcopy(fields["points"][: rng.integers(1, 17)])
    for point in again:
        point["x"] += 40
    fields["points"] += again
    return NOBODY


def lose_points(rng, spec):
    fields, _ = some_person(rng, spec, labeled=True)
    del fields["points"][rng.integers(16) :]
    return NOBODY


def shuffle_people(rng, spec):
    for image in spec["images"]:
        rng.shuffle(image["people"])
    return NOBODY


def double_a_person(rng, spec):
    image = spec["images"][rng.integers(2)]
    image["people"].append(copy.deepcopy(image["people"][rng.integers(len(image["people"]))]))
    return NOBODY


def shuffle_images(rng, spec):
    order = rng.permutation(4)
    for name in ("images", "img_train"):
        spec[name] = [spec[name][i] for i in order]
    return NOBODY


def damage_an_image(rng, spec):
    image = spec["images"][rng.integers(4)]
    wrong = [value() for value in WRONG if not isinstance(value(), str)] + [{"name": EMPTY}, {}]
    place = ("image", "people", "single")[rng.integers(3)]
    if place == "single":
        image["single"] = [[99.0], [0.0], [1.5], [-1.0]][rng.integers(4)]
    elif place == "people":
        image["people"] = wrong[rng.integers(len(WRONG) - 1)]
    else:
        image["image"] = wrong[rng.integers(len(wrong))]
    return image["name"]


def damage_the_lists(rng, spec):
    name = ("annolist", "img_train", "single_person")[rng.integers(3)]
    wrong = [None, *(value() for value in WRONG)]
    spec["others"] = {name: wrong[rng.integers(len(wrong))]}
    return EVERYBODY


def shorten_the_training_marks(rng, spec):
    del spec["img_train"][rng.integers(4) :]
    return EVERYBODY


KINDS = (
    *(drop_a_number, retype_a_number, recast_a_number, retype_a_struct),
    *(drop_a_field_of_all_points, shuffle_points, double_points, lose_points),
    *(shuffle_people, double_a_person, shuffle_images, damage_an_image),
    *(damage_the_lists, shorten_the_training_marks),
)
CHANGES_THE_TRUTH = (lose_points, shuffle_people, double_a_person, shuffle_images)


@pytest.mark.slow
def test_mutated_structures_are_read_rightly_or_refused():
    outcomes = collections.defaultdict(collections.Counter)
    for number in range(MUTATIONS):
        rng = np.random.default_rng([5, number])
        spec = release(rng)
        mutate = KINDS[number % len(KINDS)]
        facts = truth(spec)
        touched = mutate(rng, spec)
        if mutate in CHANGES_THE_TRUTH:
            facts = truth(spec)
        try:
            people, found = parsed(encoded(spec))
        except BuildError as error:
            assert touched == EVERYBODY and "a.mat" in str(error) and "\n" not in str(error)
            outcomes[mutate.__name__]["refused"] += 1
            continue
        refused = " ".join(who for names in found.left_out.values() for who in names)
        for who, fact in facts.items():
            spared = touched not in (EVERYBODY, who[0], who)
            if who in people:
                assert_right(people[who], fact, complete=spared)
            else:
                assert not spared
                assert found.left_out or touched in (EVERYBODY, who[0])
                assert f"{who[0]} person {who[1]}" in refused or touched != who
        assert people.keys() <= facts.keys()
        outcomes[mutate.__name__]["left out" if found.left_out else "read"] += 1
    # Every kind happened, and those that lose nothing were read.
    assert sum(sum(counts.values()) for counts in outcomes.values()) == MUTATIONS
    assert outcomes["retype_a_number"]["left out"] > 10
    assert outcomes["damage_the_lists"]["refused"] > 10


@pytest.mark.parametrize("compressed", [False, True])
def test_mutated_bytes_are_read_or_refused(compressed):
    rng = np.random.default_rng(int(compressed))
    whole = encoded(release(rng))
    if compressed:
        whole = (draw_dummy_data.HERE / "mpii/dummy_data/mpii_human_pose_v1_u12_1.mat").read_bytes()
    read = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 5)):
            data[rng.integers(len(data))] = rng.integers(256)
        try:
            parsed(bytes(data[: len(data) if rng.random() < 0.8 else rng.integers(len(data))]))
            read += 1
        except BuildError as error:
            assert "\n" not in str(error)
    assert read < 300


def test_test_images_keep_their_order_and_damaged_ones_their_place():
    spec = release(np.random.default_rng(0))
    spec["img_train"] = [0, 1, 0, 0]
    spec["images"][2]["image"] = {}
    spec["images"][3]["people"][1]["objpos"] = EMPTY
    variable = mat_file.read(encoded(spec), "RELEASE", "a.mat")
    facts = truth(release(np.random.default_rng(0)))
    assert annotations.test_images(variable, "a.mat") == [
        ("a.jpg", [list(facts["a.jpg", 0][2]), list(facts["a.jpg", 1][2])]),
        ("", []),
        ("d.jpg", [list(facts["d.jpg", 0][2]), None]),
    ]
