"""The page of a run: read back as markup, its numbers, points and images are those given."""

import base64
import io
import json
import re
import xml.etree.ElementTree as ElementTree

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import common
from jaxpose.checkpoints import store
from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.data.prepared import PreparedSplit
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import any_joints, oks, protocol_results, protocols
from jaxpose.evaluation.baselines import constant_poses
from jaxpose.evaluation.evaluate import Evaluation, evaluate_checkpoint
from jaxpose.evaluation.evaluation_set import evaluation_set_of
from jaxpose.evaluation.inference import PARTS_ALONE
from jaxpose.evaluation.labeled_predictions import LabeledPredictions
from jaxpose.geometry import MPII_RULE
from jaxpose.network import PoseNet, initial_variables
from jaxpose.report import (
    Panel,
    PanelImage,
    Section,
    overlay,
    page,
    persons,
    report_run,
    write_report,
)
from jaxpose.report.curves import Curve, line_chart
from jaxpose.skeleton import LSP
from jaxpose.training.config import DataRow, data_rows
from tests.support.browser import open_browser
from tests.support.drawn_people import IMAGE, JOINTS, NETWORK, split_of

ROW = "people:test (whole image)"


def scored(seed):
    """Results of all that LSP's joints allow, of 40 persons guessed at random."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 100, (40, 14, 2))
    labeled = rng.random((40, 14)) < 0.9
    guess = truth + rng.normal(0, 12, truth.shape)
    predictions = LabeledPredictions(guess, truth, labeled, LSP.joints, LSP.joints)
    return {
        name: protocol_results.evaluate(protocol, predictions)
        for name, protocol in protocols.PROTOCOLS.items()
        if name != "mpii-pckh"
    }


ROWS = {ROW: scored(0)}
MEAN = {ROW: scored(1)}
LOSSES = [0.7, 0.5, None, 0.3, 0.25]
HISTORY = [
    {"kind": "train", "step": 50 * (i + 1), "loss": loss, "learning_rate": 1e-3 * 0.5**i}
    for i, loss in enumerate(LOSSES)
] + [
    {
        "kind": "validation",
        "step": step,
        "metric": metric,
        "rows": {"a": {"lsp-pck": {"total": 1.0}}},
    }
    for step, metric in ((100, 20.0), (200, 35.5))
]


def noise_image(seed, size=64):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def sections(count):
    panels = [
        Panel(f"person {i}", [PanelImage(noise_image(i), "truth", f"the truth of {i}")])
        for i in range(count)
    ]
    return [Section("Persons", "Drawn.", panels)]


def write(folder, **changes):
    arguments = dict(
        title="a run",
        description="what it is",
        rows=ROWS,
        beside={"mean pose": MEAN},
        history=HISTORY,
        images=sections(3),
        notes=[("seed", "7")],
    )
    return write_report(folder / "report.html", **{**arguments, **changes})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The page as a tree; whatever is not closed or quoted does not parse."""
    text = write(tmp_path_factory.mktemp("page")).read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))


def words(element):
    return " ".join("".join(element.itertext()).split())


def tables(root, kind):
    """Rows of texts of every table of a kind, by caption."""
    return {
        words(table.find("caption")): [[words(c) for c in row] for row in table.iter("tr")]
        for table in root.iter("table")
        if table.get("class") == kind
    }


# What a page must not and must have


def test_nothing_is_fetched(root):
    for element in root.iter():
        for name in ("src", "href", "srcset", "data", "action"):
            assert element.get(name, "data:").startswith(("data:", "#")), element.attrib
    assert not any(element.tag in ("script", "link", "iframe") for element in root.iter())
    styles = [element.text for element in root.iter("style")]
    styles += [element.get("style", "") for element in root.iter()]
    assert not re.search(r"https?:|url\(|@import", " ".join(styles))


def test_it_is_said_what_images_tables_and_drawings_show(root):
    assert root.get("lang") == "en"
    drawings = list(root.iter("svg"))
    assert all(drawing.get("aria-label") and drawing.get("role") == "img" for drawing in drawings)
    assert {drawing.get("aria-label") for drawing in drawings} >= {
        f"the truth of {i}" for i in range(3)
    }
    for table in root.iter("table"):
        assert words(table.find("caption"))
        heads = table.findall("thead//th")
        assert heads and all(head.get("scope") == "col" for head in heads)
        assert all(row[0].get("scope") == "row" for row in table.findall("tbody/tr"))


def test_it_is_light_and_dark_and_fits_a_phone(root):
    style = next(root.iter("style")).text
    assert "prefers-color-scheme: dark" in style
    assert any(meta.get("name") == "viewport" for meta in root.iter("meta"))


def test_whatever_a_text_holds_is_shown_not_run(tmp_path):
    wicked = '</title><script src="http://x">&amp;\'"'
    notes = [(wicked, wicked)]
    images = [
        Section(wicked, wicked, [Panel(wicked, [PanelImage(noise_image(0), wicked, wicked)])])
    ]
    path = write(
        tmp_path,
        title=wicked,
        description=wicked,
        notes=notes,
        images=images,
        rows={wicked: {}},
    )
    root = ElementTree.fromstring(path.read_text().removeprefix("<!DOCTYPE html>"))
    assert not list(root.iter("script"))
    assert next(root.iter("h1")).text == wicked
    assert next(root.iter("svg")).get("aria-label") == wicked


def test_whatever_the_name_of_a_joint_holds_is_shown_not_run():
    name = 'R&D <img src="x">'
    drawn = overlay.skeleton(np.zeros((1, 2)), joints=[name], limbs=[], drawn=np.array([True]))
    assert next(ElementTree.fromstring(f"<svg>{drawn}</svg>").iter("title")).text == name


# Numbers


@pytest.mark.parametrize("protocol", ["lsp-pck", "lsp-pcp"])
def test_the_columns_are_the_rows(root, protocol):
    result, mean = ROWS[ROW][protocol], MEAN[ROW][protocol]
    head, *body = tables(root, "columns")[f"{result.protocol.metric}@{result.protocol.threshold:g}"]
    assert head[1:-1] == [header for _, header, _ in protocols.PROTOCOLS[protocol].columns]
    assert [row[0] for row in body] == ["this network", "mean pose"]
    for row, found in zip(body, (result, mean), strict=True):
        assert row[1:] == [f"{v:.2f}" for v in (*found.columns.values(), found.total)]


@pytest.mark.parametrize("protocol", ["lsp-pck", "lsp-pcp"])
def test_every_joint_has_its_rate_its_counts_and_the_mean_poses_rate(root, protocol):
    result, mean = ROWS[ROW][protocol], MEAN[ROW][protocol]
    _, *body = tables(root, "each")[f"{result.protocol.metric}@{result.protocol.threshold:g}"]
    expected = [
        [
            part.replace("_", " "),
            "",
            f"{found.rate:.2f}",
            f"{mean.parts[part].rate:.2f}",
            f"{found.correct} of {found.counted}",
        ]
        for part, found in result.parts.items()
    ]
    assert body == expected


def test_the_inversions_of_all_joints_are_below_their_table(root):
    inverted, wrong = ROWS[ROW]["lsp-pck"].all_inversions
    expected = f"their counterpart): {inverted} of {wrong} ({100 * inverted / wrong:.0f} %)."
    notes = [p.text for p in root.iter("p") if p.text and p.text.startswith("Inversions")]
    assert len(notes) == 1 and notes[0].endswith(expected)  # none below the table of sticks


def own(seed):
    """PCK of two joints of one's own, and OKS-AP, which has no single joints."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 100, (9, 2, 2))
    joints = ("left_paw", "tail_tip")
    predictions = LabeledPredictions(
        truth + rng.normal(0, 9, truth.shape), truth, np.ones((9, 2), bool), joints, joints,
        box=np.tile([0.0, 0.0, 60.0, 80.0], (9, 1)),
    )  # fmt: skip
    protocol = any_joints.pck_protocol(joints, unit=any_joints.UNITS["box"])
    pck = protocol_results.evaluate(protocol, predictions)
    columns = {key: 10.0 for key, *_ in oks.COLUMNS}
    ap = pck._replace(protocol=oks.OKS_AP, total=12.5, columns=columns, parts={}, errors=None)
    return {"pck": pck, "oks-ap": ap}


def test_own_joints_have_their_unit_their_names_and_their_mean_error(tmp_path):
    rows, beside = {ROW: own(0)}, {"mean pose": {ROW: own(1)}}
    text = write(tmp_path, rows=rows, beside=beside).read_text()
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    pck = rows[ROW]["pck"]
    ((label, (_, *body)),) = tables(root, "each").items()
    assert label == "PCK@0.1 of the box diagonal"
    assert [row[0] for row in body] == ["left paw", "tail tip"]
    assert [row[-1] for row in body] == [f"{error:.2f}" for error in pck.errors.values()]
    assert f"Mean error (NME) over all joints: {pck.mean_error:.2f} % of the box diagonal" in text
    assert tables(root, "columns")["OKS-AP"][1][-1] == "12.50"


def test_ignored_joints_have_their_reasons_and_an_average_precision_is_no_percentage_correct(
    tmp_path,
):
    results = {
        name: found._replace(not_labeled=4, not_predicted=3) for name, found in own(0).items()
    }
    text = write(tmp_path, rows={ROW: results}, beside=None).read_text()
    ignored = "9 persons, 4 joints without a label, 3 labeled joints without a prediction."
    assert f">Percent correct; {ignored}<" in text and f">Percent; {ignored}<" in text
    text = write(tmp_path, rows={ROW: own(0)}, beside=None).read_text()
    assert "0 joints without a label.<" in text and "without a prediction" not in text


def test_without_counted_joints_there_is_no_table_of_each_joint(tmp_path):
    found = own(0)["pck"]
    nothing = {name: protocol_results.PartResult(None, 0, 0, 9, 0) for name in found.parts}
    rows = {ROW: {"pck": found._replace(parts=nothing), "oks-ap": own(0)["oks-ap"]}}
    assert "Each joint" not in write(tmp_path, rows=rows, beside=None).read_text()
    assert "Each joint" in write(tmp_path, rows={ROW: own(0)}, beside=None).read_text()


def test_a_run_that_its_loss_steers_has_a_chart_of_that_loss(tmp_path):
    history = [
        {"kind": "validation", "step": step, "metric": -100 * loss, "loss": loss, "rows": {"a": {}}}
        | {"steered_by": "loss"}
        for step, loss in ((10, 0.5), (20, 0.25))
    ]
    root = ElementTree.fromstring(
        write(tmp_path, history=history).read_text().removeprefix("<!DOCTYPE html>")
    )
    titles = [words(heading) for heading in root.iter("h3")]
    assert titles == ["Validation loss"]


def test_the_curves_of_several_rows_are_those_of_the_runs_metric(tmp_path):
    history = [
        {"kind": "validation", "step": step, "metric": total, "steered_by": "pck"}
        | {"rows": {n: {"mpii-pckh": {"total": 90.0}, "pck": {"total": total}} for n in "ab"}}
        for step, total in ((10, 25.0), (20, 50.0))
    ]
    text = write(tmp_path, history=history).read_text()
    assert "a, pck" in text and "b, pck" in text and "mpii-pckh" not in text


def test_the_headline_is_of_the_first_row_with_results_and_names_it(tmp_path):
    text = write(tmp_path, rows={"unlabeled": {}, **ROWS}).read_text()
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    items = [words(item) for item in root.find(".//ul[@class='results']")]
    assert len(items) == len(ROWS[ROW])
    assert f'<p class="quiet">{ROW}</p>\n<ul class="results">' in text


def test_the_headline_has_the_totals(root):
    items = [words(item) for item in root.find(".//ul[@class='results']")]
    for item, protocol in zip(items, ROWS[ROW], strict=True):
        assert f"{ROWS[ROW][protocol].total:.2f}" in item
        assert f"mean pose {MEAN[ROW][protocol].total:.2f}" in item


def test_a_page_without_a_mean_pose_history_or_images_is_whole(tmp_path):
    text = write(tmp_path, beside=None, history=[], images=[], notes=[]).read_text()
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    assert [words(heading) for heading in root.iter("h2")] == [f"Results on {ROW}"]
    assert "mean pose" not in text


# Curves


def points(drawing):
    """Of every polyline, [P, 2]."""
    return [
        np.array([p.split(",") for p in line.get("points").split()], float)
        for line in drawing.iter("polyline")
    ]


def chart(root, title):
    figures = [f for f in root.iter("figure") if f.find("h3") is not None]
    return next(f for f in figures if words(f.find("h3")).startswith(title)).find("svg")


@pytest.mark.parametrize(
    ("title", "count"), [("Training loss", 4), ("Validation", 2), ("Learning rate", 5)]
)
def test_every_curve_has_its_points(root, title, count):
    drawing = chart(root, title)
    assert sum(map(len, points(drawing))) == len(list(drawing.iter("circle"))) == count


def test_a_missing_value_breaks_the_line(root):
    assert [len(part) for part in points(chart(root, "Training loss"))] == [2, 2]


def test_points_lie_where_the_axes_say():
    values = [10.0, 30.0, 20.0]
    svg = ElementTree.fromstring(
        line_chart([Curve("x", [0, 50, 100], values)], last_step=100, label="x")
    )
    (line,) = points(svg)
    assert np.allclose(np.diff(line[:, 0]), line[1, 0] - line[0, 0], atol=0.11)
    ticks = {
        float(text.text): float(text.get("y")) - 4
        for text in svg.iter("text")
        if text.get("class") == "left"
    }
    for value, (_, y) in zip(values, line, strict=True):
        assert y == pytest.approx(ticks[value], abs=0.11)


def test_rates_of_some_orders_of_magnitude_fall_on_a_logarithmic_axis():
    values = [1e-3, 1e-4, 1e-5]
    svg = ElementTree.fromstring(
        line_chart([Curve("rate", [1, 2, 3], values)], last_step=3, label="rate")
    )
    heights = points(svg)[0][:, 1]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.11)


@pytest.mark.parametrize(
    "values", [[5.0], [0.0, 0.0], [-3.0, -3.0, None], [1e-12, 1e9], [1e5, 2e5]]
)
def test_odd_values_have_a_drawing(values):
    steps = range(1, len(values) + 1)
    svg = line_chart([Curve("x", steps, values)], last_step=len(values), label="x")
    assert "nan" not in svg and "inf" not in svg
    heights = np.concatenate(points(ElementTree.fromstring(svg)))[:, 1]
    assert heights.min() >= 0 and heights.max() <= 210


# Images


def test_images_are_inlined_in_order(root):
    drawings = [drawing for drawing in root.iter("svg") if drawing.find(".//image") is not None]
    assert [drawing.get("aria-label") for drawing in drawings] == [
        f"the truth of {i}" for i in range(3)
    ]
    for i, drawing in enumerate(drawings):
        kind, data = drawing.find(".//image").get("href").split(",")
        assert kind == "data:image/webp;base64"
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), float)
        assert shown.shape == (64, 64, 3)
        assert np.corrcoef(shown.ravel(), noise_image(i).ravel())[0, 1] > 0.5


def test_each_panel_opens_enlarged_with_the_same_images(root):
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids)
    figures = root.findall(".//figure[@class='card panel']")
    assert len(figures) == 3
    for figure in figures:
        button, enlarged = figure.find("button"), figure.find("div[@popover]")
        assert button.get("popovertarget") == enlarged.get("id")
        assert words(figure.find("figcaption")) in button.get("aria-label")
        close = enlarged.find(".//button")
        assert close.get("popovertarget") == enlarged.get("id")
        assert close.get("popovertargetaction") == "hide"
        shown = [group.get("id") for group in figure.findall("div/span/svg/g")]
        again = [use.get("href") for use in enlarged.iter("use")]
        assert again == [f"#{name}" for name in shown] and shown


def test_a_photo_that_is_shown_twice_is_stored_once(tmp_path):
    photo = noise_image(0)
    twice = [PanelImage(photo, "a", "a", '<path d="M0 0L1 1"/>'), PanelImage(photo, "b", "b")]
    text = write(tmp_path, images=[Section("Persons", "", [Panel("one", twice)])]).read_text()
    assert text.count("data:image/webp") == 1 and text.count('<path d="M0 0L1 1"/>') == 1
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    first, second = root.findall(".//figure[@class='card panel']/div/span/svg/g")
    assert second.find("use").get("href") == f"#{first.find('image').get('id')}"


def test_images_come_first_then_curves_tables_and_maps(tmp_path):
    maps = [Section("Maps", "", [Panel("one", [PanelImage(noise_image(9), "map", "a map")])])]
    text = write(tmp_path, maps=maps).read_text()
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    assert [words(heading) for heading in root.iter("h2")] == [
        "Persons", "Training", f"Results on {ROW}", "Maps", "Details",
    ]  # fmt: skip


def test_many_images_are_pressed_until_they_fit(tmp_path, monkeypatch):
    whole = write(tmp_path, images=sections(6)).stat().st_size
    monkeypatch.setattr(page, "MAX_IMAGE_BYTES", 6 * 1600)
    assert write(tmp_path, images=sections(6)).stat().st_size < whole - 4000


def test_a_page_is_replaced_in_one_move(tmp_path):
    write(tmp_path)
    write(tmp_path, title="another")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "another" in (tmp_path / "report.html").read_text()


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(JaxposeError, match="report.html cannot be written"):
        write(tmp_path / "absent")


# Persons


def test_a_circle_is_drawn_around_the_truth_and_tells_right_from_wrong():
    truth = np.array([[10.0, 10.0], [50.0, 50.0], [np.nan, np.nan]])
    guess = np.array([[13.0, 14.0], [53.0, 54.1], [1.0, 1.0]])  # 5 and 5.08 away
    drawing = ElementTree.fromstring(f"<g>{overlay.errors(guess, truth, radius=5.0)}</g>")
    circles = {c.get("class"): c for c in drawing.iter("circle") if c.get("class") != "true"}
    assert set(circles) == {"error correct", "error wrong"}
    for kind, (x, y) in (("error correct", (10, 10)), ("error wrong", (50, 50))):
        assert [float(circles[kind].get(key)) for key in ("cx", "cy", "r")] == [x, y, 5.0]
    lines = [path.get("d") for path in drawing.iter("path") if path.get("class") == "error wrong"]
    assert lines == ["M53.0 54.1L50.0 50.0"]


def test_a_limb_is_drawn_between_two_joints_that_are_drawn():
    drawing = overlay.skeleton(
        np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        joints=("left_hip", "left_knee", "left_ankle"),
        limbs=(("left_hip", "left_knee"), ("left_knee", "left_ankle")),
        drawn=np.array([True, True, False]),
    )
    root = ElementTree.fromstring(f"<g>{drawing}</g>")
    assert [p.get("d") for p in root.iter("path") if p.get("class") == "limb"] == [
        "M1.0 2.0L3.0 4.0"
    ]
    assert [words(circle) for circle in root.iter("circle")] == ["left hip", "left knee"]


def test_persons_are_counted_as_the_protocol_counts_all_of_them():
    rng = np.random.default_rng(3)
    truth = rng.uniform(0, 100, (30, 14, 2))
    labeled = rng.random((30, 14)) < 0.8
    guess = truth + rng.normal(0, 15, truth.shape)
    predictions = LabeledPredictions(guess, truth, labeled, LSP.joints, LSP.joints)
    for name in ("lsp-pck", "lsp-pcp"):
        protocol = protocols.PROTOCOLS[name]
        found = persons.correctness(predictions, protocol)
        parts = protocol_results.evaluate(protocol, predictions).parts.values()
        assert found.correct.sum() == sum(part.correct for part in parts)
        assert found.counted.sum() == sum(part.counted for part in parts)
    i = int(np.flatnonzero(labeled.any(axis=1))[0])
    distances = np.hypot(*(guess - truth)[i, labeled[i]].T)
    extent = np.ptp(truth[i, labeled[i]], axis=0).max()
    assert found.error[i] == pytest.approx(distances.mean() / extent)


def test_the_worst_the_median_and_the_best_are_chosen():
    right = np.array([5, 1, 9, 3, 7, 0, 8, 2, 6, 4, 0])
    counted = np.where(right == 6, 0, 10)  # person 8 is not scored
    error = np.array([0.0] * 10 + [0.5])  # worse than person 5, of as many right joints
    found = persons.Correctness(right, counted, error)
    readable = np.delete(np.arange(11), 2)  # the best one's image does not decode
    assert persons.choose_persons(found, readable) == {
        "Worst predictions": [10, 5, 1],
        "Median predictions": [7, 3, 9],
        "Best predictions": [6, 4, 0],
    }
    nothing = found._replace(counted=np.zeros(11, int))
    assert persons.choose_persons(nothing, readable[:2]) == {"Predictions": [0, 1]}
    assert persons.choose_persons(nothing, readable[:0]) == {"Predictions": []}


# In a browser


def test_it_fits_a_phone_and_opens_images_from_the_keyboard(tmp_path):
    blocks = {name: ROWS[ROW]["lsp-pck"] for name in ("block 1", "maximum of the part maps")}
    file = write(tmp_path, rows={ROW: {**ROWS[ROW], **own(0)}}, blocks={ROW: blocks})
    with open_browser(tmp_path / "profile") as browser:
        for dark in (False, True):
            browser.shape(360, 800, dark=dark)
            browser.open(file.as_uri())
            assert browser.run("return document.documentElement.scrollWidth") == 360
            assert browser.run(
                "return [...document.querySelectorAll('.wide')].every("
                "e => e.scrollWidth <= e.clientWidth)"
            )
        is_open = "return document.getElementById('large0').matches(':popover-open')"
        browser.type(".enlarge", "\ue007")  # Enter
        assert browser.run(is_open)
        browser.press("\ue00c")  # Escape
        assert not browser.run(is_open)
        assert browser.complaints() == []


# A run


def evaluation_of(checkpoint, **fields):
    """An evaluation, without test rows, of the checkpoint at a path."""
    network = PoseNet(num_joints=2, num_blocks=1, width=18)
    metadata = CheckpointMetadata(
        network={"num_joints": 2},
        joints=("nose", "tail"),
        flip_pairs=(),
        limbs=(),
        trained_joints=("nose", "tail"),
        image_size=32,
        crop=MPII_RULE,
        step=300,
        **fields,
    )
    variables = {"params": {}, "batch_stats": {}}
    return Evaluation(store.Network(network, variables, metadata, checkpoint), "auto", {})


def write_run(workdir, *data, rate):
    """Write what a run leaves in its workdir, without checkpoints."""
    workdir.mkdir(exist_ok=True)
    config = {"data": data, "crop": "scale"}
    (workdir / "config.json").write_text(json.dumps(config), encoding="utf-8")
    record = {"kind": "train", "step": 10, "loss": 0.5, "images_per_second": rate}
    (workdir / "metrics.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")


def report_of(workdir, evaluation, *data):
    """The report's description, its headings, and its notes by term."""
    page = report_run(
        workdir, evaluation, [DataRow(name, 1.0, "box") for name in data], data_dir=""
    )
    root = ElementTree.fromstring(page.read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>"))
    notes = zip(root.iter("dt"), root.iter("dd"), strict=True)
    headings = [words(heading) for heading in root.iter("h2")]
    return words(root.find(".//main/p")), headings, {words(a): words(b) for a, b in notes}


@pytest.mark.parametrize("results", ["run", "elsewhere"])
def test_training_data_and_curves_are_those_of_the_run_that_trained_the_checkpoint(
    tmp_path, results
):
    write_run(tmp_path / "elsewhere", ["dogs", 1.0], rate=77.0)
    write_run(tmp_path / "run", ["cats", 1.0, "box"], ["mice", 2], rate=40.0)
    evaluation = evaluation_of(tmp_path / "run" / "checkpoints" / "best" / "300")
    # The config of the evaluation has other data sets than those of the run.
    description, headings, notes = report_of(tmp_path / results, evaluation, "dogs")
    assert description.endswith("after 300 steps of training on cats, mice.")
    assert notes["training data"] == "cats (weight 1, crop box); mice (weight 2, crop scale)"
    assert notes["speed"].startswith("40 images per second") and "Training" in headings


@pytest.mark.parametrize("checkpoint", ["small.npz", "300", "checkpoints/300", "best/300"])
def test_a_checkpoint_that_is_in_no_run_has_neither_training_data_nor_curves(tmp_path, checkpoint):
    write_run(tmp_path, ["dogs", 1.0], rate=77.0)
    evaluation = evaluation_of(tmp_path / checkpoint)
    description, headings, notes = report_of(tmp_path, evaluation, "dogs")
    assert description.endswith("after 300 training steps.")
    assert notes["training data"] == "unknown: only a run's workdir records them"
    assert "speed" not in notes and headings == ["Details"]


@pytest.mark.parametrize("config", ["", "[]", '{"data": 3}', '{"data": [["dogs"]], "crop": "box"}'])
def test_a_run_whose_config_cannot_be_read_has_unknown_training_data(tmp_path, config):
    write_run(tmp_path, rate=40.0)
    (tmp_path / "config.json").write_text(config)
    evaluation = evaluation_of(tmp_path / "checkpoints" / "latest" / "300")
    description, headings, notes = report_of(tmp_path, evaluation)
    assert description.endswith("after 300 training steps.")
    assert notes["training data"].startswith("unknown") and "Training" in headings


def test_an_imported_network_names_its_file_and_no_training(tmp_path):
    description, _, notes = report_of(tmp_path, evaluation_of(tmp_path / "0", source="weights.h5"))
    assert description.endswith("32x32 pixels, imported from weights.h5.")
    assert "training" not in notes


def test_baselines_name_the_splits_that_they_are_computed_from(tmp_path, monkeypatch):
    people = split_of(3)
    unlabeled = [{**person, "labeled": np.zeros(4, bool)} for person in people.source]
    splits = {"people": people, "backgrounds": people._replace(source=unlabeled)}
    monkeypatch.setattr("jaxpose.data.prepared.open_split", lambda name, *_, **__: splits[name])
    evaluation = evaluation_of(tmp_path / "small.npz")
    *_, notes = report_of(tmp_path, evaluation, "people", "backgrounds")
    assert notes["mean pose, median pose"].endswith("in the crops of the persons of people:train")
    *_, notes = report_of(tmp_path, evaluation, "backgrounds")
    assert notes["mean pose"] == "not evaluated: no train split of config.data has labels"


def test_the_mean_and_the_median_pose_are_those_of_the_crops():
    split = split_of(7)
    mean, median = constant_poses([evaluation_set_of(split, NETWORK)], rule=IMAGE)
    points = np.stack(
        [
            (e["keypoints"] - e["center"] + e["scale"] / 2) / np.float64(e["scale"])
            for e in split.source
        ]
    )
    for joint, name in enumerate(NETWORK):
        source = JOINTS.index({"upper_neck": "neck"}.get(name, name)) if name != "pelvis" else 3
        if name in ("pelvis", "right_ankle"):  # not annotated, nowhere labeled
            assert np.isnan(mean[joint]).all() and np.isnan(median[joint]).all()
        else:
            np.testing.assert_allclose(mean[joint], points[:, source].mean(axis=0), atol=1e-6)
            np.testing.assert_allclose(median[joint], np.median(points[:, source], 0), atol=1e-6)


def leeds(name, part, data_dir):
    """Fifteen people of LSP's joints on noise; the third of the test split does not decode."""
    source = []
    for i in range(15):
        rng = np.random.default_rng([i, len(part)])
        encoded = cv2.imencode(".png", rng.integers(0, 256, (80, 70, 3), np.uint8))[1].tobytes()
        source.append(
            {
                "image": encoded[:40] if (i, part) == (2, "test") else encoded,
                "image_name": f"im{i:04d}.png".encode(),
                "person": 0,
                "keypoints": rng.uniform(5, 65, (14, 2)).astype(np.float32),
                "labeled": np.ones(14, bool),
                "visible": np.ones(14, bool),
                "box": np.array([0, 0, 70, 80], np.float32),
                "center": np.array([35, 40], np.float32),
                "scale": 80.0,
                "head_size": 0.0,
                "separated": True,
            }
        )
    return PreparedSplit(
        name, part, source, LSP.joints, LSP.flip_pairs, LSP.limbs, (True,) * 14, "drawn"
    )


@pytest.mark.slow
def test_a_run_has_nine_persons_with_truth_prediction_and_maps(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxpose.data.prepared.open_split", leeds)
    config = common.get_config()
    config.data = (("leeds", 1.0),)
    config.test = (("leeds", "test", "image"),)
    config.eval.batch_size = 8
    arguments = {"num_joints": 16, "num_blocks": 1, "num_context_maps": 2, "width": 18}
    metadata = CheckpointMetadata(
        network=arguments,
        joints=tuple(config.joints),
        flip_pairs=(),
        limbs=(),
        trained_joints=tuple(j for j in config.joints if j not in ("pelvis", "thorax")),
        image_size=32,
        crop=MPII_RULE,
        step=3,
        seconds=1.0,
    )
    manager = store.open_manager(tmp_path / "checkpoints" / "best", keep=1)
    variables = initial_variables(PoseNet(**arguments, dtype=jnp.float32), 0)
    store.save(manager, 3, variables, metadata, wait=True)
    store.finish(manager)

    record = {"kind": "train", "step": 3, "epoch": 1.0, "loss": 0.5, "learning_rate": 0.001}
    record |= {"images_per_second": 40.0, "data_wait": 0.125}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    run_config = {"data": [["leeds", 1.0]], "crop": "joints"}
    (tmp_path / "config.json").write_text(json.dumps(run_config), encoding="utf-8")
    evaluation = evaluate_checkpoint(config, tmp_path)
    page = report_run(tmp_path, evaluation, data_rows(config), data_dir="")
    text = page.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))

    panels = root.findall(".//figure[@class='card panel']")
    drawings = [drawing for panel in panels for drawing in panel.findall("div/span/svg")]
    alts = [drawing.get("aria-label") for drawing in drawings]
    for kind in ("true skeleton", "predicted skeleton", "part maps of all joints"):
        assert len({alt.split()[0] for alt in alts if kind in alt}) == 9
    assert not any(alt.startswith("im0002.png") for alt in alts)
    assert sum(alt.startswith("softmax of") for alt in alts) == 8
    assert sum("context map 2" in alt for alt in alts) == 3
    fractions = []
    for panel in panels[:9]:
        correct, counted = map(
            int, re.findall(r"(\d+) of (\d+)", words(panel.find("figcaption")))[0]
        )
        circles = [circle.get("class") for circle in panel.iter("circle")]
        assert circles.count("error correct") == correct
        assert circles.count("error correct") + circles.count("error wrong") == counted
        fractions.append(correct / counted)
    worst, median, best = fractions[:3], fractions[3:6], fractions[6:]
    assert worst == sorted(worst) and best == sorted(best, reverse=True)
    assert max(worst) <= min(median) and max(median) <= min(best)
    (row,) = evaluation.rows.values()
    _, ours, mean, median = tables(root, "columns")["PCK@0.2"]
    assert ours[-1] == f"{row.results['lsp-pck'].total:.2f}"
    assert (mean[0], median[0]) == ("mean pose", "median pose")
    _, block, alone, *_ = tables(root, "columns alike")["PCK@0.2 by prediction block"]
    assert (block[0], alone[0]) == ("block 1", PARTS_ALONE) and block[1:] == ours[1:]
    notes = words(root.find(".//dl"))
    assert "im0002.png" in notes
    assert "40 images per second (median" in notes and "12.5% of the time (median" in notes
    assert "15 persons, 210 labeled joints, 0.0 % of them marked as occluded; 0.0 % of" in notes
    assert "whole image, no ground truth used" in notes
    assert "checkpoints/best/3, step 3" in notes and "leeds (weight 1, crop joints)" in notes
    assert "in the crops of the persons of leeds:train" in notes
    assert "after 3 steps of training on leeds." in text
    assert "The 14 evaluated persons of leeds:test are ordered by" in text
    assert "the person with the best prediction" in text

    alone = report_run(tmp_path, evaluation, [], data_dir="").read_text(encoding="utf-8")
    assert "not evaluated: config.data is empty" in alone and "median pose" not in alone

    joints = tuple(f"point_{n}" for n in range(14))  # none is the network's
    protocol = any_joints.pck_protocol(joints, unit=any_joints.UNITS["box"])
    strangers = row.evaluation_set._replace(truth_joints=joints)
    shown, maps = persons.person_sections(
        evaluation.network, row._replace(evaluation_set=strangers, protocol=protocol)
    )
    assert [section.title for section in shown] == ["Predictions"]
    assert all(panel.caption.endswith(": not evaluated") for panel in shown[0].panels)
    assert len(shown[0].panels) == 9
    assert not re.search("ordered|is correct", shown[0].text) and "best" not in maps[0].text
