"""Tables as text: the paper's columns in its order, aligned, with its own rows."""

import numpy as np
import pytest

from jaxpose.evaluation import metrics, protocol_results, protocols, tables
from jaxpose.evaluation.labeled_predictions import LabeledPredictions
from jaxpose.skeleton import MPII


@pytest.fixture(params=protocols.PROTOCOLS)
def found(request):
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (50, 16, 2))
    data = LabeledPredictions(
        truth + rng.normal(0, 10, truth.shape),
        truth,
        rng.random((50, 16)) < 0.95,
        MPII.joints,
        MPII.joints,
        np.full(50, 20.0),
    )
    protocol = protocols.named(request.param)
    return protocol_results.evaluate(protocol, data)


HEADERS = {
    "mpii-pckh": "Head Shoulder Elbow Wrist Hip Knee Ankle Total",
    "lsp-pck": "Head Sho. Elb. Wri. Hip Knee Ank. PCK",
    "lsp-pcp": "Torso Up. leg Lo. leg Up. arm Forearm Head PCP",
}


def test_columns_are_the_papers_in_its_order(found):
    lines = tables.columns_text([("ours", found)]).splitlines()
    assert lines[2].split() == HEADERS[found.protocol.name].split()
    rates = [*found.columns.values(), found.total]
    assert lines[3].split() == ["ours", *(f"{rate:.2f}" for rate in rates)]


def test_every_row_has_a_rate_per_column_and_ends_where_the_header_ends(found):
    lines = tables.columns_text([("first block", found), ("last", found)], paper=True).splitlines()
    rows = [line for line in lines[2:] if not line.startswith("Paper")]
    assert {len(line.rstrip()) - len(line) for line in lines} == {0}
    assert {len(row) + (row[-2] == ".") for row in rows} == {len(rows[0])}
    assert all(len(line) <= 100 for line in lines)


def test_a_rate_that_does_not_exist_is_a_dash(found):
    found = found._replace(total=None)
    assert tables.columns_text([("x", found)]).splitlines()[3].split()[-1] == "-"


def test_the_title_names_metric_persons_and_description(found):
    title = tables.columns_text([("x", found)], description="whole image").splitlines()[0]
    assert title.endswith(", 50 persons: whole image")
    assert title.startswith(f"{found.protocol.metric}@{found.protocol.threshold}")


def inversions_of(found, name):
    """The cell of a part in the column of inversions, which sticks do not have."""
    if found.protocol.name == "lsp-pcp":
        return []
    paired = name.startswith(("right_", "left_"))
    return [str(found.inversions[name].inverted) if paired else "-"]


def test_parts_give_rate_and_counts(found):
    lines = tables.parts_text(found).splitlines()[1:]
    assert len(lines) == len(found.parts)
    for line, (name, part) in zip(lines, found.parts.items(), strict=True):
        rate = "-" if part.rate is None else f"{part.rate:.2f}"
        assert line.split() == [
            name, rate, str(part.correct), str(part.counted), str(part.not_labeled),
            str(part.not_predicted),
            *inversions_of(found, name),
        ]  # fmt: skip


def line_of_inversions(found):
    return [x for x in tables.beside_text(found).splitlines() if x.startswith("inversions")]


def test_inversions_are_a_percentage_of_the_wrong_joints(found):
    if found.protocol.name == "lsp-pcp":
        assert found.inversions is None and not line_of_inversions(found)
        return
    numbers = {"right_wrist": metrics.Inversions(1, 2), "left_wrist": metrics.Inversions(0, 2)}
    (line,) = line_of_inversions(found._replace(inversions=numbers))
    assert line.endswith(" 1 of 4 (25 %)")
    (line,) = line_of_inversions(found._replace(inversions={"wrist": metrics.Inversions(0, 0)}))
    assert line.endswith(" 0 of 0")


def test_what_was_left_out_is_said(found):
    uncounted = list(found.parts)[0]
    parts = {**found.parts, uncounted: protocol_results.PartResult(None, 0, 0, 50, 0)}
    found = found._replace(persons_left_out=7, parts=parts)
    said = tables.beside_text(found)
    assert f"{found.not_labeled} " in said and f"not in any average: {uncounted}" in said
    assert ("7 persons without" in said) == (found.protocol.name != "lsp-pcp")


def test_what_is_not_labeled_and_what_is_not_predicted_are_said_apart(found):
    kind = found.protocol.part_kind
    found = found._replace(not_labeled=12, not_predicted=1)
    expected = f"ignored: 12 {kind}s without a label, 1 labeled {kind} without a prediction"
    assert expected in tables.beside_text(found)
    assert "without a prediction" not in tables.beside_text(found._replace(not_predicted=0))


def test_the_averages_are_of_the_parts_that_were_counted(found):
    columns = found.protocol.averaged
    text = tables.beside_text(found)
    assert f"rate over all labels of {len(columns)} {found.protocol.part_kind}s (pooled)" in text
    nothing = protocol_results.PartResult(None, 0, 0, 0, 50)
    text = tables.beside_text(found._replace(parts={**found.parts, columns[0]: nothing}))
    assert f"mean of the rates of {len(columns) - 1} {found.protocol.part_kind}s" in text


def test_pckh_at_a_tenth_and_the_area_under_the_curve_stand_beside_mpiis_table(found):
    said = tables.beside_text(found)
    is_mpii = found.protocol.name == "mpii-pckh"
    assert ("PCKh@0.1" in said) == is_mpii
    assert ("area under the curve" in said) == is_mpii


def test_the_papers_rows_have_as_many_rates_as_columns():
    for table in tables.PAPER_TABLES:
        columns = len(protocols.named(table.protocol).columns)
        assert all(len(rates) == columns + 1 for _, _, rates in table.rows)


def test_the_papers_totals_agree_with_its_columns():
    # Both heads, and left and right of the rest, weigh the same: PCK and PCP are then the mean of
    # the columns (limbs twice in PCP), up to the rounding of the published figures.
    for table in tables.PAPER_TABLES:
        weights = {"mpii-pckh": None, "lsp-pck": [1] * 7, "lsp-pcp": [1, 2, 2, 2, 2, 1]}
        if weight := weights[table.protocol]:
            for _, _, rates in table.rows:
                assert np.average(rates[:-1], weights=weight) == pytest.approx(rates[-1], abs=0.11)


def test_the_papers_rows_as_values_name_their_table(found):
    rows = tables.paper_dicts(protocols.named(found.protocol.name))
    numbers = {"mpii-pckh": {5}, "lsp-pck": {1, 3}, "lsp-pcp": {2, 4}}
    assert {row["table"] for row in rows} == numbers[found.protocol.name]
    assert all(list(row["columns"]) == list(found.columns) for row in rows)
