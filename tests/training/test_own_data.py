"""A run on own data: an annotation file of drawn dogs becomes a scored network of seven joints."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from examples.dogs.__main__ import JOINTS, LIMBS, write
from jaxpose import geometry, losses
from jaxpose.checkpoints import KINDS, store
from jaxpose.cli.launch_flags import parse
from jaxpose.data.batches import annotated_joints, evaluation_batches
from jaxpose.evaluation import evaluate, inference
from jaxpose.evaluation.evaluation_set import evaluation_set_of
from jaxpose.network import normalize
from jaxpose.training import loop, validation
from jaxpose.training.metric_log import read_records
from jaxpose.training.run import open_run
from tests.support import tiny_run
from tfds_builders.__main__ import main as build

# ml_collections loads a config file in a way that importlib wants to drop.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),
]
FIELDS = {
    "network.width": "18",
    "network.num_blocks": "1",
    "network.kernel_size": "3",
    "image_size": "32",
    "init_from": "",
    "num_epochs": "2",
    "log_every_steps": "1",
    "report": "False",
}
ROW = "coco/dogs:validation (box)"


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    with tiny_run.compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dogs")
    source = ["--source", str(write(folder, images=24)), "--images", str(folder / "images")]
    options = ["--name", "dogs", "--holdout", "0.3", "--sigmas", "0.1"]
    assert build(["coco", *source, *options, "--data_dir", str(folder / "data")]) == 0
    return folder / "data"


def config(workdir, data, **fields):
    overrides = FIELDS | {"data_dir": str(data)}
    overrides |= {name.replace("__", "."): str(value) for name, value in fields.items()}
    return parse(
        [
            "launch.py",
            f"--config={tiny_run.ROOT / 'configs' / 'own.py'}:small:dogs",
            f"--workdir={workdir}",
            *(f"--config.{name}={value}" for name, value in overrides.items()),
        ]
    ).config


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """A finished run and its config."""
    workdir = tmp_path_factory.mktemp("runs") / "own"
    settings = config(workdir, data)
    loop.train(settings, workdir)
    return workdir, settings


def validations(workdir):
    return [r for r in read_records(workdir / "metrics.jsonl") if r["kind"] == "validation"]


def test_joints_skeleton_and_category_are_the_data_sets(trained):
    metadata = store.load(trained[0])[1]
    assert metadata.joints == metadata.trained_joints == JOINTS and metadata.limbs == LIMBS
    assert metadata.flip_pairs == (
        ("right_front_paw", "left_front_paw"),
        ("right_hind_paw", "left_hind_paw"),
    )
    assert (metadata.category, metadata.crop) == ("dog", geometry.BOX_RULE)


def test_every_validation_has_a_loss_and_a_score_of_each_joint(trained):
    records = validations(trained[0])
    assert len(records) == 2
    for record in records:
        assert (
            record["steered_by"] == "pck"
            and record["metric"] == record["rows"][ROW]["pck"]["total"]
        )
        assert list(record["rows"][ROW]["pck"]["joints"]) == list(JOINTS)
        found = record["losses"][ROW]
        assert record["loss"] == found["loss"] > 0
        weighted = found["coordinate_loss"] + 0.05 * found["probability_loss"]
        assert found["loss"] == pytest.approx(weighted)


def test_the_validation_loss_is_that_of_training_on_the_same_crops(trained):
    workdir, settings = trained
    run = open_run(settings)
    variables, metadata, _ = store.load(workdir)
    split, crop, _ = run.validation[0]
    rule = geometry.crop_rule(crop)
    (batch,) = evaluation_batches(
        split, joints=run.joints, image_size=32, batch_size=len(split.source), rule=rule
    )
    output = run.net.apply(variables, normalize(jnp.asarray(batch.image), run.net.dtype))
    distance = losses.coordinate_loss(output.keypoints, jnp.asarray(batch.keypoints))
    entropy = losses.probability_loss(output.presence_logits, jnp.asarray(batch.labeled))
    predictions = inference.predict_split(
        run.net, variables, split, joints=run.joints, image_size=32, batch_size=8, rule=rule
    )
    found = validation.prediction_losses(
        predictions,
        evaluation_set_of(split, run.joints),
        rule,
        annotated=annotated_joints(split),
        probability_weight=0.5,
    )
    coordinate = float(losses.masked_mean(distance, jnp.asarray(batch.labeled)))
    probability = float(losses.masked_mean(entropy, jnp.asarray(batch.known)))
    assert found["coordinate_loss"] == pytest.approx(coordinate, rel=1e-4)
    assert found["probability_loss"] == pytest.approx(probability, rel=1e-4)
    assert found["loss"] == pytest.approx(coordinate + probability / 2, rel=1e-4)


def test_a_network_that_cannot_be_evaluated_is_steered_by_its_loss(tmp_path, data):
    workdir = tmp_path / "run"
    loop.train(config(workdir, data, metric="loss"), workdir)
    records = validations(workdir)
    assert [r["metric"] for r in records] == pytest.approx([-100 * r["loss"] for r in records])
    best = min(records, key=lambda record: record["loss"])
    _, metadata, _ = store.load(workdir, which="best")
    assert (metadata.step, metadata.metric) == (best["step"], pytest.approx(best["metric"]))


def test_without_validation_the_newest_checkpoint_is_the_best(tmp_path, data, capfd):
    workdir = tmp_path / "run"
    result = loop.train(config(workdir, data, validation="()"), workdir)
    assert "the newest checkpoint counts as the best" in capfd.readouterr().err
    best, latest = (store.checkpoint_steps(workdir / "checkpoints" / k)[0] for k in KINDS)
    assert best == latest == result.step and result.metric is None


def test_evaluation_writes_results_that_pycocotools_scores_alike(trained, data):
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    workdir, settings = trained
    evaluation = evaluate.evaluate_checkpoint(settings, workdir)
    (row,) = evaluation.rows.values()
    assert list(row.results) == ["pck", "oks-ap"] and row.protocol.name == "pck"
    (path,) = [file for file in row.files if file.suffix == ".json"]
    results = json.loads(path.read_text())
    truth = coco.COCO(str(data.parent / "dogs.json"))
    scored = cocoeval.COCOeval(truth, truth.loadRes(results), "keypoints")
    scored.params.kpt_oks_sigmas = np.full(7, 0.1)
    scored.params.imgIds = [entry["image_id"] for entry in results]
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    assert row.results["oks-ap"].total == pytest.approx(100 * scored.stats[0], abs=1e-3)
    assert all(len(entry["keypoints"]) == 21 for entry in results)
