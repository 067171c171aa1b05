"""Metrics and protocols that a data set supports, and the metric that controls a run."""

import numpy as np
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.evaluation import metric_choice
from jaxpose.evaluation.evaluation_set import EvaluationSet
from jaxpose.skeleton import LSP
from tests.support.truth import annotations_of

DOG = ("nose", "left_ear", "right_ear")


def persons(joints=DOG, metric="auto", *, labeled=True, box=True, head=False, oks=False, **options):
    """Four persons."""
    truth = annotations_of(
        np.arange(4 * len(joints) * 2, dtype=float).reshape(4, -1, 2),
        np.full((4, len(joints)), labeled),
        box=np.array([[0, 0, 30.0, 40.0]] * 4) * box,
        head_size=np.full(4, 9.0) * head,
    )
    if oks:
        truth = truth._replace(area=np.full(4, 600.0), image_id=np.array(list("abcd")))
        options["sigmas"] = (0.1,) * len(joints)
    return EvaluationSet(joints, joints, joints, truth, metric=metric, **options)


def names(*arguments, **options):
    return list(metric_choice.protocols_of(persons(*arguments, **options)))


@pytest.fixture
def with_pycocotools(monkeypatch):
    monkeypatch.setattr(metric_choice.oks, "installed", lambda: True)


@pytest.fixture
def without_pycocotools(monkeypatch):
    monkeypatch.setattr(metric_choice.oks, "installed", lambda: False)


def test_own_joints_are_evaluated_by_pck():
    assert names() == names(head=True) == ["pck"]
    assert names((*DOG, "left_wrist"), head=True) == ["mpii-pckh", "pck"]


def test_the_papers_joints_are_evaluated_by_the_paper_unless_pck_is_wanted():
    assert names(LSP.joints, "lsp-pck") == ["lsp-pck", "lsp-pcp"]
    assert names(LSP.joints, "pck") == ["lsp-pck", "lsp-pcp", "pck"]


def test_without_a_unit_or_a_label_there_is_no_metric():
    assert names(box=False) == names(labeled=False) == []


def test_a_row_without_a_metric_has_a_reason():
    assert metric_choice.why_no_protocol(persons(labeled=False)) == "no joint has a label"
    why = metric_choice.why_no_protocol(persons(box=False))
    assert why.startswith("the data set has neither boxes nor a head size for every person")
    assert names(box=False, metric="pck:nose,left_ear") == ["pck"]  # as it advises


def test_oks_needs_its_fields_and_pycocotools(with_pycocotools):
    assert names(oks=True) == ["pck", "oks-ap"]
    assert names() == ["pck"]


def test_without_pycocotools_oks_is_left_out_unless_it_is_wanted(without_pycocotools):
    assert names(oks=True) == ["pck"]
    assert names(metric="oks-ap", oks=True) == ["pck", "oks-ap"]


def choose(metric, *rows, weights=None):
    named = {f"row {n}": found for n, found in enumerate(rows)}
    given = [1.0] * len(rows) if weights is None else weights
    return metric_choice.choose(metric, named, dict(zip(named, given, strict=True)))


def test_pck_steers_own_joints_and_its_unit_is_said():
    found = choose("auto", persons())
    assert found.metric == "pck"
    assert found.description.startswith(
        "PCK@0.1 of the box diagonal (pck) of row 0 selects the best"
    )


def test_the_loss_steers_where_no_unit_is_known_and_the_reason_is_said():
    found = choose("auto", persons(), persons(box=False))
    assert found.metric == "loss"
    assert "row 1 has neither boxes nor a head size for every person" in found.description


def test_the_loss_steers_where_no_row_has_a_weight():
    found = choose("lsp-pck", persons(LSP.joints), weights=[0.0])
    assert found.metric == "loss" and "row 0" in found.description and "weight" in found.description


def test_rows_without_labels_take_no_part():
    found = choose("auto", persons(), persons(labeled=False))
    assert (found.metric, found.weights) == ("pck", {"row 0": 1.0})
    found = choose("auto", persons(), persons(labeled=False), weights=[0.0, 1.0])
    assert (found.metric, found.weights) == ("loss", {"row 0": 1.0})


@pytest.mark.parametrize("rows", [(), (persons(labeled=False),)])
def test_without_labels_nothing_steers_and_that_is_said(rows):
    found = choose("auto", *rows)
    assert found.metric == "" and "newest checkpoint counts as the best" in found.description


def test_a_wanted_score_steers():
    assert choose("lsp-pck", persons(LSP.joints)).metric == "lsp-pck"
    assert choose("loss", persons(LSP.joints)).metric == "loss"


@pytest.mark.parametrize(
    ("metric", "options", "says"),
    [
        (
            "lsp-pck",
            {},
            "row 0 cannot be evaluated by lsp-pck; the row supports pck; change config.metric",
        ),
        (
            "oks-ap",
            {},
            "oks-ap (the data set has no area and image_id and sigmas); the row supports pck",
        ),
        (
            "pck:nose,tail",
            {},
            "pck:nose,tail (the data set has no joint tail; it has nose, left_ear, right_ear); the "
            "row supports pck; ",
        ),
        (
            "pck:head",
            {},
            "pck:head (the data set has no head sizes); the row supports pck; change",
        ),
        (
            "pck:head",
            {"box": False},
            "pck:head (the data set has no head sizes); the row supports no metric; change",
        ),
        (
            "pck",
            {"box": False},
            "pck (the data set has neither boxes nor a head size for every person); the row ",
        ),
    ],
)
def test_a_metric_that_a_row_does_not_allow_is_one_line_with_the_reason(metric, options, says):
    with pytest.raises(JaxposeError) as caught:
        choose(metric, persons(metric=metric, **options))
    assert says in str(caught.value)


def test_a_test_row_is_compared_by_pck_where_no_protocol_is_named():
    for metric in ("auto", "loss"):
        assert metric_choice.protocol_for(persons(metric=metric), "row").name == "pck"
        assert metric_choice.protocol_for(persons(metric=metric, box=False), "row") is None
    assert metric_choice.protocol_for(persons(labeled=False), "row") is None
    with pytest.raises(JaxposeError, match="row cannot be evaluated by mpii-pckh"):
        metric_choice.protocol_for(persons(metric="mpii-pckh"), "row")


@pytest.mark.parametrize("metric", ["pckx", "", "Auto", "loss:box"])
def test_an_unknown_metric_is_one_line_with_all_names(metric):
    with pytest.raises(JaxposeError, match="choose one of .*lsp-pck.*pck, oks-ap, loss, auto"):
        metric_choice.check_metric(metric)


def test_an_unknown_unit_is_one_line():
    metric_choice.check_metric("pck:nose,tail")
    for unit in ("feet", ""):
        with pytest.raises(JaxposeError, match=f"PCK has no unit '{unit}'"):
            metric_choice.check_metric(f"pck:{unit}")


def test_a_unit_after_a_colon_is_that_of_pck():
    found = choose("pck:nose,left_ear", persons(metric="pck:nose,left_ear"))
    assert found.metric == "pck"
    assert found.description.startswith("PCK@0.2 of the distance nose to left_ear (pck) of row 0")
