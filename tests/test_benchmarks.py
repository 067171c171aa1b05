"""What the benchmarks share; that each runs small, without PyTorch, and rejects bad arguments."""

import functools
import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tools
from benchmarks import (
    contest,
    depthwise,
    input_pipeline,
    memory,
    network,
    predict,
    soft_argmax,
    startup,
    training,
)
from benchmarks import people as finding_people
from jaxpose import PoseNet, export
from jaxpose.checkpoints.packed import pack
from jaxpose.errors import JaxposeError
from jaxpose.predict.images import save_image
from jaxpose.skeleton import MPII, skeleton_of
from tests.support import small_estimator, tiny_run

COMMANDS = (
    depthwise, finding_people, input_pipeline, memory, network, predict, soft_argmax, startup,
    training,
)  # fmt: skip


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a benchmark's command where PyTorch is not installed; what it prints."""
    monkeypatch.setattr(contest, "absent", lambda *libraries: list(libraries))
    monkeypatch.setattr(contest, "use_threads", lambda: None)
    monkeypatch.setattr(contest, "SAMPLE", 0.0)
    monkeypatch.setattr(
        contest, "machine_rates", lambda dtype: {"multiply_adds": 1e9, "bytes": 1e9}
    )

    def printed(module, *arguments):
        monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
        module.main()
        return capsys.readouterr().out

    return printed


@pytest.fixture
def run(command):
    """Runs a benchmark's command; its report."""
    return lambda module, *arguments: json.loads(command(module, "--json", *arguments))


@pytest.fixture
def checkpoint(tmp_path):
    """A small network as a file."""
    packed = tmp_path / "network.npz"
    return str(pack(small_estimator.variables(), small_estimator.METADATA, packed))


@pytest.mark.parametrize("module", COMMANDS)
def test_help_names_the_command(module, command, capsys):
    with pytest.raises(SystemExit) as ended:
        command(module, "--help")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m {module.__name__} ")


SMALL = ("--blocks", "1", "--width", "18", "--image_size", "32")


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (network, ["--rows", "backward"], '\'backward\' is not "forward N" or "step N"'),
        (network, ["--rows", "forward x"], '\'forward x\' is not "forward N" or "step N"'),
        (network, ["--rows", "forwards 1"], '\'forwards 1\' is not "forward N" or "step N"'),
        (network, [*SMALL, "--width", "20"], "width is 20; it must be a multiple of 18"),
        (network, [*SMALL, "--image_size", "30"], "30x30"),
        (soft_argmax, ["--rounds", "0"], "'0' is not a whole number of at least 1"),
        (training, ["--batch_size", "2", "--parts", "3"], "cannot be split into 3 equal parts"),
        (depthwise, ["--shape", "1", "4", "4", "0"], "'0' is not a whole number of at least 1"),
        (finding_people, ["--mpii", "/nowhere", "--no_person", "."], "/nowhere has 0 files mpii*"),
        (predict, ["latency", "--checkpoint", "/nowhere"], "/nowhere"),
        (predict, ["start", "--checkpoint", "/nowhere"], "jaxpose predict failed"),
        (predict, ["onnx"], "onnxruntime is not installed; install the extra jaxpose[onnx]"),
        (memory, ["steps"], "steps needs --data_dir"),
        (memory, ["steps", "--data_dir", "/nowhere"], "/nowhere"),
        (startup, ["--config", "configs/lsp.py"], "--config configs/lsp.py needs --data_dir"),
        (input_pipeline, ["--data_dir", "/nowhere"], "no prepared data set in /nowhere"),
    ],
)
def test_bad_arguments_end_with_one_line(module, arguments, message, command, monkeypatch, capsys):
    monkeypatch.setattr(predict, "UNTRAINED", {"num_blocks": 1, "width": 18})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SystemExit) as ended:
        tools.run(functools.partial(command, module, *arguments))
    printed = capsys.readouterr().err
    assert ended.value.code in (1, 2) and "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if "error: " in line]
    assert message in line


def test_contestants_take_turns_and_the_row_is_the_median(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(contest.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(contest.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(contest, "SAMPLE", 0.0)  # one call a sample
    lasts = {"quick": iter([9, 9, 1, 3, 2]), "slow": iter([9, 9, 7, 9, 8])}

    def call(name):
        order.append(name)
        clock[0] += next(lasts[name])

    calls = {name: (call, (name,), lambda result: result) for name in lasts}
    assert contest.medians(calls, rounds=3) == {"quick": 2000, "slow": 8000}
    assert order[4:] == ["quick", "slow"] * 3


def test_short_calls_are_repeated_within_a_sample(monkeypatch):
    clock, count = [0.0], [0]
    monkeypatch.setattr(contest.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(contest.time, "sleep", lambda seconds: None)

    def call():
        count[0] += 1
        clock[0] += contest.SAMPLE / 4

    found = contest.medians({"it": (call, (), lambda result: result)}, rounds=2)
    assert found["it"] == pytest.approx(1e3 * contest.SAMPLE / 4)
    assert count[0] == 2 + 2 * (1 + 4)  # the first two, then each round one warm and four timed


def test_on_a_gpu_the_calls_of_a_sample_queue_up_and_the_last_is_waited_for(monkeypatch):
    clock, calls, waited = [0.0], [0], []
    monkeypatch.setattr(contest, "on_gpu", lambda: True)
    monkeypatch.setattr(contest.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(contest.time, "sleep", lambda seconds: None)

    def call():
        calls[0] += 1
        clock[0] += contest.GPU_SAMPLE / 4
        return calls[0]

    contest.medians({"it": (call, (), waited.append)}, rounds=1)
    assert waited == [1, 2, 3, 7]  # the first two, one to warm up, the last of four


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_on_a_gpu_every_thread_gets_all_cores_back(monkeypatch):
    last = {}
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    monkeypatch.setattr(contest, "on_gpu", lambda: True)
    monkeypatch.setattr(os, "sched_setaffinity", last.__setitem__)
    contest.use_threads()
    assert {int(thread) for thread in os.listdir("/proc/self/task")} <= last.keys()
    assert all(last[thread] == os.sched_getaffinity(0) for thread in last if thread)
    assert contest.machine()["threads"] is None


def test_where_jax_cannot_be_restricted_no_number_of_threads_is_reported(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert contest.machine()["threads"] is None


def test_cpu_time_is_read_from_the_clock_of_the_process(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(contest.time, "process_time", lambda: clock[0])

    def call():
        clock[0] += 2.0

    found = contest.samples({"it": (call, (), lambda result: result)}, rounds=1, cpu_time=True)
    assert found == {"it": [2000.0]}


def test_the_roofline_is_the_slower_of_operations_and_bytes():
    rates = {"multiply_adds": 100.0, "bytes": 10.0}
    assert contest.roofline(200, 10, rates) == 2000
    assert contest.roofline(200, 30, rates) == 3000


def test_a_wrong_contestant_ends_the_program():
    good = jnp.asarray([1.0, 100.0])
    contest.compare("one", [good], [good + 1e-3], tolerance=1e-4)
    with pytest.raises(SystemExit, match="error: one: result 0 has an error of 1.0e-03"):
        contest.compare("one", [good], [good + 0.1], tolerance=1e-4)
    with pytest.raises(SystemExit, match="has an error of nan"):
        contest.compare("one", [good * np.nan], [good], tolerance=1e-4)


def test_a_contestant_with_a_wrong_update_ends_the_program():
    def call(*losses):
        left = iter(losses)
        return lambda: (next(left),), (), lambda result: result

    tolerances = [1e-4, 1e-2]
    contest.compare_calls("step 4", {"a": call(3, 2), "b": call(3, 2.01)}, tolerances=tolerances)
    with pytest.raises(SystemExit, match="error: step 4, b: result 0 has an error of 5.0e-02"):
        contest.compare_calls("step 4", {"a": call(3, 2), "b": call(3, 2.1)}, tolerances=tolerances)


def test_depthwise_runs_without_pytorch_and_says_so(run):
    report = run(depthwise, "--shape", "1", "6", "6", "4")
    assert [row["contestant"] for row in report["rows"]] == ["flax.linen.Conv", "jaxpose"]
    assert report["rows"][1]["both / jaxpose"] == 1
    assert report["missing"] == ["PyTorch (pip install torch)"]


def test_soft_argmax_runs_without_pytorch_and_says_so(run, monkeypatch):
    monkeypatch.setattr(soft_argmax, "SHAPES", {2: (2, 3, 5, 4), 3: (2, 2, 3, 5, 4)})
    report = run(soft_argmax, "--rounds", "1")
    ours = ("jaxpose", "jaxpose with covariance")
    names = [*ours, *(f"{name}, maps last" for name in ours), "jax.nn.softmax, einsum"]
    contestants = [(row["maps"], row["contestant"]) for row in report["rows"]]
    assert contestants == [(maps, name) for maps in ("2-D", "3-D") for name in names]
    assert report["rows"][0]["both / jaxpose"] == 1
    missing = ["kornia (pip install torch kornia)", "dsntnn (pip install torch dsntnn)"]
    assert report["missing"] == missing


def test_the_reference_of_soft_argmax_has_the_gradient_of_its_values():
    maps = np.random.default_rng(2).normal(size=(1, 1, 2, 3, 4))
    grids = [soft_argmax.cells(size) for size in (4, 3, 2)]
    *_, slope = soft_argmax.reference(maps, grids, covariance=True)

    def total(maps):
        results = soft_argmax.reference(maps, grids, covariance=True)[:2]
        return sum((soft_argmax.cotangent(each.shape) * each).sum() for each in results)

    step = np.random.default_rng(3).normal(size=maps.shape)
    difference = (total(maps + 1e-5 * step) - total(maps - 1e-5 * step)) / 2e-5
    assert difference == pytest.approx((slope * step).sum(), rel=1e-6)


@pytest.mark.slow
def test_network_runs_without_pytorch_and_says_so(run):
    small = ["--blocks", "1", "--width", "18", "--image_size", "32"]
    report = run(network, "--rows", "forward 1", "step 2", *small)
    contestants = [(row["row"], row["contestant"]) for row in report["rows"]]
    ours = ("jaxpose", "jaxpose, plain jit")
    assert contestants == [(row, name) for row in ("forward 1", "step 2") for name in ours]
    assert all(row["roofline / time"] > 0 and row["images/s"] > 0 for row in report["rows"])
    assert report["missing"] == ["PyTorch (pip install torch)"]


def test_a_program_used_by_hand_predicts_what_the_estimator_does():
    estimator = small_estimator.estimator()
    program = jax.jit(export.crop_program(small_estimator.variables(), small_estimator.METADATA))
    image = predict.draw_image()
    found = predict.pose_by_program(program, estimator, image, predict.BOXES)
    expected = estimator.predict(image, predict.BOXES)
    np.testing.assert_allclose(found[0], expected.keypoints, atol=0.01)  # pixels
    np.testing.assert_allclose(found[1], expected.confidence, atol=1e-4)


@pytest.mark.slow
def test_latency_is_given_relative_to_the_network(command, monkeypatch):
    monkeypatch.setattr(predict, "UNTRAINED", {"num_blocks": 1, "width": 18})
    monkeypatch.setattr(predict, "IMAGE_SIZE", 64)
    monkeypatch.setattr(predict, "CALLS", 1)
    lines = command(predict, "latency").splitlines()
    assert [line[:16].rstrip() for line in lines] == [
        "network alone", "predict, box", "predict, no box"
    ]  # fmt: skip
    assert lines[0].endswith(" 1.00x")


@pytest.mark.slow
def test_predict_is_timed_from_the_shell(command, checkpoint, monkeypatch):
    monkeypatch.setattr(predict, "SECONDS", 1)
    printed = command(predict, "video", "--checkpoint", checkpoint)
    assert "25 of 25 frames at 25 frames/s" in printed
    printed = command(predict, "start", "--checkpoint", checkpoint)
    assert "first call from the shell" in printed and "second call from the shell" in printed


@pytest.mark.slow
def test_people_are_counted_in_a_part_of_mpii(command, checkpoint, tmp_path):
    save_image(predict.draw_image(), tmp_path / "empty.jpg")
    release = tiny_run.ROOT / "tfds_builders/mpii/dummy_data"
    inputs = ["--mpii", str(release), "--no_person", str(tmp_path)]
    lines = command(finding_people, *inputs, "--checkpoint", checkpoint).splitlines()
    assert lines[0].startswith("1 validation persons in 1 images")
    assert "1 images without people, fraction without a detection:" in lines


def test_finding_people_needs_the_joints_of_mpii(command, tmp_path):
    others = skeleton_of(["nose" if name == "pelvis" else name for name in MPII.joints])
    metadata = small_estimator.METADATA._replace(**others._asdict(), trained_joints=others.joints)
    checkpoint = str(pack(small_estimator.variables(), metadata, tmp_path / "network.npz"))
    with pytest.raises(JaxposeError, match="does not predict pelvis; give a checkpoint"):
        command(finding_people, "--mpii", ".", "--no_person", ".", "--checkpoint", checkpoint)


def test_the_input_pipeline_is_measured_by_data_set(run, monkeypatch, people):
    monkeypatch.setattr(input_pipeline, "ROUNDS", 1)
    few = ["--image_size", "32", "--batch_size", "4", "--batches", "1", "--workers", "0"]
    report = run(input_pipeline, "--data_dir", str(people), *few)
    assert report["images_per_second"][tiny_run.PEOPLE]["threads"] > 0
    assert report["cpu_milliseconds_per_image"][tiny_run.PEOPLE].keys() > {"decode", "crop"}


@pytest.mark.slow
def test_accumulation_reduces_the_memory_of_a_step(command, monkeypatch):
    monkeypatch.setattr(memory, "PoseNet", functools.partial(PoseNet, num_blocks=1, width=18))
    monkeypatch.setattr(memory, "SIZE", 64)
    _, whole, parts = (line.split() for line in command(memory, "parts").splitlines())
    assert (whole[0], parts[:3]) == ("16", ["4", "x", "4"])
    assert float(parts[-2]) < float(whole[-2])


@pytest.mark.slow
def test_memory_is_printed_while_a_run_trains(command, monkeypatch, people, tmp_path):
    config = tiny_run.config(tmp_path, people)
    monkeypatch.setattr(memory.synthetic, "get_config", lambda preset: config)
    lines = command(memory, "steps", "--data_dir", str(people), "--steps", "1").splitlines()
    assert lines[0].split() == ["step", "resident", "MB", "handles", "threads"]
    assert lines[-1] == "Python threads left at the end: none"


@pytest.mark.slow
def test_startup_reports_imports_launch_and_compilation(run, monkeypatch):
    small = startup.COMPILE.replace("PoseNet()", "PoseNet(num_blocks=1, width=18)")
    monkeypatch.setattr(startup, "COMPILE", small)
    rows = run(startup, "--rounds", "1", "--compile_batch", "1")["rows"]
    names = ["launch.py, first start", *startup.IMPORTS, "launch.py, second start", "trace", "comp"]
    assert all(row["start"].startswith(name) for row, name in zip(rows, names, strict=True))
    assert all(row["s"] > 0 for row in rows)


def test_a_launch_that_makes_no_step_ends_the_program(tmp_path):
    with pytest.raises(SystemExit, match="launch.py made no step"):
        startup.first_step("configs/nothing.py", str(tmp_path), tmp_path, dict(os.environ))


@pytest.mark.slow
def test_training_reports_whole_steps_and_steps_in_parts(run):
    small = ["--width", "18", "--image_size", "32", "--batch_size", "2", "--rounds", "1"]
    rows = run(training, *small, "--parts", "2")["rows"]
    assert [row["step"] for row in rows] == ["whole", "whole, plain jit", "in 2 parts"]
    assert rows[0]["time / whole"] == 1 and all(row["images/s"] > 0 for row in rows)
