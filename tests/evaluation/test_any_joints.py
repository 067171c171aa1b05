"""PCK and NME of joints that no paper names, against their definitions."""

import math
import re

import numpy as np
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.evaluation import any_joints, protocol_results, tables
from jaxpose.evaluation.labeled_predictions import (
    LabeledPredictions,
    read_predictions,
    write_predictions,
)
from tests.support.truth import annotations_of

JOINTS = ("nose", "left_ear", "right_ear", "tail")
PAIRS = (("right_ear", "left_ear"),)


def dogs(seed=0, count=30):
    """Dogs of about 100 pixels with some labels missing; the first has no box and no labels."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 100, (count, len(JOINTS), 2))
    labeled = rng.random(truth.shape[:2]) < 0.8
    box = np.concatenate([np.zeros((count, 2)), rng.uniform(50, 100, (count, 2))], axis=1)
    box[0] = 0
    return LabeledPredictions(
        prediction=truth + rng.normal(0, 8, truth.shape),
        ground_truth=np.where(labeled[..., None], truth, 0),
        labeled=labeled,
        joints=JOINTS,
        prediction_joints=JOINTS,
        head_size=rng.uniform(10, 20, count),
        box=box,
    )


def units_by_definition(data, name):
    """The unit of each dog, None where it has none."""
    if name == "head":
        return data.head_size
    if name == "box":
        return [math.hypot(w, h) if w * h else None for _, _, w, h in data.box]
    a, b = (JOINTS.index(joint) for joint in ("nose", "tail"))
    return [
        math.dist(points[a], points[b]) if labeled[a] and labeled[b] else None
        for points, labeled in zip(data.ground_truth, data.labeled, strict=True)
    ]


@pytest.mark.parametrize("name", ["head", "box", "nose,tail"])
def test_pck_and_nme_are_their_definitions_dog_by_dog(name):
    data = dogs()
    unit = any_joints.unit_named(name)
    found = protocol_results.evaluate(any_joints.pck_protocol(JOINTS, PAIRS, unit=unit), data)
    everything = []
    for j, joint in enumerate(JOINTS):
        errors = [
            math.dist(data.prediction[i, j], data.ground_truth[i, j]) / size
            for i, size in enumerate(units_by_definition(data, name))
            if size is not None and data.labeled[i, j]
        ]
        right = sum(error <= unit.threshold for error in errors)
        assert (found.parts[joint].correct, found.parts[joint].counted) == (right, len(errors))
        assert found.errors[joint] == pytest.approx(100 * sum(errors) / len(errors))
        everything += errors
    assert found.mean_error == pytest.approx(100 * sum(everything) / len(everything))
    right = sum(error <= unit.threshold for error in everything)
    assert found.total == pytest.approx(100 * right / len(everything))
    lacking = sum(size is None for size in units_by_definition(data, name))
    assert found.persons_left_out == lacking


def test_a_pair_shares_a_column_and_any_other_joint_has_its_own():
    found = any_joints.pck_protocol(JOINTS, PAIRS, unit=any_joints.UNITS["box"])
    assert found.columns == (
        ("nose", "nose", ("nose",)),
        ("right_ear", "ear", ("right_ear", "left_ear")),
        ("tail", "tail", ("tail",)),
    )


def test_inversions_of_the_data_sets_own_pairs_are_counted():
    data = dogs()
    pair = [JOINTS.index(name) for name in PAIRS[0]]
    data.prediction[:, pair] = data.ground_truth[:, pair[::-1]]
    protocol = any_joints.pck_protocol(JOINTS, PAIRS, unit=any_joints.UNITS["box"])
    found = protocol_results.evaluate(protocol, data)
    assert set(found.inversions) == set(PAIRS[0])
    assert all(inverted == wrong > 0 for inverted, wrong in found.inversions.values())
    without = any_joints.pck_protocol(JOINTS, unit=any_joints.UNITS["box"])
    assert protocol_results.evaluate(without, data).inversions is None


@pytest.mark.parametrize(
    ("pair", "header"),
    [
        (("front_right_paw", "front_left_paw"), "front paw"),
        (("RightPaw", "LeftPaw"), "Paw"),
        (("r_eye", "l_eye"), "r_eye, l_eye"),
        (("bright", "dark"), "bright, dark"),
    ],
)
def test_the_header_of_a_pair_has_no_side(pair, header):
    found = any_joints.pck_protocol(pair, [pair], unit=any_joints.UNITS["box"])
    assert [text for _, text, _ in found.columns] == [header]


def test_joints_too_many_for_a_table_are_all_in_the_total():
    joints = tuple(f"point_{n}" for n in range(40))
    truth = np.zeros((1, 40, 2))
    prediction = truth.copy()
    prediction[0, :10] = 1e3
    data = LabeledPredictions(
        prediction, truth, np.ones((1, 40), bool), joints, joints, box=np.array([[0, 0, 9, 9]])
    )
    found = protocol_results.evaluate(
        any_joints.pck_protocol(joints, unit=any_joints.UNITS["box"]), data
    )
    assert found.columns == {} and found.total == 75.0
    text = tables.text(found)
    assert "point_39" in text and "rate over all labels of 40 joints (pooled)" in text


def truth_of(data, **changes):
    truth = annotations_of(data.ground_truth, data.labeled, head_size=data.head_size, box=data.box)
    return truth._replace(**changes)


def test_the_unit_is_the_head_where_all_have_one_else_the_box():
    data = dogs()
    words = [
        any_joints.available_unit(truth_of(data, **changes), JOINTS).words
        for changes in ({}, {"head_size": np.zeros(30)})
    ]
    assert words == ["the head size", "the box diagonal"]


def test_there_is_no_unit_where_nobody_has_it():
    data = dogs()
    nothing = {"head_size": np.zeros(30), "box": np.zeros((30, 4))}
    assert any_joints.available_unit(truth_of(data, **nothing), JOINTS) is None
    unlabeled = truth_of(data, labeled=np.zeros((30, 4), bool))
    assert any_joints.available_unit(unlabeled, JOINTS) is None
    assert any_joints.available_unit(unlabeled, JOINTS, unit="nose,tail") is None
    assert any_joints.available_unit(truth_of(data), JOINTS, unit="nose,hoof") is None


@pytest.mark.parametrize("unit", ["feet", "nose", "nose,nose", "nose,tail,ear", "nose,"])
def test_another_unit_is_one_line(unit):
    with pytest.raises(JaxposeError, match="write pck:head, pck:box, or two joints"):
        any_joints.unit_named(unit)


def test_tables_give_the_unit_the_error_and_who_was_left_out():
    found = protocol_results.evaluate(
        any_joints.pck_protocol(JOINTS, PAIRS, unit=any_joints.UNITS["box"]), dogs()
    )
    text = tables.text(found)
    assert text.startswith("PCK@0.1 of the box diagonal, 30 persons")
    assert re.search(rf"\(NME\), percent of the box diagonal +{found.mean_error:.2f}\n", text)
    assert "1 person without a box" in text
    (line,) = [line for line in text.splitlines() if line.startswith("left_ear")]
    assert line.split()[-1] == f"{found.errors['left_ear']:.2f}"


def test_boxes_are_kept_in_the_file(tmp_path):
    data = dogs()
    write_predictions(tmp_path / "dogs.npz", data)
    np.testing.assert_array_equal(read_predictions(tmp_path / "dogs.npz").box, data.box)


def test_pck_by_the_box_needs_boxes():
    protocol = any_joints.pck_protocol(JOINTS, PAIRS, unit=any_joints.UNITS["box"])
    with pytest.raises(JaxposeError, match="pck needs the array 'box'"):
        protocol_results.evaluate(protocol, dogs()._replace(box=None))
