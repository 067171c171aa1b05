"""OKS-AP against a statement of it in NumPy, and what the truth itself scores."""

import contextlib
import io

import numpy as np
import pytest

from jaxpose.data.prepared import open_split
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import oks, tables
from jaxpose.evaluation.evaluation_set import EvaluationSet, evaluation_set_of
from tests.support.truth import annotations_of
from tfds_builders.__main__ import main as build

JOINTS = ("nose", "left_ear", "right_ear", "tail")
SIGMAS = (0.026, 0.035, 0.035, 0.1)
THRESHOLDS = np.arange(0.5, 0.96, 0.05)
RECALLS = np.linspace(0, 1, 101)


@pytest.fixture(autouse=True)
def pycocotools():
    pytest.importorskip("pycocotools.cocoeval")


def persons(seed=0, count=60, images=25, ignored=0):
    """Persons of every size in some images, some joints not labeled."""
    rng = np.random.default_rng(seed)
    side = rng.uniform(20, 200, count)
    corner = rng.uniform(0, 300, (count, 2))
    labeled = rng.random((count, len(JOINTS))) < 0.7
    labeled[np.arange(count), rng.integers(0, len(JOINTS), count)] = True
    points = corner[:, None] + side[:, None, None] * rng.random((count, len(JOINTS), 2))
    image = np.array([f"image {n}" for n in rng.integers(0, images, count)])
    truth = annotations_of(
        np.where(labeled[..., None], points, 0),
        labeled,
        area=side**2 / 2,
        box=np.column_stack([corner, side, side]),
        image_id=image,
    )
    entries = []
    for _ in range(ignored):
        corner, side = rng.uniform(0, 300, 2), float(rng.uniform(50, 200))
        entries.append(
            {
                "image_id": f"image {rng.integers(0, images)}",
                "box": [*corner.tolist(), side, side],
                "area": side**2,
                "keypoints": [],
            }
        )
    return EvaluationSet(JOINTS, JOINTS, JOINTS, truth, (), SIGMAS, tuple(entries))


def predictions(evaluation_set, seed=1, noise=0.03):
    """Positions that are off by a fraction of the person's side, and confidences."""
    rng = np.random.default_rng(seed)
    truth = evaluation_set.truth
    shape = truth.keypoints.shape
    side = truth.box[:, 2, None, None]
    off = side * noise * rng.exponential(1, (shape[0], 1, 1)) * rng.normal(0, 1, shape)
    return truth.keypoints + off, rng.random(shape[:2])


def similarity(found, person, truth, sigmas):
    """OKS of a prediction [J, 2] with one person."""
    labeled = truth.labeled[person]
    square = ((found - truth.keypoints[person]) ** 2).sum(axis=1)
    exponent = square / (2 * truth.area[person] * (2 * np.asarray(sigmas)) ** 2)
    return np.exp(-exponent[labeled]).mean()


def statement(keypoints, confidence, evaluation_set):
    """AP over all thresholds in percent: greedy matching by score, 101 recall points."""
    truth = evaluation_set.truth
    scores, images = confidence.mean(axis=1), truth.image_id
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    precisions = []
    for threshold in THRESHOLDS:
        taken, right = set(), []
        for i in order:
            rivals = [
                (similarity(keypoints[i], p, truth, evaluation_set.sigmas), p)
                for p in np.flatnonzero(images == images[i])
                if p not in taken
            ]
            best, person = max(rivals, default=(0.0, None))
            right.append(best >= threshold)
            if right[-1]:
                taken.add(person)
        hits = np.cumsum(right)
        recall, precision = hits / len(scores), hits / np.arange(1, len(scores) + 1)
        at = [precision[recall >= r].max(initial=0.0) for r in RECALLS]
        precisions.append(np.mean(at))
    return 100 * np.mean(precisions)


@pytest.mark.parametrize("noise", [0.005, 0.03, 0.2])
def test_it_is_the_definition(noise):
    evaluation_set = persons()
    found = predictions(evaluation_set, noise=noise)
    score = oks.oks_ap(*found, evaluation_set)
    assert score.total == pytest.approx(statement(*found, evaluation_set), abs=1e-4)


@pytest.mark.parametrize("ignored", [0, 20])
def test_the_truth_itself_scores_100_whoever_is_ignored(ignored):
    evaluation_set = persons(ignored=ignored)
    truth = evaluation_set.truth.keypoints
    score = oks.oks_ap(truth, np.ones(truth.shape[:2]), evaluation_set)
    assert score.total == pytest.approx(100)
    assert score.columns == pytest.approx(dict.fromkeys(score.columns, 100.0))


def summary_of_pycocotools(entries):
    """The ten statistics that pycocotools itself returns for its own parameters."""
    coco, cocoeval = (pytest.importorskip(f"pycocotools.{name}") for name in ("coco", "cocoeval"))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = entries.data_set
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(entries.results), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.asarray(SIGMAS)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("count", "images", "ignored"), [(60, 25, 0), (60, 25, 30), (20, 1, 5)])
@pytest.mark.parametrize("side", [1, 0.1, 10])  # not 1: some statistics are undefined
def test_statistics_are_those_of_pycocotools_up_to_20_persons_per_image(
    seed, count, images, ignored, side
):
    evaluation_set = persons(seed, count, images, ignored)
    assert np.unique(evaluation_set.truth.image_id, return_counts=True)[1].max() <= 20
    evaluation_set.truth.area[:] *= side**2
    found = oks.coco_entries(*predictions(evaluation_set, seed, noise=0.05), evaluation_set)
    stats = oks._stats(found, np.asarray(SIGMAS))
    np.testing.assert_array_equal(stats, summary_of_pycocotools(found))
    assert (stats == -1).any() == (side != 1) and (0 < stats[0] < 1 or side != 1)


@pytest.mark.parametrize("count", [20, 21, 25, 40])
def test_all_predictions_of_an_image_count(count):
    evaluation_set = persons(count=2 * count, images=2)
    evaluation_set.truth.image_id[:] = np.repeat(["image 0", "image 1"], count)
    truth = evaluation_set.truth.keypoints
    score = oks.oks_ap(truth, np.ones(truth.shape[:2]), evaluation_set)
    assert score.total == pytest.approx(100)
    assert score.columns == pytest.approx(dict.fromkeys(score.columns, 100.0))
    found = predictions(evaluation_set, noise=0.05)
    score = oks.oks_ap(*found, evaluation_set)
    assert score.total == pytest.approx(statement(*found, evaluation_set), abs=1e-4)


def test_a_prediction_that_lands_on_an_ignored_person_is_not_wrong():
    """The second person's prediction, the surer one, shows somebody who is ignored."""
    evaluation_set = persons(count=2, images=1)
    evaluation_set.truth.image_id[:] = "image 0"
    evaluation_set.truth.labeled[:] = True
    keypoints = evaluation_set.truth.keypoints.copy()
    keypoints[1] += 1e4
    confidence = np.array([[0.5] * 4, [0.9] * 4])
    stranger = np.column_stack([keypoints[1] - 0.5, np.full(4, 2)])
    box = [*keypoints[1].min(axis=0), 50, 50]
    entry = {"image_id": "image 0", "box": box, "area": 2500.0, "keypoints": stranger.ravel()}
    entry["keypoints"] = entry["keypoints"].tolist()
    alone = oks.oks_ap(keypoints, confidence, evaluation_set)
    beside = oks.oks_ap(keypoints, confidence, evaluation_set._replace(ignored=(entry,)))
    # One of two persons is found, at a precision of 1/2 or, without the other prediction, of 1.
    assert alone.total == pytest.approx(100 * 51 / 101 / 2)
    assert beside.total == pytest.approx(100 * 51 / 101)


def test_joints_that_were_not_trained_are_left_out():
    evaluation_set = persons()
    trained = ("tail", "left_ear", "nose")
    keypoints, confidence = predictions(evaluation_set)
    score = oks.oks_ap(keypoints, confidence, evaluation_set._replace(trained_joints=trained))
    keypoints[:, 2] = 1e6
    confidence[:, 2] = 0
    again = oks.oks_ap(keypoints, confidence, evaluation_set._replace(trained_joints=trained))
    assert score == again


def test_without_a_joint_in_common_there_is_no_score():
    evaluation_set = persons()
    joints = ("pelvis", "thorax")
    other = evaluation_set._replace(joints=joints, trained_joints=joints)
    count = len(other.truth.labeled)
    found = oks.oks_ap(np.zeros((count, 2, 2)), np.ones((count, 2)), other)
    assert found.total is None and set(found.columns.values()) == {None}
    assert found.not_predicted == evaluation_set.truth.labeled.sum()
    assert tables.columns_text([("", found)]).split()[-1] == "-"


def test_without_a_label_of_a_trained_joint_there_is_no_score():
    evaluation_set = persons()._replace(trained_joints=("tail",))
    evaluation_set.truth.labeled[:, 3] = False
    assert oks.oks_ap(*predictions(evaluation_set), evaluation_set).total is None


def test_joints_without_a_label_and_without_a_prediction_are_counted_apart():
    evaluation_set = persons()
    labeled = evaluation_set.truth.labeled
    found = oks.oks_ap(
        *predictions(evaluation_set), evaluation_set._replace(trained_joints=("tail", "left_ear"))
    )
    assert found.not_labeled == (~labeled).sum() > 0
    assert found.not_predicted == labeled[:, [0, 2]].sum() > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_no_number_is_wrong(value):
    evaluation_set = persons()
    keypoints, confidence = predictions(evaluation_set, noise=0.005)
    keypoints[:, 1] = value
    far = np.where(np.isfinite(keypoints), keypoints, 1e9)
    found = oks.oks_ap(keypoints, confidence, evaluation_set)
    assert found.total == pytest.approx(statement(far, confidence, evaluation_set), abs=1e-4)
    assert 0 < found.total < 100
    keypoints[:] = value
    assert oks.oks_ap(keypoints, confidence, evaluation_set).total == 0


def test_the_networks_order_of_joints_does_not_matter():
    evaluation_set = persons()
    keypoints, confidence = predictions(evaluation_set)
    order = [2, 0, 3, 1]
    other = evaluation_set._replace(joints=tuple(JOINTS[i] for i in order))
    assert oks.oks_ap(keypoints[:, order], confidence[:, order], other) == oks.oks_ap(
        keypoints, confidence, evaluation_set
    )


def test_a_truth_without_areas_or_sigmas_is_told():
    truth = persons().truth._replace(area=None)
    evaluation_set = persons()._replace(truth=truth, sigmas=())
    with pytest.raises(JaxposeError, match="oks-ap needs area and sigmas"):
        oks.oks_ap(*predictions(persons()), evaluation_set)


def test_nobody_has_no_score_and_a_table_all_the_same():
    evaluation_set = persons(count=0)
    found = oks.oks_ap(np.zeros((0, 4, 2)), np.zeros((0, 4)), evaluation_set)
    assert found.total is None
    assert tables.text(found).startswith("OKS-AP, 0 persons")
    scored = oks.oks_ap(*predictions(persons()), persons())
    assert f"{scored.columns['ap50']:.2f}" in tables.text(scored)


@pytest.mark.slow
def test_the_truth_of_cocos_persons_scores_100_though_most_are_ignored(shared, tmp_path):
    folder = shared / "data" / "coco_persons"
    source = ["--source", str(folder / "person_keypoints.json"), "--images", str(folder / "images")]
    assert build(["coco", *source, "--name", "persons", "--data_dir", str(tmp_path)]) == 0
    split = open_split("coco/persons", "train", data_dir=str(tmp_path))
    evaluation_set = evaluation_set_of(split, split.joints)
    truth = evaluation_set.truth
    assert len(truth.labeled) == 2368 and len(evaluation_set.ignored) == 1968
    score = oks.oks_ap(truth.keypoints, np.ones(truth.labeled.shape), evaluation_set)
    assert score.total == pytest.approx(100)
    rng = np.random.default_rng(0)
    guess = truth.keypoints + rng.normal(0, 8, truth.keypoints.shape)
    confidence = rng.random(truth.labeled.shape)
    alone = evaluation_set._replace(ignored=())
    found = oks.oks_ap(guess, confidence, alone)
    assert found.total == pytest.approx(statement(guess, confidence, alone), abs=1e-4)
