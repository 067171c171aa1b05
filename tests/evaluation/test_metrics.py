"""Each metric against its definition, person by person."""

import itertools
import math

import numpy as np
import pytest

from jaxpose.evaluation import metrics, protocols
from jaxpose.skeleton import LSP, flip_permutation, joint_index
from tests.support.noisy_predictions import people

THRESHOLDS = (0.1, 0.3, 0.5)


def test_pck_is_the_definition_person_by_person():
    data = people()
    data.head_size[3] = 0.0
    counts = metrics.pck(*data[:3], data.head_size, thresholds=THRESHOLDS)
    for (t, limit), j in itertools.product(enumerate(THRESHOLDS), range(14)):
        right = counted = missing = 0
        for person, size in enumerate(data.head_size):
            if size == 0:
                continue
            if not data.labeled[person, j]:
                missing += 1
                continue
            counted += 1
            distance = math.dist(data.prediction[person, j], data.ground_truth[person, j])
            right += distance / size <= limit
        assert (counts.correct[t, j], counts.counted[j]) == (right, counted)
        assert counts.not_labeled[j] == missing
    assert (counts.persons, counts.persons_left_out) == (40, 1)


def inversions_in_python(data, pair, threshold):
    """(inverted, wrong) of each joint of a flip pair."""
    found = []
    for name, other in (pair, pair[::-1]):
        a, b = LSP.joints.index(name), LSP.joints.index(other)
        inverted = wrong = 0
        for point, truth, labeled, size in zip(*data[:3], data.head_size, strict=True):
            if size == 0 or not (labeled[a] and labeled[b]):
                continue
            if not math.dist(point[a], truth[a]) <= threshold * size:
                wrong += 1
                inverted += math.dist(point[a], truth[b]) <= threshold * size
        found.append((inverted, wrong))
    return found


def test_inversions_are_the_definition_person_by_person():
    data, threshold, pair = people(persons=200), 0.8, ("right_wrist", "left_wrist")
    joints = list(joint_index(LSP.joints, pair))
    data.prediction[:120, joints] = data.prediction[:120, joints[::-1]]
    data.head_size[3] = 0.0
    data.prediction[5, joints[0]] = np.nan
    data.labeled[5] = True
    flipped = flip_permutation(LSP.joints, [pair])
    arrays = *data[:3], data.head_size
    found = metrics.inversions(*arrays, flipped=flipped, threshold=threshold)
    expected = inversions_in_python(data, pair, threshold)
    assert list(zip(found.inverted[joints], found.wrong[joints], strict=True)) == expected
    assert all(20 < inverted < wrong - 10 for inverted, wrong in expected)
    others = np.delete(np.arange(14), joints)
    assert not found.inverted[others].any() and not found.wrong[others].any()


def test_torso_diagonal_runs_from_left_shoulder_to_right_hip():
    truth = np.zeros((2, 14, 2))
    truth[:, LSP.joints.index("left_shoulder")] = (3, 4)
    labeled = np.ones((2, 14), bool)
    labeled[1, LSP.joints.index("right_hip")] = False
    assert metrics.torso_diagonal(truth, labeled, joints=LSP.joints).tolist() == [5.0, 0.0]


def test_strict_pcp_is_the_definition_person_by_person():
    data = people()
    point = {name: index for index, name in enumerate(LSP.joints)}
    counts = metrics.strict_pcp(*data[:3], joints=LSP.joints, fractions=THRESHOLDS)
    for (t, limit), (s, ends) in itertools.product(
        enumerate(THRESHOLDS), enumerate(protocols.STICKS.values())
    ):
        right = counted = 0
        for person in range(len(data.prediction)):
            if not all(data.labeled[person, point[name]] for end in ends for name in end):
                continue
            (a, b), (guess_a, guess_b) = (
                [np.mean([pose[person, point[name]] for name in end], axis=0) for end in ends]
                for pose in (data.ground_truth, data.prediction)
            )
            counted += 1
            allowed = limit * math.dist(a, b)
            right += math.dist(a, guess_a) <= allowed and math.dist(b, guess_b) <= allowed
        assert (counts.correct[t, s], counts.counted[s]) == (right, counted)


def test_a_distance_of_exactly_the_threshold_is_right():
    truth = np.zeros((1, 1, 2))
    guess = np.array([[[3.0, 4.0]]])
    counts = metrics.pck(guess, truth, [[True]], [10.0], thresholds=[0.5, 0.4999999])
    assert counts.correct.tolist() == [[1], [0]]


def test_a_stick_without_length_is_wrong_even_if_both_ends_are_exact():
    truth = np.zeros((1, 14, 2))
    counts = metrics.strict_pcp(truth, truth, np.ones((1, 14), bool), joints=LSP.joints)
    assert counts.correct.sum() == 0 and (counts.counted == 1).all()


def test_one_end_off_spoils_a_stick():
    truth = people().ground_truth[:1]
    guess = truth.copy()
    guess[0, LSP.joints.index("right_ankle")] += 1e4
    counts = metrics.strict_pcp(guess, truth, np.ones((1, 14), bool), joints=LSP.joints)
    wrong = [
        stick for stick, right in zip(protocols.STICKS, counts.correct[0], strict=True) if not right
    ]
    assert wrong == ["right_lower_leg"]


def test_area_under_a_straight_line_is_half_its_height():
    assert metrics.area_under_curve(np.array([0.0, 20.0, 80.0]), [0.0, 0.1, 0.4]) == pytest.approx(
        40
    )


def test_pck_itself_subtracts_whole_numbers_as_numbers():
    truth, guess = np.full((1, 1, 2), 9, np.uint8), np.full((1, 1, 2), 10, np.uint8)
    counts = metrics.pck(truth, guess, [[True]], [2.0], thresholds=[1.0])
    assert counts.correct.tolist() == [[1]]
