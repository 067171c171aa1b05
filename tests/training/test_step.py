"""The step: the same on any number of devices and parts, masks that mask, averages, a NaN named."""

import functools
import types

import jax
import numpy as np
import optax
import pytest
import scipy.special

from jaxpose.data.batches import Batch
from jaxpose.network import PoseNet, initial_variables, normalize
from jaxpose.runtime.devices import DEVICES, parallel, replicate, shard, unreplicate
from jaxpose.training import optimizer
from jaxpose.training.step import create_train_state, evaluation_variables, make_train_step
from tests.support.some_devices import on_devices

NET = PoseNet(
    num_joints=3, num_blocks=1, num_context_maps=1, width=18, kernel_size=3, axis_name=DEVICES
)
RATE, WEIGHT, DECAY = 0.05, 0.1, 0.9
BATCH = 16


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def batch_of(seed):
    """A global batch in which some joints have no label and one person is padding."""
    rng = np.random.default_rng(seed)
    labeled = rng.random((BATCH, 3)) < 0.7
    weight = np.ones(BATCH, np.float32)
    weight[5] = 0
    return Batch(
        image=rng.integers(0, 256, (BATCH, 32, 32, 3), np.uint8),
        keypoints=np.where(labeled[..., None], rng.random((BATCH, 3, 2)), 0).astype(np.float32),
        labeled=labeled,
        known=labeled | (rng.random((BATCH, 3)) < 0.5),
        weight=weight,
        readable=weight > 0,
    )


def sgd():
    return optimizer.make_optimizer("sgd", lambda step: RATE)


@functools.cache
def program(devices=1, *, accumulation_steps=1, frozen_norm=False, ema=False):
    """(state before the first step, run), where run(state, batches) gives the state after them."""
    step = make_train_step(
        NET,
        sgd(),
        probability_weight=WEIGHT,
        ema_decay=DECAY if ema else 0.0,
        accumulation_steps=accumulation_steps,
        frozen_norm=frozen_norm,
    )
    with on_devices(devices):
        compiled = parallel(step, donate=True)
    start = create_train_state(initial_variables(NET, 0), sgd(), ema=ema)

    def run(state, batches):
        with on_devices(devices):
            state = replicate(state)
            for batch in batches:
                state = compiled(state, shard(batch))
            return unreplicate(state)

    return types.SimpleNamespace(start=jax.tree.map(np.asarray, start), run=run)


def assert_close(ours, theirs, tolerance):
    def check(path, a, b):
        np.testing.assert_allclose(a, b, atol=tolerance, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(check, ours, theirs)


FIVE = [batch_of(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def one_device():
    """The state after each of five steps on one device, EMA on, batch norm in training."""
    alone = program(1, ema=True)
    states = [alone.start]
    for batch in FIVE:
        states.append(alone.run(states[-1], [batch]))
    return states


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4])
def test_the_number_of_devices_changes_nothing(one_device, devices):
    several = program(devices, ema=True)
    end = several.run(several.start, FIVE)
    moved = optax.tree.norm(jax.tree.map(np.subtract, end.params, several.start.params))
    assert moved > 0.05
    for part in ("params", "batch_stats", "ema", "sums"):
        tolerance = 1e-5 if part != "sums" else 1e-4  # sums of five losses of about 1
        assert_close(getattr(end, part), getattr(one_device[-1], part), tolerance)
    assert (end.step, end.bad_step, end.unreadable) == (5, -1, 5)


def test_the_average_is_what_numpy_says(one_device):
    expected = {"params": one_device[0].params, "batch_stats": one_device[0].batch_stats}
    for number, state in enumerate(one_device[1:], 1):
        decay = min(DECAY, number / (number + 10))
        expected = jax.tree.map(
            lambda average, new, d=decay: average.astype(np.float64) * d + new * (1 - d),
            expected,
            {"params": state.params, "batch_stats": state.batch_stats},
        )
    assert_close(evaluation_variables(one_device[-1]), expected, 1e-6)


@pytest.fixture(scope="module")
def frozen():
    return program(1, frozen_norm=True)


@pytest.fixture(scope="module")
def after_one(frozen):
    return frozen.run(frozen.start, FIVE[:1])


@pytest.mark.slow
def test_accumulated_parts_are_one_large_batch(frozen):
    """4 x 4 = 16, where batch norm is frozen."""
    parts = program(1, accumulation_steps=4, frozen_norm=True)
    ours, theirs = parts.run(parts.start, FIVE), frozen.run(frozen.start, FIVE)
    assert_close(ours.params, theirs.params, 1e-5)
    assert_close(ours.sums, theirs.sums, 1e-4)


def test_frozen_statistics_stay(frozen, after_one):
    assert_close(after_one.batch_stats, frozen.start.batch_stats, 0)


def equation_7(predictions, batch):
    """Mean over the labeled joints of the persons that are no padding, in float64."""
    shown = batch.labeled & (batch.weight[:, None] > 0)
    distance = (np.asarray(predictions, np.float64) - batch.keypoints)[shown]
    return (np.abs(distance) + distance**2).sum(-1).mean()


def equation_8(logits, batch):
    """Mean over the known joints, likewise."""
    known = batch.known & (batch.weight[:, None] > 0)
    sign = np.where(batch.labeled, 1, -1)[known]
    return np.log1p(np.exp(-sign * np.asarray(logits, np.float64)[known])).mean()


def test_losses_are_the_papers_over_what_is_labeled_and_known(frozen, after_one):
    batch = FIVE[0]
    start = {"params": frozen.start.params, "batch_stats": frozen.start.batch_stats}
    output = jax.jit(NET.apply)(start, normalize(batch.image))
    coordinate = equation_7(output.keypoints[-1], batch)
    probability = equation_8(output.presence_logits[-1], batch)
    sums = after_one.sums
    np.testing.assert_allclose(sums["coordinate_loss"], coordinate, rtol=1e-5)
    np.testing.assert_allclose(sums["probability_loss"], probability, rtol=1e-5)
    np.testing.assert_allclose(sums["loss"], coordinate + WEIGHT * probability, rtol=1e-5)


def test_gradient_norm_is_that_of_the_step_taken(frozen, after_one):
    taken = jax.tree.map(np.subtract, frozen.start.params, after_one.params)
    np.testing.assert_allclose(
        after_one.sums["gradient_norm"], optax.tree.norm(taken) / RATE, rtol=1e-3
    )


def test_padded_persons_and_unlabeled_joints_change_nothing(frozen, after_one):
    batch = jax.tree.map(np.copy, FIVE[0])
    padded = batch.weight == 0
    batch.image[padded] = 255
    batch.labeled[padded] = True
    batch.known[padded] = True
    batch.keypoints[~batch.labeled] = 7.0
    changed = frozen.run(frozen.start, [batch])
    assert_close(changed.params, after_one.params, 0)
    assert_close(changed.sums, after_one.sums, 0)


def test_a_batch_without_labels_moves_nothing(frozen):
    nothing = np.zeros((BATCH, 3), bool)
    batch = FIVE[0]._replace(labeled=nothing, known=nothing)
    end = frozen.run(frozen.start, [batch])
    assert_close(end.params, frozen.start.params, 0)
    assert end.bad_step == -1


def test_the_plateau_scales_the_update(frozen, after_one):
    plateau = frozen.start.plateau._replace(scale=np.float32(0.5))
    half = frozen.run(frozen.start._replace(plateau=plateau), FIVE[:1])
    expected = jax.tree.map(lambda a, b: (a + b) / 2, frozen.start.params, after_one.params)
    assert_close(half.params, expected, 1e-6)


def test_the_first_step_that_is_not_finite_is_kept(frozen):
    broken = FIVE[2]._replace(keypoints=np.full((BATCH, 3, 2), np.nan, np.float32))
    end = frozen.run(frozen.start, [*FIVE[:2], broken, *FIVE[3:]])
    assert (end.bad_step, end.step) == (3, 5)


def test_an_update_that_is_not_finite_counts_before_its_loss_is(frozen):
    plateau = frozen.start.plateau._replace(scale=np.float32(1e38))
    end = frozen.run(frozen.start._replace(plateau=plateau), FIVE[:1])
    assert np.isfinite(end.sums["loss"])
    assert end.bad_step == 1


def divergence(heatmaps, batch, grid):
    """Mean Jensen-Shannon divergence of labeled joints' maps from a Gaussian of one cell, NumPy."""
    heatmaps = np.asarray(heatmaps, np.float64)
    size = heatmaps.shape[1]
    cells = {"half_pixel": size, "align_corners": size - 1}[grid] * batch.keypoints
    cells = cells - {"half_pixel": 0.5, "align_corners": 0}[grid]
    found = []
    for b, j in np.argwhere(batch.labeled & (batch.weight[:, None] > 0)):
        square = (np.arange(size) - cells[b, j, :, None]) ** 2  # along x, along y
        q = np.exp(-(square[0] + square[1][:, None]) / 2)
        p = np.exp(heatmaps[b, ..., j])
        p, q = p / p.sum(), q / q.sum()
        m = (p + q) / 2
        found.append((scipy.special.rel_entr([p, q], m)).sum() / 2)
    return np.mean(found)


@pytest.mark.parametrize(
    "grid", ["half_pixel", pytest.param("align_corners", marks=pytest.mark.slow)]
)
def test_losses_of_contexts_and_maps_are_added_with_their_weights(grid):
    net = NET.clone(axis_name=None, grid=grid)
    batch = FIVE[1]
    step = make_train_step(
        net.clone(window=1),  # for predictions only
        sgd(),
        probability_weight=WEIGHT,
        context_weight=0.3,
        heatmap_weight=0.7,
        frozen_norm=True,
        axis_name=None,
    )
    start = program(1, frozen_norm=True).start
    sums = jax.jit(step)(start, batch).sums
    variables = {"params": start.params, "batch_stats": start.batch_stats}
    apply = jax.jit(functools.partial(net.apply, heatmaps=True))
    output = apply(variables, normalize(batch.image))
    parts = output.heatmaps[-1][..., : net.num_joints]
    expected = {
        "coordinate_loss": equation_7(output.keypoints[-1], batch),
        "probability_loss": equation_8(output.presence_logits[-1], batch),
        "context_loss": equation_7(output.context_keypoints[-1], batch),
        "heatmap_loss": divergence(parts, batch, grid),
    }
    expected["loss"] = np.dot([1, WEIGHT, 0.3, 0.7], list(expected.values()))
    for name, value in expected.items():
        np.testing.assert_allclose(sums[name], value, rtol=1e-4, err_msg=name)
