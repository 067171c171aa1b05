"""metrics.jsonl through kills and resumes, TensorBoard's copy, and what is shown on the way."""

import io
import json
import math
import threading

import numpy as np
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.training.metric_log import RunLog, read_records
from tests.support import tiny_run


def written(workdir, steps, *, start=0, **values):
    log = RunLog(workdir, step=start, num_steps=10)
    for step in steps:
        log.write("train", step, {"loss": 1.0 / step, **values})
    log.close()


def losses(workdir):
    return {r["step"]: r["loss"] for r in read_records(workdir / "metrics.jsonl")}


def test_a_record_a_line(tmp_path):
    written(tmp_path, [2, 4], rows={"lsp": {"total": np.float32(0.5)}})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert first.keys() == {"kind", "step", "time", "loss", "rows"}
    assert (first["kind"], first["step"], first["rows"]) == ("train", 2, {"lsp": {"total": 0.5}})
    assert set(tiny_run.TIME_FIELDS) & first.keys() == {"time"}


def test_resuming_cuts_back_to_the_restored_step(tmp_path):
    written(tmp_path, [2, 4, 6, 8])
    written(tmp_path, [5], start=4)
    assert losses(tmp_path) == {2: 0.5, 4: 0.25, 5: 0.2}


def test_starting_afresh_leaves_nothing_of_before(tmp_path):
    written(tmp_path, [2, 4])
    written(tmp_path, [3])
    assert list(losses(tmp_path)) == [3]


@pytest.mark.parametrize("tail", ['{"kind": "train", "st', '{"step": 5', "\0\0\0\0", "5", "\udcff"])
def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path, tail):
    written(tmp_path, [2, 4])
    with (tmp_path / "metrics.jsonl").open("a", errors="surrogateescape") as file:
        file.write(tail)
    written(tmp_path, [6], start=4)
    assert list(losses(tmp_path)) == [2, 4, 6]


def test_another_line_that_is_no_record_is_an_error(tmp_path):
    written(tmp_path, [2, 4])
    path = tmp_path / "metrics.jsonl"
    path.write_text("notes of mine\n" + path.read_text())
    with pytest.raises(JaxposeError, match="line that is not a record .'notes of mine'"):
        read_records(path)


def test_what_is_not_finite_is_null(tmp_path):
    log = RunLog(tmp_path, step=0, num_steps=1)
    log.write("validation", 1, {"metric": math.nan, "best": -math.inf, "rows": [np.float32("inf")]})
    log.close()
    (record,) = read_records(tmp_path / "metrics.jsonl")
    assert (record["metric"], record["best"], record["rows"]) == (None, None, [None])


def test_a_metric_under_its_old_name_is_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "validation", "step": 1, "score": 61.25}\n')
    assert read_records(path) == [{"kind": "validation", "step": 1, "metric": 61.25}]


def test_tensorboard_has_the_numbers(tmp_path):
    written(tmp_path, [2], rows={"lsp": {"total": 50.0, "joints": {"left_wrist": 25.0}}})
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    for name in (b"train/loss", b"train/rows/lsp/total", b"train/rows/lsp/joints/left_wrist"):
        assert name in content


def test_no_thread_is_started(tmp_path):
    """None is left at the end, and a full disk ends none that others wait for."""
    before = set(threading.enumerate())
    log = RunLog(tmp_path, step=0, num_steps=10)
    log.write("train", 2, {"loss": 1.0})
    assert set(threading.enumerate()) <= before
    log.close()


def test_a_full_disk_is_one_line_at_every_write(tmp_path):
    log = RunLog(tmp_path, step=0, num_steps=10)
    log._file.close()
    log._file = open("/dev/full", "w")
    for action in [lambda: log.write("train", 2, {"loss": 1.0})] * 20 + [log.close]:
        with pytest.raises(JaxposeError, match="No space left on device.; free") as caught:
            action()
        assert "\n" not in str(caught.value)
    assert log._file.closed


def test_without_a_terminal_progress_is_lines(tmp_path, capsys):
    log = RunLog(tmp_path, step=0, num_steps=10)
    log.info("resumed")
    log.progress(3, "loss 0.5")
    log.close()
    assert capsys.readouterr().err == "resumed\nstep 3/10: loss 0.5\n"


def test_on_a_terminal_it_is_a_bar(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    log = RunLog(tmp_path, step=4, num_steps=10)
    log.info("a note")
    log.progress(10, "loss 0.5")
    log.close()
    shown = terminal.getvalue()
    assert "a note\n" in shown and "4/10" in shown and "10/10" in shown and "loss 0.5" in shown


def test_the_other_processes_write_nothing(tmp_path, capsys):
    log = RunLog(tmp_path, step=0, num_steps=10, active=False)
    log.write("train", 1, {"loss": 1.0})
    log.progress(1, "loss")
    log.info("note")
    log.close()
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err == ""
