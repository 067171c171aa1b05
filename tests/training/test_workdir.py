"""A run's folder: one launch, one config, free fields free."""

import contextlib
import json

import pytest

from jaxpose.errors import JaxposeError
from jaxpose.training.workdir import FREE_FIELDS, check_data, differences, prepare_workdir

CONFIG = {
    "batch_size": 16,
    "num_epochs": 3,
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "eval": {"batch_size": 8},
    "data": (("lsp", 1.0),),
}


def enter(folder, **changes):
    with prepare_workdir(folder, {**CONFIG, **changes}) as entered:
        return entered


def started(folder, **changes):
    """The folder of a run that has saved a checkpoint."""
    entered = enter(folder, **changes)
    (entered / "checkpoints" / "latest" / "5").mkdir(parents=True)
    return entered


def refused(folder, match, **changes):
    with pytest.raises(JaxposeError, match=match) as caught:
        enter(folder, **changes)
    assert "\n" not in str(caught.value)


def test_it_is_made_and_holds_the_config(tmp_path):
    folder = enter(tmp_path / "runs" / "one")
    assert folder == tmp_path / "runs" / "one"
    assert json.loads((folder / "config.json").read_text())["optimizer"] == CONFIG["optimizer"]


def test_the_same_config_enters_again(tmp_path):
    enter(tmp_path)
    enter(tmp_path)


def test_another_config_is_refused_by_the_fields_names(tmp_path):
    started(tmp_path)
    refused(tmp_path, "batch_size is 16 in the workdir but 32 in this command", batch_size=32)
    changed = {"name": "sgd", "learning_rate": 0.2}
    refused(
        tmp_path,
        "optimizer.learning_rate is 0.1 in the workdir but 0.2 in this command",
        optimizer=changed,
    )
    refused(tmp_path, "seed is 'absent' in the workdir but 1 in this command", seed=1)
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 16


def test_a_workdir_of_an_older_version_is_refused_with_what_to_do(tmp_path):
    old = {"rematerialise": False}  # old spelling
    started(tmp_path, **old)
    refused(tmp_path, "written by an older version .* choose another --workdir, and add --config.i")
    assert old.items() <= json.loads((tmp_path / "config.json").read_text()).items()


def test_a_config_with_the_metric_under_its_old_name_is_the_same_config(tmp_path):
    started(tmp_path, score="pck")  # old spelling
    enter(tmp_path, metric="pck")
    refused(tmp_path, "metric is 'pck' in the workdir but 'loss' in this command", metric="loss")


def test_a_run_from_before_a_field_was_added_has_the_value_that_it_had_then(tmp_path):
    started(tmp_path, network={"width": 18})
    says = "network.window is 0 in the workdir but 7 in this command"
    refused(tmp_path, says, network={"width": 18, "window": 7})
    enter(tmp_path, network={"width": 18, "window": 0})


@pytest.mark.parametrize("content", [None, "{", "[1]", ""])
def test_a_start_that_failed_before_its_first_checkpoint_does_not_refuse_another_config(
    tmp_path, content
):
    enter(tmp_path, batch_size=32)
    (tmp_path / "checkpoints" / "latest").mkdir(parents=True)
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    enter(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 16


def test_many_differences_are_counted(tmp_path):
    started(tmp_path)
    refused(tmp_path, r"\(and 3 more\)", **{f"field{i}": i for i in range(9)})


def test_free_fields_are_free_and_the_newest_are_kept(tmp_path):
    started(tmp_path)
    enter(tmp_path, num_epochs=9, eval={"batch_size": 64, "flip_test": True}, workers=4)
    kept = json.loads((tmp_path / "config.json").read_text())
    assert (kept["num_epochs"], kept["eval"]["batch_size"]) == (9, 64)


@pytest.mark.parametrize("field", FREE_FIELDS)
def test_each_free_field(field):
    assert differences({field: 1}, {field: 2}) == []
    assert differences({"optimizer": {field: 1}}, {"optimizer": {field: 2}}) != []


def test_other_training_data_are_refused_when_a_run_resumes(tmp_path):
    check_data(tmp_path, {"lsp": 950, "lspet": 9500}, resumed=False)
    check_data(tmp_path, {"lsp": 950, "lspet": 9500}, resumed=True)
    with pytest.raises(JaxposeError) as caught:
        check_data(tmp_path, {"lsp": 950, "lspet": 9400}, resumed=True)
    record = tmp_path / "data.json"
    assert str(caught.value) == (
        f"the data of the run in {tmp_path} have changed (lspet had 9500 training persons when the "
        "run started, but has 9400 now), so its epochs and learning-rate schedule would change: "
        f"prepare the same data again, choose another --workdir with --config.init_from={tmp_path},"
        f" or delete {record} to resume with the new data"
    )
    record.unlink()
    check_data(tmp_path, {"lsp": 950, "lspet": 9400}, resumed=True)


@pytest.mark.parametrize("content", [None, "", "[]", '{"lsp": 9'])
def test_a_run_without_a_record_of_its_data_is_resumed_and_gets_one(tmp_path, content):
    record = tmp_path / "data.json"
    if content is not None:
        record.write_text(content)
    check_data(tmp_path, {"lsp": 950}, resumed=True)
    assert json.loads(record.read_text()) == {"lsp": 950}


def test_a_start_without_a_checkpoint_may_change_its_data(tmp_path):
    check_data(tmp_path, {"lsp": 950}, resumed=False)
    check_data(tmp_path, {"lsp": 940}, resumed=False)
    check_data(tmp_path, {"lsp": 940}, resumed=True)


def test_a_second_launch_is_refused_until_the_first_is_over(tmp_path):
    with prepare_workdir(tmp_path, CONFIG):
        refused(tmp_path, r"another launch \(process \d+\) is using")
    enter(tmp_path)


def test_the_folder_is_free_again_after_an_error(tmp_path):
    with contextlib.suppress(ZeroDivisionError), prepare_workdir(tmp_path, CONFIG):
        raise ZeroDivisionError
    enter(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "run", "cannot be written")
    refused(tmp_path / "file", "cannot be written")


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_a_config_that_is_none(tmp_path, content):
    started(tmp_path)
    (tmp_path / "config.json").write_text(content)
    refused(tmp_path, "config.json is not a valid config")
