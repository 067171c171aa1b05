"""What the benchmarks share; that each runs small, without the extra, and says who is missing."""

import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import contest, depthwise, network, predict, soft_argmax, startup, training
from jaxpose import export
from tests.support import small_estimator


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a benchmark's command where PyTorch is not installed; its report."""
    monkeypatch.setattr(contest, "absent", lambda *libraries: list(libraries))
    monkeypatch.setattr(contest, "use_threads", lambda: None)
    monkeypatch.setattr(contest, "SAMPLE", 0.0)
    monkeypatch.setattr(
        contest, "machine_rates", lambda dtype: {"multiply_adds": 1e9, "bytes": 1e9}
    )

    def report(module, *arguments):
        monkeypatch.setattr(sys, "argv", ["benchmark", "--json", *arguments])
        module.main()
        return json.loads(capsys.readouterr().out)

    return report


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


def test_depthwise_runs_without_pytorch_and_says_so(run):
    report = run(depthwise, "--shape", "1", "6", "6", "4")
    assert [row["contestant"] for row in report["rows"]] == ["flax.linen.Conv", "jaxpose"]
    assert report["rows"][1]["both / jaxpose"] == 1
    assert report["missing"] == ["PyTorch (pip install torch)"]


def test_soft_argmax_runs_without_pytorch_and_says_so(run, monkeypatch):
    monkeypatch.setattr(soft_argmax, "SHAPES", {2: (2, 3, 5, 4), 3: (2, 2, 3, 5, 4)})
    report = run(soft_argmax, "--rounds", "1")
    names = ["jaxpose", "jaxpose with covariance", "jaxpose, maps last", "jax.nn.softmax, einsum"]
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
def test_launch_is_timed_to_its_first_step(tmp_path):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    data_dir = startup.build(tmp_path / "data", environment)
    took = startup.first_step("configs/synthetic.py:tiny", data_dir, tmp_path, environment)
    assert took > 1
    with pytest.raises(SystemExit, match="launch.py made no step"):
        startup.first_step("configs/nothing.py", data_dir, tmp_path, environment)


@pytest.mark.slow
def test_training_reports_whole_steps_and_steps_in_parts(run):
    small = ["--width", "18", "--image_size", "32", "--batch_size", "2", "--rounds", "1"]
    rows = run(training, *small, "--parts", "2")["rows"]
    assert [row["step"] for row in rows] == ["whole", "whole, plain jit", "in 2 parts"]
    assert rows[0]["time / whole"] == 1 and all(row["images/s"] > 0 for row in rows)
