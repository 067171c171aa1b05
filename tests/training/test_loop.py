"""A run from its first step to its tables: what it leaves, and that stopping it changes nothing."""

import json
import os
import shutil
import signal
import sys
import time

import chex
import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxpose.checkpoints import store
from jaxpose.data import prepared
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import evaluate, inference
from jaxpose.evaluation.labeled_predictions import read_predictions
from jaxpose.runtime import devices
from jaxpose.runtime.devices import DEVICES, parallel
from jaxpose.training import loop, step, validation
from jaxpose.training import run as train_run
from jaxpose.training.config import check_config
from jaxpose.training.metric_log import read_records
from jaxpose.training.run import fresh_start, open_run, start_of
from tests.support import tiny_run
from tests.support.tiny_run import assert_same_end, run

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (
            loop.TrainResult(12, 12, 71.234, None),
            "done at step 12 of 12, best validation metric 71.23",
        ),
        (
            loop.TrainResult(4, 12, None, "preemption"),
            "stopped (preemption) at step 4 of 12, best validation metric none",
        ),
    ],
)
def test_a_result_in_words(result, text):
    assert str(result) == text


@pytest.fixture(scope="module")
def whole(tmp_path_factory, people):
    """A run that nothing disturbed; copy it before going on with it."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    result = run(workdir, people)
    assert (result.step, result.num_steps, result.stopped) == (12, 12, None)
    assert 0 <= result.metric <= 100
    return workdir


def test_a_run_leaves_its_records(whole):
    records = read_records(whole / "metrics.jsonl")
    steps = {
        kind: [r["step"] for r in records if r["kind"] == kind] for kind in ("train", "validation")
    }
    assert steps == {"train": [2, 4, 6, 8, 10, 12], "validation": [6, 12]}
    for record in records:
        assert record["seconds"] > 0
        if record["kind"] == "train":
            assert record["loss"] > 0 and record["gradient_norm"] > 0
            weighted = record["coordinate_loss"] + 0.01 * record["probability_loss"]
            weighted += 0.3 * record["context_loss"]
            np.testing.assert_allclose(record["loss"], weighted, rtol=1e-5)
            assert record["epoch"] == record["step"] / tiny_run.STEPS_PER_EPOCH
            assert 0 <= record["data_wait"] <= 1
        else:
            (row,) = record["rows"].values()
            assert record["metric"] == row["lsp-pck"]["total"]
            assert len(row["lsp-pck"]["joints"]) == 14


def test_a_run_leaves_its_checkpoints(whole):
    latest, best = (
        store.checkpoint_steps(whole / "checkpoints" / name) for name in ("latest", "best")
    )
    assert latest == [12, 10]
    records = [r for r in read_records(whole / "metrics.jsonl") if r["kind"] == "validation"]
    assert best == [max(records, key=lambda r: (r["metric"], -r["step"]))["step"]]
    metadata = store.load(whole)[1]
    assert metadata.network["width"] == 18 and metadata.image_size == 32
    assert len(metadata.trained_joints) == 16
    assert not [f for f in (whole / "checkpoints").rglob("*") if "tmp" in f.name]


@pytest.mark.slow
@pytest.mark.parametrize("options", [True, False], ids=["compiler options", "plain pmap"])
def test_a_run_traces_its_step_once_and_keeps_the_state_on_the_devices(
    tmp_path, people, monkeypatch, options
):
    """Over two epochs, log lines, validation and checkpoints; other platforms use plain pmap."""
    if not options:
        monkeypatch.setattr(devices, "compiler_options", lambda: None)
    placement = NamedSharding(Mesh(jax.local_devices(), DEVICES), PartitionSpec(DEVICES))
    calls = []

    def guarded(function, **arguments):
        program = parallel(chex.assert_max_traces(function, n=1), **arguments)

        def step(state, batch):
            calls.append(1)
            batch = jax.device_put(batch, placement)
            with jax.transfer_guard("disallow"):
                return program(state, batch)

        return step

    chex.clear_trace_counter()
    monkeypatch.setattr(loop, "parallel", guarded)
    run(tmp_path / "guarded", people)
    assert len(calls) == tiny_run.NUM_STEPS


def test_the_best_checkpoint_scores_what_the_log_says(whole, people):
    variables, metadata, _ = store.load(whole)
    run = open_run(tiny_run.config(whole, people))
    metric = validation.make_validator(run, trained=run.joints).validate(variables).metric
    assert metric == metadata.metric
    last = [r for r in read_records(whole / "metrics.jsonl") if r["kind"] == "validation"][-1]
    np.testing.assert_allclose(metric, last["best"], rtol=1e-6)


def test_evaluation_scores_the_test_rows(copy, people):
    evaluation = evaluate.evaluate_checkpoint(tiny_run.config(copy, people, mode="eval"), copy)
    ((name, row),) = evaluation.rows.items()
    assert name == "synthetic_people/tiny:test (scale)"
    assert set(row.results) == {"lsp-pck", "lsp-pcp", "mpii-pckh"}
    last, *others = row.decodings.items()
    assert last == ("block 1", row.results["lsp-pck"])
    names = [inference.PARTS_ALONE, inference.MAXIMUM, inference.WITHOUT_OFFSET]
    assert [name for name, _ in others] == names
    assert row.unreadable == []
    (file,) = (copy / "predictions").iterdir()
    assert row.files == [file]
    predictions = read_predictions(file, default_joints=())
    assert predictions.prediction.shape == (16, 16, 2)
    written = json.loads((copy / "evaluation.json").read_text())
    assert written.keys() == {
        *("checkpoint", "step", "metric", "rows", "decodings", "unreadable", "files"),
    }
    assert written["checkpoint"] == str(evaluation.network.source)
    assert written["rows"][name]["lsp-pck"]["total"] == row.results["lsp-pck"].total
    assert written["decodings"][name].keys() == row.decodings.keys()
    assert (written["unreadable"][name], written["files"][name]) == ([], [str(file)])


def test_a_finished_run_has_nothing_to_do(copy, whole, people):
    result = run(copy, people)
    assert (result.step, result.stopped) == (12, None)
    assert_same_end(copy, whole)


def replace_splits(monkeypatch, change):
    """Let every split that a run opens be changed."""
    open_split = train_run.prepared.open_split

    def opened(name, part, *, data_dir):
        return change(open_split(name, part, data_dir=data_dir))

    monkeypatch.setattr(train_run.prepared, "open_split", opened)


@pytest.mark.parametrize("count", [16, 5])  # channels would change their meaning, or their number
def test_data_with_other_joints_do_not_resume_a_run(whole, people, monkeypatch, count):
    """The data set was prepared again; ``config.joints = ()`` takes its joints."""
    config = tiny_run.config(whole, people, joints="()")
    joints = open_run(config).joints
    assert start_of(open_run(config), whole).state.step == 12
    changed = joints[::-1][:count]
    replace_splits(
        monkeypatch,
        lambda split: split._replace(
            joints=changed, annotated=(True,) * count, flip_pairs=(), limbs=()
        ),
    )
    with pytest.raises(JaxposeError, match="^the joints of the run in .* were ") as caught:
        start_of(open_run(config), whole)
    assert f"were {', '.join(joints)}, but" in str(caught.value)
    assert f"now give {', '.join(changed)}; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_with_other_flip_pairs_do_not_resume_a_run(whole, people, monkeypatch):
    config = tiny_run.config(whole, people)
    turned = lambda pairs: tuple((b, a) for a, b in reversed(pairs))  # noqa: E731
    with monkeypatch.context() as same:
        replace_splits(same, lambda split: split._replace(flip_pairs=turned(split.flip_pairs)))
        assert start_of(open_run(config), whole).state.step == 12
    replace_splits(monkeypatch, lambda split: split._replace(flip_pairs=split.flip_pairs[1:]))
    with pytest.raises(JaxposeError, match="^the flip pairs of the run in .* were left_ankle - ri"):
        start_of(open_run(config), whole)


def test_another_crop_rule_does_not_resume_a_run(whole, people):
    opened = open_run(tiny_run.config(whole, people))
    assert opened.notes == []
    with pytest.raises(JaxposeError, match="crop rule of the run in .* were? scale, 1.25, 0.075,"):
        start_of(opened._replace(rule=opened.rule._replace(enlargement=1.5)), whole)


def test_data_with_other_persons_do_not_resume_a_run(copy, whole, people, monkeypatch):
    assert json.loads((copy / "data.json").read_text()) == {tiny_run.PEOPLE: 48}
    with monkeypatch.context() as fewer:
        replace_splits(
            fewer,
            lambda split: split._replace(
                source=[split.source[i] for i in range(len(split.source) - 8)]
            ),
        )
        with pytest.raises(JaxposeError, match="had 48 training persons when .* but has 40 now"):
            run(copy, people)
    (copy / "data.json").unlink()  # as in a run of an earlier version
    run(copy, people)
    assert_same_end(copy, whole)


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on(tmp_path, whole, people, monkeypatch):
    write_losses = loop.Loop.write_losses

    def interrupted(self):
        write_losses(self)
        if self.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop.Loop, "write_losses", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    result = run(tmp_path, people)
    assert (result.step, result.stopped) == (4, "preemption")
    assert signal.getsignal(signal.SIGTERM) == before
    monkeypatch.undo()
    assert run(tmp_path, people).step == 12
    assert_same_end(tmp_path, whole)


@pytest.mark.slow
def test_waiting_for_images_is_written_and_said(tmp_path, people, monkeypatch, capfd):
    train_batches = loop.train_batches

    def slow(*args, **kwargs):
        for batch in train_batches(*args, **kwargs):
            time.sleep(0.5)
            yield batch

    monkeypatch.setattr(loop, "train_batches", slow)
    run(tmp_path, people)
    records = [r for r in read_records(tmp_path / "metrics.jsonl") if r["kind"] == "train"]
    waited = records[-1]["data_wait"] * (records[-1]["seconds"] - records[-2]["seconds"])
    assert waited > 0.8  # twice half a second, less what the rounding of the record takes
    assert "waiting for input" in capfd.readouterr().err


def test_a_broken_newest_checkpoint_costs_its_steps_alone(copy, whole, people, caplog):
    """The run falls back to step 10 and does the rest again."""
    for file in (copy / "checkpoints" / "latest" / "12" / "tree").rglob("d/*"):
        file.write_bytes(b"")
    assert run(copy, people).step == 12
    assert "12 cannot be read" in caplog.text
    assert_same_end(copy, whole)


def test_a_run_from_before_a_loss_was_added_is_resumed(whole, people, monkeypatch):
    sums = step.empty_sums()
    monkeypatch.setattr(step, "empty_sums", lambda: {**sums, "new_loss": np.float32(0)})
    start = start_of(open_run(tiny_run.config(whole, people)), whole)
    assert start.state.step == 12 and start.state.sums.keys() == {*sums, "new_loss"}


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(copy, people, monkeypatch):
    train_batches = loop.train_batches

    class Spoiled:
        def __init__(self, batches):
            self.batches, self.close = batches, batches.close

        def __next__(self):
            batch = next(self.batches)
            return batch._replace(keypoints=batch.keypoints * np.float32("nan"))

    monkeypatch.setattr(loop, "train_batches", lambda *a, **k: Spoiled(train_batches(*a, **k)))
    shutil.rmtree(copy / "checkpoints" / "latest" / "12")
    with pytest.raises(JaxposeError, match="not finite at step 11") as caught:
        run(copy, people)
    assert "\n" not in str(caught.value)
    assert store.checkpoint_steps(copy / "checkpoints" / "latest") == [10]


def test_a_run_ends_after_the_epoch_that_passes_max_minutes(tmp_path, people):
    result = run(tmp_path, people, max_minutes=1e-9)
    assert (result.step, result.stopped) == (6, "max_minutes")


def test_the_epoch_that_passes_max_minutes_is_validated(tmp_path, people):
    run(tmp_path, people, max_minutes=1e-9, validate_every_epochs=5)
    assert store.checkpoint_steps(tmp_path / "checkpoints" / "best") == [6]


@pytest.mark.slow
def test_a_run_whose_max_minutes_have_passed_trains_no_further_epoch(tmp_path, people):
    for _ in range(2):
        result = run(tmp_path, people, max_minutes=1e-9)
        assert (result.step, result.stopped) == (6, "max_minutes")


@pytest.mark.slow
def test_a_run_that_max_minutes_stopped_resumes_exactly(tmp_path, people):
    fields = {"validate_every_epochs": 2, "plateau__patience": 1, "num_epochs": 4}
    run(tmp_path / "whole", people, **fields)
    run(tmp_path / "parts", people, max_minutes=1e-9, **fields)
    run(tmp_path / "parts", people, **fields)
    ours, theirs = (store.load(tmp_path / name, which="latest")[0] for name in ("whole", "parts"))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_checkpoints_do_not_wait_for_log_lines(tmp_path, people, monkeypatch):
    monkeypatch.setattr(loop, "MAX_STEPS_BETWEEN_CHECKS", 4)
    saved = []
    save = store.save
    monkeypatch.setattr(store, "save", lambda *a, **k: saved.append(a[1]) or save(*a, **k))
    fields = {"log_every_steps": 1000, "validate_every_epochs": 3, "validation": "()"}
    run(tmp_path, people, **fields)
    # Without a metric, the newest checkpoint is the best one too, validated or not.
    assert saved == [4, 4, 6, 6, 8, 8, 12, 12]


@pytest.mark.slow
def test_data_sets_without_the_metadata_annotated_are_validated(tmp_path, people, monkeypatch):
    open_split = prepared.open_split
    monkeypatch.setattr(
        prepared, "open_split", lambda *a, **k: open_split(*a, **k)._replace(annotated=())
    )
    assert run(tmp_path, people, num_epochs=1).metric is not None


@pytest.mark.slow
def test_max_minutes_that_pass_in_the_last_epoch_stop_nothing(tmp_path, people):
    result = run(tmp_path, people, max_minutes=1e-9, num_epochs=1)
    assert (result.step, result.stopped) == (6, None)


@pytest.mark.slow
def test_without_a_validation_score_the_plateau_rests(tmp_path, people):
    run(tmp_path, people, validation="()", plateau__patience=1)
    state = start_of(open_run(tiny_run.config(tmp_path, people, validation="()")), tmp_path).state
    assert float(state.plateau.scale) == 1.0


def test_oks_ap_without_pycocotools_is_said_at_the_start(tmp_path, people, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(JaxposeError, match=r"pycocotools.* is not installed; .*jaxpose\[coco\]"):
        run(tmp_path, people, metric="oks-ap")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"report": True, "test": "(('absent', 'test', 'scale'),)"}, "absent"),
        ({"test": f"(('{tiny_run.PEOPLE}', 'test', 'scael'),)"}, "unknown crop 'scael'"),
        ({"eval__num_crops": 0}, "num_crops is 0"),
        ({"eval__checkpoint": "bset"}, "eval.checkpoint is 'bset'"),
        (
            {"report": True, "metric": "oks-ap", "validation": "()"},
            r"^synthetic_people/tiny:test \(scale\) cannot be evaluated by oks-ap",
        ),
        ({"metric": "oks-ap"}, r"tiny:validation \(scale\) cannot be evaluated by oks-ap"),
    ],
)
def test_what_the_end_cannot_score_is_said_at_the_start(tmp_path, people, fields, says):
    with pytest.raises(JaxposeError, match=says):
        run(tmp_path, people, **fields)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"dtype": "fp32"}, "dtype is 'fp32'"),
        ({"metric": "pckx"}, "metric is 'pckx'"),
        ({"metric": "oks-ap"}, "cannot be evaluated by oks-ap"),
    ],
)
def test_evaluation_checks_its_fields_before_predicting(whole, people, monkeypatch, fields, says):
    monkeypatch.delattr(inference, "predict_split")
    with pytest.raises(JaxposeError, match=says):
        evaluate.evaluate_checkpoint(tiny_run.config(whole, people, mode="eval", **fields), whole)


def test_another_network_starts_from_a_checkpoint(whole, people, tmp_path):
    """More blocks, fewer joints: the rest is taken by name, and what is not is said."""
    joints = "('left_wrist', 'right_wrist', 'nose')"
    fields = {"network__num_blocks": 2, "joints": joints, "init_from": whole}
    config = tiny_run.config(tmp_path, people, **fields)
    state, trained, _, notes = fresh_start(open_run(config))
    source, metadata, folder = store.load(whole)
    left = metadata.joints.index("left_wrist")
    np.testing.assert_array_equal(
        state.params["block1_b"]["heatmaps"][:, 0],
        source["params"]["block1_b"]["heatmaps"][:, left],
    )
    np.testing.assert_array_equal(
        state.params["stem"]["conv1"]["kernel"], source["params"]["stem"]["conv1"]["kernel"]
    )
    said = "\n".join(notes)
    assert f"init_from {folder}" in said
    assert "start from random weights: nose" in said
    assert "params/block2_b/heatmaps keeps its initial values: absent in the checkpoint" in said
    assert "joints without labels in the training data: nose" in said
    assert (state.step, trained) == (0, ("left_wrist", "right_wrist"))


@pytest.mark.parametrize(
    ("copied", "blocks", "there"), [(False, 1, False), (True, 1, True), (True, 2, False)]
)
def test_joints_count_as_trained_if_labeled_or_if_their_output_was_copied(
    whole, people, tmp_path, copied, blocks, there
):
    """The pelvis is labeled nowhere; the heat maps of a new last block are not copied."""
    fields = {"init_from": whole if copied else "", "network__num_blocks": blocks}
    run = open_run(tiny_run.config(tmp_path, people, **fields))
    ((split, weight),) = run.training
    annotated = tuple(name != "pelvis" for name in split.joints)
    labeled, backgrounds = split._replace(annotated=annotated), split._replace(has_people=False)
    start = fresh_start(run._replace(training=[(labeled, weight), (backgrounds, weight)]))
    assert [name for name in run.joints if name not in start.trained] == ["pelvis"] * (not there)
    assert ("joints without labels in the training data: pelvis" in start.notes) != there


def test_nothing_that_fits_is_an_error(whole, people, tmp_path):
    config = tiny_run.config(tmp_path, people, network__width=36, init_from=whole)
    # Scale-free numbers apart there is nothing of another width to take.
    with pytest.raises(JaxposeError, match="no variable in .* matches this network"):
        fresh_start(open_run(config))


def test_a_warmup_as_long_as_the_run_is_noted(tmp_path, people):
    config = tiny_run.config(tmp_path, people, num_epochs=2, optimizer__warmup_epochs=2.0)
    (note,) = open_run(config).notes
    assert note.startswith(
        "the warm-up takes 12 steps, but the run has 12: the learning rate never"
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"batch_size": 6}, r"batch_size 6 is not divisible by the number of devices \(4\); use 8"),
        ({"accumulation_steps": 4}, r"devices \(4\) times accumulation_steps \(4\); use 16"),
        ({"image_size": 72}, "image_size 72 is not divisible by 32; use 96"),
        ({"num_epochs": 0}, "num_epochs is 0; it must be 1 or more"),
        ({"eval__batch_size": 0}, "eval.batch_size is 0"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"metric": "pckh"}, "metric is 'pckh'; choose"),
        (
            {"data": "(('lsp',),)"},
            r"config.data has the invalid row \('lsp',\); write rows as \(name, weight\)",
        ),
        ({"data": "1"}, "config.data has the invalid row 1"),
        ({"validation": "(('lsp', 'test'),)"}, "config.validation has"),
        (
            {"validation": "(('lsp', 'test', 'box', 1.0), ('lsp', 'test', 'box', 0.0))"},
            r"config.validation has the row \('lsp', 'test', 'box'\) twice; remove one of them",
        ),
        (
            {"test": "(('lsp', 'test', 'box'), ('lsp', 'test', 'box'))"},
            "config.test has the row .* twice",
        ),
        ({"augmentation__scale": "(1.0,)"}, r"augmentation.scale is \(1.0,\)"),
    ],
)
def test_configs_that_cannot_work(fields, says):
    with pytest.raises(JaxposeError, match=says) as caught:
        check_config(tiny_run.config("run", "data", **fields))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"network__width": 20}, "width is 20"),
        ({"network__grid": "pixel"}, "'pixel'"),
        ({"crop": "square"}, "unknown crop 'square'"),
        ({"optimizer__name": "lion"}, "unknown optimizer 'lion'"),
        ({"batch_size": 64}, "batch_size is 64, more than the 48 persons of an epoch"),
        ({"joints": "('a', 'a')"}, "duplicate joint names: a"),
        ({"joints": "('nose', 'tail')"}, r"labels a joint of the network \(nose, tail\); change"),
        ({"num_epochs": 10**9}, "num_epochs is too large: 6000000000 steps, more than 2147483647"),
        ({"optimizer__warmup_epochs": 1e9}, "optimizer.warmup_epochs is too large: 6000000000 st"),
    ],
)
def test_runs_that_cannot_be_opened(people, fields, says):
    config = tiny_run.config("run", people, **fields)
    with pytest.raises(JaxposeError, match=says) as caught:
        fresh_start(open_run(config))
    assert "\n" not in str(caught.value)


def test_a_metric_that_the_split_does_not_allow_is_told(whole, people):
    run = open_run(tiny_run.config(whole, people))
    without_heads = [{**person, "head_size": 0.0} for person in run.validation[0][0].source]
    split = run.validation[0][0]._replace(source=without_heads)
    run.config.unlock()
    run.config.metric = "mpii-pckh"
    with pytest.raises(
        JaxposeError, match="cannot be evaluated by mpii-pckh; the row supports lsp-pck"
    ):
        run = run._replace(validation=[(split, "scale", 1.0)])
        validation.make_validator(run, trained=run.joints)


@pytest.mark.parametrize(
    ("waits", "text"),
    [
        ([0.04], ""),
        ([0.05], ", waiting for input 5% of the time"),
        ([0.0, 0.04, 0.01], ""),
        (
            [0.0, 0.41, 0.02],
            ", waiting for input 41% of the time (slowest: process 1, 100 images/s)",
        ),
    ],
)
def test_the_process_whose_input_is_the_limit_is_named(waits, text):
    assert loop.waiting_text(np.array(waits), 300.0) == text


def test_the_score_is_the_mean_of_the_rows_by_their_weights(whole, people):
    run = open_run(tiny_run.config(whole, people))
    split = run.validation[0][0]
    run = run._replace(validation=[(split, "scale", 1.0), (split, "image", 3.0)])
    variables = store.load(whole)[0]
    found = validation.make_validator(run, trained=run.joints).validate(variables)
    first, second = (results["lsp-pck"].total for results in found.rows.values())
    assert first != second
    np.testing.assert_allclose(found.metric, (first + 3 * second) / 4)
