"""What the results of every protocol keep, and inversions."""

import functools
import itertools
import math

import numpy as np
import pytest

from jaxpose.evaluation import protocol_results, protocols
from jaxpose.evaluation.labeled_predictions import select_persons
from jaxpose.skeleton import AUTHORS, LSP, MPII, flip_permutation, joint_index
from tests.support.noisy_predictions import people

PROTOCOLS = protocols.PROTOCOLS.values()


@pytest.fixture(params=PROTOCOLS, ids=[p.name for p in PROTOCOLS])
def score(request):
    return functools.partial(protocol_results.count, request.param)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_truth_itself_scores_100(score):
    data = people()
    counts = score(data._replace(prediction=data.ground_truth))
    assert (counts.correct == counts.counted).all() and counts.counted.sum() > 0


def test_an_answer_far_away_scores_0(score):
    data = people()
    assert score(data._replace(prediction=data.ground_truth + 1e6)).correct.sum() == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308])
def test_an_answer_that_is_no_number_is_wrong_and_counted(score, value):
    data = people()
    counts = score(data._replace(prediction=np.full_like(data.prediction, value)))
    assert counts.correct.sum() == 0
    assert same(counts[1:], score(data)[1:])


@pytest.mark.parametrize("cuts", [(1,), (13, 14, 39), (0, 40)])
def test_counts_of_parts_add_up_to_the_whole(score, cuts):
    data = people()
    edges = (0, *cuts, len(data.prediction))
    parts = [
        score(data._replace(**{n: getattr(data, n)[a:b] for n in ARRAYS}))
        for a, b in itertools.pairwise(edges)
    ]
    assert same([sum(values) for values in zip(*parts, strict=True)], score(data))


ARRAYS = ("prediction", "ground_truth", "labeled", "head_size")


def test_the_order_of_persons_does_not_matter(score):
    data = people()
    order = np.random.default_rng(1).permutation(len(data.prediction))
    assert same(score(data._replace(**{n: getattr(data, n)[order] for n in ARRAYS})), score(data))


def test_joints_are_read_by_name_whatever_their_order(score):
    data = people()
    order = np.random.default_rng(2).permutation(14)
    shuffled = data._replace(
        prediction=data.prediction[:, order[::-1]],
        prediction_joints=tuple(np.array(LSP.joints)[order[::-1]].tolist()),
        ground_truth=data.ground_truth[:, order],
        labeled=data.labeled[:, order],
        joints=tuple(np.array(LSP.joints)[order].tolist()),
    )
    assert same(score(shuffled), score(data))


@pytest.mark.parametrize("joints", [MPII.joints, AUTHORS.joints], ids=["MPII", "AUTHORS"])
def test_a_16_joint_answer_is_scored_on_14_joints_by_name(score, joints):
    data = people()
    wide = np.full((len(data.prediction), 16, 2), np.nan)
    index = joint_index(joints, LSP.joints)
    wide[:, index] = data.prediction
    assert same(score(data._replace(prediction=wide, prediction_joints=joints)), score(data))


def test_moving_everything_changes_nothing(score):
    data = people()
    moved = [getattr(data, name) + (300.0, -45.0) for name in ARRAYS[:2]]
    assert same(score(data._replace(prediction=moved[0], ground_truth=moved[1])), score(data))


@pytest.mark.parametrize("factor", [0.01, 1 / 3, 640.0])
def test_the_unit_does_not_matter(score, factor):
    data = people()
    scaled = {n: getattr(data, n) * factor for n in ("prediction", "ground_truth", "head_size")}
    assert same(score(data._replace(**scaled)), score(data))


def test_a_rotation_changes_nothing(score):
    data = people()
    cos, sin = math.cos(0.7), math.sin(0.7)
    turn = np.array([[cos, -sin], [sin, cos]])
    turned = {n: getattr(data, n) @ turn for n in ARRAYS[:2]}
    assert same(score(data._replace(**turned)), score(data))


def test_positions_without_a_label_are_never_read(score):
    data = people()
    filled = np.where(data.labeled[..., None], data.ground_truth, np.nan)
    assert same(score(data._replace(ground_truth=filled)), score(data))


def test_a_nearer_answer_never_scores_less(score):
    data = people()
    nearer = data.ground_truth + (data.prediction - data.ground_truth) / 2
    assert (score(data._replace(prediction=nearer)).correct >= score(data).correct).all()


def test_a_wider_threshold_never_scores_less(score):
    assert (np.diff(score(people()).correct, axis=0) >= 0).all()


@pytest.mark.parametrize("predicted", [LSP.joints, LSP.joints[:5], ("nose",)])
def test_every_entry_is_counted_or_left_out_for_one_reason(score, predicted):
    data = people()
    order = joint_index(LSP.joints, predicted)
    counts = score(data._replace(prediction=data.prediction[:, order], prediction_joints=predicted))
    entries = counts.counted + counts.not_labeled + counts.not_predicted
    assert (entries == counts.persons - counts.persons_left_out).all()
    assert (counts.correct <= counts.counted).all()
    assert same([counts.not_labeled], [score(data).not_labeled])


@pytest.mark.parametrize(
    ("protocol", "not_predicted"),
    [
        (protocols.MPII_PCKH, {"pelvis": 5, "right_wrist": 4}),
        (protocols.LSP_PCK, {"right_wrist": 4}),
        (protocols.LSP_PCP, {"right_forearm": 4}),
    ],
)
def test_labeled_joints_without_a_prediction_are_no_joints_without_a_label(protocol, not_predicted):
    """Five persons with MPII's joints, a right wrist not labeled; 14 joints are predicted."""
    data = people(persons=5, joints=MPII.joints)
    data.labeled[:] = True
    data.labeled[0, MPII.joints.index("right_wrist")] = False
    kept = [name for name in MPII.joints if name not in ("pelvis", "right_wrist")]
    order = joint_index(MPII.joints, kept)
    found = protocol_results.evaluate(
        protocol,
        data._replace(prediction=data.prediction[:, order], prediction_joints=tuple(kept)),
    )
    assert (found.not_labeled, found.not_predicted) == (1, sum(not_predicted.values()))
    counts = {name: part.not_predicted for name, part in found.parts.items() if part.not_predicted}
    assert counts == not_predicted
    assert {name for name, part in found.parts.items() if not part.counted} == set(not_predicted)


def test_a_person_without_any_label_adds_nothing_right_or_counted(score):
    data = people()
    data.labeled[7] = False
    kept = np.arange(40) != 7
    without = score(data._replace(**{n: getattr(data, n)[kept] for n in ARRAYS}))
    counts = score(data)
    assert same(counts[:2], without[:2]) and counts.persons == without.persons + 1


def test_whole_numbers_without_a_sign_are_subtracted_as_numbers(score):
    data = people()
    whole = {n: np.round(np.abs(getattr(data, n))) for n in ARRAYS[:2]}
    unsigned = {name: value.astype(np.uint8) for name, value in whole.items()}
    assert same(score(data._replace(**unsigned)), score(data._replace(**whole)))


def test_no_persons_give_zero_counts(score):
    data = people()
    counts = score(data._replace(**{n: getattr(data, n)[:0] for n in ARRAYS}))
    assert counts.correct.sum() == counts.counted.sum() == counts.persons == 0


def test_counts_are_whole_numbers(score):
    assert all(np.asarray(field).dtype == np.int64 for field in score(people()))


def exchanged(data):
    """Predictions with left and right exchanged, and otherwise perfect."""
    return data._replace(prediction=data.ground_truth[:, flip_permutation(LSP.joints)])


def test_exchanged_sides_are_inversions_of_every_pair():
    result = protocol_results.evaluate(protocols.LSP_PCK, exchanged(people()))
    assert set(result.inversions) == set(LSP.joints) - {"neck", "head_top"}
    for inverted, wrong in result.inversions.values():
        assert inverted == wrong > 10
    assert result.all_inversions == tuple(map(sum, zip(*result.inversions.values(), strict=True)))
    assert protocol_results.evaluate(protocols.LSP_PCP, exchanged(people())).inversions is None


def test_the_counterpart_of_an_inversion_needs_no_prediction():
    whole = exchanged(people())
    names = tuple(name for name in LSP.joints if name != "left_wrist")
    kept = joint_index(LSP.joints, names)
    data = whole._replace(prediction=whole.prediction[:, kept], prediction_joints=names)
    expected = protocol_results.evaluate(protocols.LSP_PCK, whole).inversions
    found = protocol_results.evaluate(protocols.LSP_PCK, data).inversions
    assert found == {**expected, "left_wrist": (0, 0)}


def test_inversions_of_separated_persons_are_counted_alone():
    data = exchanged(people())
    separated = np.arange(40) < 10
    few = select_persons(data, separated)
    found = protocol_results.evaluate(
        protocols.LSP_PCK, data._replace(separated=separated), separated_only=True
    )
    assert found.inversions == protocol_results.evaluate(protocols.LSP_PCK, few).inversions
    assert (
        0
        < found.all_inversions.wrong
        < protocol_results.evaluate(protocols.LSP_PCK, data).all_inversions.wrong
    )
