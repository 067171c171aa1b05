"""Evaluating a checkpoint on splits in memory, with given predictions in place of a network's."""

import json

import numpy as np
import pytest

from configs import common
from jaxpose.data import prepared
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import any_joints, evaluate, inference
from jaxpose.evaluation.evaluation_set import evaluation_set_of
from jaxpose.evaluation.inference import Predictions
from tests.support.drawn_people import JOINTS, split_of

PEOPLE = split_of(6)
ROW = "people:test (image)"


def changed(split, *, joints=JOINTS, **fields):
    """The split with other joint names, and with other values of some features."""
    source = [{**example, **fields} for example in split.source]
    return split._replace(source=source, joints=joints, flip_pairs=())


def corners(net, variables, split, *, joints, **_):
    """Predict every joint in the image's corner."""
    shape = (net.num_blocks, len(split.source), len(joints))
    in_crop, readable = np.ones(shape[1:], bool), np.ones(shape[1], bool)
    return Predictions(np.zeros((*shape, 2)), np.ones(shape), in_crop, readable)


def evaluation_of(split, workdir, monkeypatch, *, predict_split=corners, **fields):
    """Evaluate `small` on a split, as if it predicted what `predict_split` returns."""
    split = split._replace(name="people", split="test")
    monkeypatch.setattr(inference, "predict_split", predict_split)
    monkeypatch.setattr(prepared, "open_split", lambda name, part, data_dir: split)
    config = common.get_config()
    config.test = (("people", "test", "image"),)
    config.metric = "auto"
    config.update(fields)
    return evaluate.evaluate_checkpoint(config, workdir, path="small")


def test_results_and_predictions_are_written_to_a_new_workdir(tmp_path, monkeypatch):
    workdir = tmp_path / "new" / "run"
    evaluation = evaluation_of(PEOPLE, workdir, monkeypatch)
    written = json.loads((workdir / "evaluation.json").read_text())
    assert written["rows"][ROW]["pck"]["persons"] == 6
    assert written["files"][ROW] == [str(file) for file in evaluation.rows[ROW].files]


def test_the_checkpoints_network_is_described_since_it_can_differ_from_the_configs(
    tmp_path, monkeypatch
):
    evaluation = evaluation_of(PEOPLE, tmp_path, monkeypatch, image_size=96)
    first, *_ = evaluate.report_text(evaluation).splitlines()
    assert first.endswith(
        "small.npz (step 16452): K = 2, crops of 128x128, decoding within windows of 5x5 cells"
    )
    whole = evaluation.network.net.clone(window=0)
    evaluation = evaluation._replace(network=evaluation.network._replace(net=whole))
    first, *_ = evaluate.report_text(evaluation).splitlines()
    assert first.endswith("crops of 128x128, decoding of whole heat maps")


def test_without_a_joint_in_common_every_metric_is_empty(tmp_path, monkeypatch):
    pytest.importorskip("pycocotools")
    strangers = changed(PEOPLE, joints=("nose", "tail", "paw", "ear"), area=600.0)
    for number, example in enumerate(strangers.source):
        example |= {"image_id": str(number).encode(), "annotation_id": str(number).encode()}
    strangers = strangers._replace(sigmas=(0.1,) * 4)
    evaluation = evaluation_of(strangers, tmp_path, monkeypatch)
    written = json.loads((tmp_path / "evaluation.json").read_text())["rows"][ROW]
    labels = 6 * 3  # the fourth joint has none
    for name in ("pck", "oks-ap"):
        found = written[name]
        assert (found["total"], found["not_labeled"], found["not_predicted"]) == (None, 6, labels)
    ignored = f"ignored: 6 joints without a label, {labels} labeled joints without a prediction"
    assert evaluate.report_text(evaluation).count(ignored) == 2


def test_more_joints_than_columns_are_listed(tmp_path, monkeypatch):
    evaluation = evaluation_of(PEOPLE, tmp_path, monkeypatch)
    assert "not labeled" not in evaluate.report_text(evaluation)
    monkeypatch.setattr(any_joints, "MAX_COLUMNS", 2)
    evaluation = evaluation_of(PEOPLE, tmp_path, monkeypatch)
    lines = evaluate.report_text(evaluation).splitlines()
    assert {line.split("  ")[0].strip() for line in lines} >= {"left_wrist", "neck", "right_ankle"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"labeled": np.zeros(4, bool)}, f"{ROW} is not evaluated: no joint has a label"),
        (
            {"box": np.zeros(4, np.float32)},
            f"{ROW} is not evaluated: the data set has neither boxes nor a head size for every",
        ),
    ],
)
def test_a_row_that_is_not_evaluated_has_its_reason(tmp_path, monkeypatch, fields, says):
    evaluation = evaluation_of(changed(PEOPLE, **fields), tmp_path, monkeypatch)
    assert evaluation.rows[ROW].results == {} and evaluation.rows[ROW].protocol is None
    assert says in evaluate.report_text(evaluation)


def test_an_unreadable_image_of_several_persons_is_named_once(tmp_path, monkeypatch):
    split = changed(PEOPLE)
    for example in split.source[:3]:
        example["image_name"] = b"group.png"

    def predict_split(*arguments, **options):
        readable = np.array([False, False, True, True, False, True])
        return corners(*arguments, **options)._replace(readable=readable)

    evaluation = evaluation_of(split, tmp_path, monkeypatch, predict_split=predict_split)
    assert evaluation.rows[ROW].unreadable == ["group.png", "im0004.png"]
    assert "black images: 2 (group.png, im0004.png)" in evaluate.report_text(evaluation)


def test_no_rows_are_refused_and_leave_no_folder(tmp_path, monkeypatch):
    with pytest.raises(JaxposeError, match=r"config\.test is empty.*add rows"):
        evaluation_of(PEOPLE, tmp_path / "run", monkeypatch, test=())
    assert list(tmp_path.iterdir()) == []


def test_a_workdir_that_cannot_be_created_is_refused_before_anything_is_predicted(
    tmp_path, monkeypatch
):
    def predict_split(*_, **__):
        pytest.fail("predicted")

    (tmp_path / "file").touch()
    workdir = tmp_path / "file" / "run"
    with pytest.raises(JaxposeError, match="file/run cannot be written.*choose another --workdir"):
        evaluation_of(PEOPLE, workdir, monkeypatch, predict_split=predict_split)


def test_a_network_without_any_trained_joint_is_refused():
    with pytest.raises(JaxposeError, match="no joint of the network has labels"):
        evaluation_set_of(PEOPLE, JOINTS, ())
