"""MPII's annotation file changed at random, in its structure and in its bytes.

The truth about a changed structure is known, since the change is made to plain Python values
before they are written: a person is then found as it should be, or left out, never with another
joint.
"""

import copy

import numpy as np
import pytest

from tfds_builders import mat_file, report
from tfds_builders.draw_dummy_data import EMPTY, cells, mat, small, structs
from tfds_builders.errors import BuildError
from tfds_builders.mpii import annotations


def random_release(rng):
    """Images as dicts of plain values: name, training, people, single."""
    images = []
    for index in range(int(rng.integers(2, 5))):
        people = [random_person(rng) for _ in range(int(rng.integers(0, 4)))]
        single = [i + 1 for i in range(len(people)) if rng.random() < 0.5]
        images.append({"name": f"{index}.jpg", "people": people, "single": single})
    return images


def random_person(rng):
    count = int(rng.integers(0, 17))
    points = []
    for joint in rng.permutation(16)[:count]:
        seen = [small(0), small(1), "0", "1", EMPTY][rng.integers(5)]
        x, y = small(rng.integers(0, 2000)), small(np.round(rng.uniform(-50, 1500), 2))
        points.append({"x": x, "y": y, "id": small(joint), "is_visible": seen})
    if rng.random() < 0.2:
        points = [{k: v for k, v in p.items() if k != "is_visible"} for p in points]
    made = {
        **{side: small(rng.integers(1, 500)) for side in ("x1", "y1", "x2", "y2")},
        "points": points,
        "scale": float(rng.uniform(0.3, 8)),
        "objpos": {"x": small(rng.integers(0, 900)), "y": small(rng.integers(0, 900))},
    }
    for gone in ("x1", "points", "scale", "objpos"):
        if rng.random() < 0.1:
            del made[gone]
    return made


def truth(made):
    """Joint -> (x, y, visible), by our convention."""
    joints = {}
    for p in made.get("points", ()):
        seen = p.get("is_visible", EMPTY)
        visible = seen == "1" if isinstance(seen, str) else not np.any(np.equal(seen, 0))
        joints.setdefault(int(p["id"]), (float(p["x"]) - 0.5, float(p["y"]) - 0.5, visible))
    return joints


def written(images, order=(), patch=lambda data: data):
    """The file of a release; values that are no plain ones go in as they are."""

    def rectangle(made):
        if not isinstance(made, dict):
            return made
        fields = dict(made)
        if "points" in fields:
            points = fields.pop("points")
            if isinstance(points, list):
                points = structs(points, order) if points else EMPTY
                points = structs([{"point": points}])
            fields["annopoints"] = points
        if isinstance(fields.get("objpos"), dict):
            fields["objpos"] = structs([fields["objpos"]])
        return fields

    entries = []
    for image in images:
        people = image["people"]
        if isinstance(people, list):
            people = structs([rectangle(made) for made in people]) if people else EMPTY
        entry = {"image": structs([{"name": image["name"]}]), "annorect": people}
        entries.append({**entry, **image.get("extra", {})})
    fields = {
        "annolist": structs(entries),
        "img_train": np.ones((1, len(images)), np.uint8),
        "single_person": cells([np.array(image["single"], np.uint8) for image in images]),
    }
    return patch(mat({"RELEASE": structs([fields])}, compressed=False))


OTHER_KINDS = [
    *("text", "7", np.uint32(2**31), np.array([[1.0, 2.0]]), np.nan, np.inf, -5e7, 3 + 4j),
    *(cells([1, 2]), structs([{"x": 1, "y": 2}]), structs([{"x": 1}] * 3), np.zeros((2, 0, 3))),
]
MARK = "QQ"  # in front of a field's name until the bytes are changed


def double_a_field(name):
    """Turns the field QQname of a written file into a second one called name."""
    marked, plain = (MARK + name).encode(), name.encode()
    return lambda data: data.replace(marked + b"\0", plain + b"\0\0\0")


def change(images, rng):
    """Changes a release in place. Returns the options of `written`, and the persons it touched.

    A touched person may be left out; all others must be found as they are.
    """
    everybody = [(i, p) for i, image in enumerate(images) for p in range(len(image["people"]))]
    if not everybody:
        return {}, set()
    i, p = everybody[rng.integers(len(everybody))]
    image, made = images[i], images[i]["people"][p]
    touched = {(i, p)}
    points = made.get("points") or []
    given = points[rng.integers(len(points))] if points else None
    other = copy.deepcopy(OTHER_KINDS[rng.integers(len(OTHER_KINDS))])
    kind = rng.integers(14)
    if kind == 0:  # a field of a person dropped or emptied
        made.pop(list(made)[rng.integers(len(made))]) if made else None
    elif kind == 1 and made:  # retyped
        made[list(made)[rng.integers(len(made))]] = other
    elif kind == 2 and given:  # a field of a point emptied
        given[list(given)[rng.integers(len(given))]] = EMPTY
    elif kind == 3 and given:  # retyped
        given[list(given)[rng.integers(len(given))]] = other
    elif kind == 4 and given:  # dropped from all points of the person
        gone = list(given)[rng.integers(len(given))]
        made["points"] = [{k: v for k, v in q.items() if k != gone} for q in points]
    elif kind == 5:  # points in another order
        made["points"] = [points[k] for k in rng.permutation(len(points))]
        touched = set()
    elif kind == 6 and given:  # a point doubled, with another place
        points.append({**given, "x": small(1), "y": small(1)})
        touched = set()
    elif kind == 7:  # persons in another order
        places = rng.permutation(len(image["people"]))
        image["people"] = [image["people"][k] for k in places]
        image["single"] = []
        touched = set()
    elif kind == 8:  # a person doubled
        image["people"].append(copy.deepcopy(made))
        touched = set()
    elif kind == 9:  # all persons of an image of another kind
        image["people"] = other
        touched = {(i, k) for _, k in everybody}
    elif kind == 10:  # the image's name of another kind
        image["name"] = other
        touched = {(i, k) for _, k in everybody}
    elif kind == 11 and given:  # the fields of points in another order
        names = ["x", "y", "id", "is_visible"]
        return {"order": [names[k] for k in rng.permutation(len(names))]}, set()
    elif kind == 12 and given:  # a field of points doubled
        name = list(given)[rng.integers(len(given))]
        given[MARK + name] = small(3)
        return {"patch": double_a_field(name)}, touched
    elif kind == 13 and isinstance(made.get("objpos"), dict):
        made["objpos"][rng.choice(["x", "y"])] = other
    return {}, touched


def check_change(seed):
    rng = np.random.default_rng(seed)
    images = random_release(rng)
    before = copy.deepcopy(images)
    options, touched = change(images, rng)
    found = report.Report()
    try:
        variable = mat_file.read(written(images, **options), "RELEASE", "a file")
        parsed = list(annotations.persons(variable, "a file", found))
    except BuildError:
        return
    by_place = {(p.annolist_index, p.number): p for p in parsed}
    for i, image in enumerate(before):
        people = images[i]["people"] if isinstance(images[i]["people"], list) else image["people"]
        for number, made in enumerate(people):
            if (i, number) in touched:
                made = image["people"][number]
            if (i, number) in by_place:
                compare(by_place.pop((i, number)), made, (i, number) in touched)
            else:
                assert (i, number) in touched, f"seed {seed}: person {number} of {i} is lost"
    # A struct in place of the persons is nobody with joints.
    assert not any(person.labeled.any() for person in by_place.values())


def compare(parsed, made, touched):
    expected = truth(made)
    labeled = set(np.flatnonzero(parsed.labeled).tolist())
    assert labeled <= set(expected) if touched else labeled == set(expected)
    for joint in labeled:
        x, y, visible = expected[joint]
        assert parsed.keypoints[joint].tolist() == [x, y]
        if not touched:
            assert parsed.visible[joint] == visible
    if not touched:
        assert (parsed.scale is None) == ("scale" not in made)
        assert parsed.scale is None or parsed.scale == pytest.approx(200 * made["scale"])
        assert (parsed.center is None) == ("objpos" not in made)


def test_changed_structures_never_give_a_wrong_joint():
    for seed in range(250):
        check_change(seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_changed_structures_never_give_a_wrong_joint():
    for seed in range(250, 3000):
        check_change(seed)


def check_damage(seed, whole):
    """Changes bytes of a file; whatever comes of it is a BuildError or a list."""
    rng = np.random.default_rng(seed)
    data = bytearray(whole[seed % len(whole)])
    kind = rng.integers(4)
    places = rng.integers(0, len(data), rng.integers(1, 6))
    if kind == 0:
        data = data[: places[0]]
    elif kind == 1:
        del data[places[0] : places[0] + 64]
    else:
        for place in places // 4 * 4:
            word = [0, 1, 14, 15, 1 << 20, 2**31 - 1, 2**32 - 1, int(rng.integers(2**32))]
            data[place : place + 4] = word[rng.integers(len(word))].to_bytes(4, "little")
    try:
        variable = mat_file.read(bytes(data), "RELEASE", "a file")
        list(annotations.persons(variable, "a file", report.Report()))
    except BuildError:
        pass


def whole_files():
    images = random_release(np.random.default_rng(5))
    plain = written(images)
    fields = {
        "annolist": structs([{"image": structs([{"name": "1.jpg"}]), "annorect": EMPTY}]),
        "img_train": np.ones((1, 1)),
    }
    return [plain, plain, mat({"RELEASE": structs([fields])})]


def test_damaged_files_are_refused_or_read():
    whole = whole_files()
    for seed in range(500):
        check_damage(seed, whole)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_damaged_files_are_refused_or_read():
    whole = whole_files()
    for seed in range(500, 10_000):
        check_damage(seed, whole)
