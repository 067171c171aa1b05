"""The optimizer against Keras's rule, and the plateau against Keras's own answers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.network import PoseNet, initial_variables
from jaxpose.training.optimizer import (
    initial_plateau,
    make_optimizer,
    make_plateau,
    make_schedule,
)

PLATEAU = {"factor": 0.4, "patience": 5, "min_delta": 1e-4, "min_scale": 0.0}


def test_plateau_gives_the_rates_of_keras(shared):
    cases = json.loads((shared / "golden" / "plateau.json").read_text())["cases"]
    assert cases
    for case in cases:
        arguments = case["arguments"]
        assert arguments["cooldown"] == 0  # not offered: Optax counts it differently by one epoch
        rate = case["learning_rate"]
        plateau = make_plateau(
            factor=arguments["factor"],
            patience=arguments["patience"],
            min_delta=arguments["min_delta"],
            min_scale=arguments["min_lr"] / rate,
        )
        update = jax.jit(plateau)  # for many short series
        state, rates = initial_plateau(), []
        for value in case["values"]:
            state = update(state, float("nan") if value is None else value)
            rates.append(rate * float(state.scale))
        np.testing.assert_allclose(rates, case["rates"], rtol=1e-6, err_msg=case["name"])


def test_plateau_reduces_after_patience_scores_without_a_rise():
    update = make_plateau(**PLATEAU | {"patience": 2})
    state = initial_plateau()
    scales = []
    for score in [10.0, 10.0, 10.0, 20.0, 20.0, float("nan")]:
        state = update(state, score)
        scales.append(float(state.scale))
    np.testing.assert_allclose(scales, [1, 1, 0.4, 0.4, 0.4, 0.16], rtol=1e-6)


def test_rmsprop_is_keras_rule():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(5, 3)) * [1e-6, 1e-3, 1.0]
    optimizer = make_optimizer("rmsprop", make_schedule("constant", 1e-3, num_steps=5))
    x = jnp.zeros(3)
    state = optimizer.init(x)
    expected, square = np.zeros(3), np.zeros(3)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, x)
        x = optax.apply_updates(x, updates)
        square = 0.9 * square + 0.1 * gradient**2
        expected = expected - 1e-3 * gradient / (np.sqrt(square) + 1e-7)
    np.testing.assert_allclose(x, expected, rtol=2e-5)


def test_adam_with_weight_decay_is_adamw_and_leaves_shifts_alone():
    """Two steps of Loshchilov and Hutter's algorithm 2, on a kernel and a shift."""
    rate, decay, b1, b2, epsilon = 0.01, 0.1, 0.9, 0.999, 1e-8
    rng = np.random.default_rng(1)
    start = {"kernel": rng.normal(size=(2, 3)), "beta": rng.normal(size=3)}
    gradients = [{name: rng.normal(size=x.shape) for name, x in start.items()} for _ in range(2)]
    optimizer = make_optimizer("adam", lambda step: rate, weight_decay=decay)
    found = jax.tree.map(jnp.float32, start)
    state = optimizer.init(found)
    for gradient in gradients:
        updates, state = optimizer.update(jax.tree.map(jnp.float32, gradient), state, found)
        found = optax.apply_updates(found, updates)
    for name, x in start.items():
        m = v = np.zeros_like(x)
        for t, gradient in enumerate(gradients, 1):
            m = b1 * m + (1 - b1) * gradient[name]
            v = b2 * v + (1 - b2) * gradient[name] ** 2
            step = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + epsilon)
            x = x - rate * (step + (decay * x if name == "kernel" else 0))
        np.testing.assert_allclose(found[name], x, rtol=2e-5, err_msg=name)


def test_muon_equalizes_the_singular_values_of_convolutions_and_leaves_the_rest_to_adam():
    rng = np.random.default_rng(2)
    shapes = {
        "image": {"kernel": (3, 3, 3, 16)},
        "conv": {"kernel": (3, 3, 16, 24)},
        "main": {"depthwise": (5, 5, 24), "pointwise": (24, 36), "norm": {"beta": (36,)}},
        "block_b": {"heatmaps": (36, 48)},
    }
    is_shape = {"is_leaf": lambda x: isinstance(x, tuple)}
    params = jax.tree.map(lambda shape: jnp.zeros(shape), shapes, **is_shape)
    gradients = jax.tree.map(
        lambda s: jnp.float32(rng.normal(size=s) * np.linspace(1, 20, s[-1])), shapes, **is_shape
    )

    def updates_of(name):
        optimizer = make_optimizer(name, lambda step: 0.1)
        return optimizer.update(gradients, optimizer.init(params), params)[0]

    muon, adam = updates_of("muon"), updates_of("adam")
    for layer, name in (("conv", "kernel"), ("main", "pointwise")):
        gradient = gradients[layer].pop(name)
        update = muon[layer].pop(name)
        adam[layer].pop(name)
        matrix = np.asarray(update).reshape(-1, gradient.shape[-1])
        np.testing.assert_allclose(np.sqrt(np.mean(matrix**2)), 0.1 * 0.2, rtol=1e-4)
        u, before, vt = np.linalg.svd(np.reshape(gradient, matrix.shape), full_matrices=False)
        rotated = -u.T @ matrix @ vt.T  # the first momentum is proportional to the gradient
        after = np.diag(rotated)
        np.testing.assert_allclose(rotated, np.diag(after), atol=1e-4 * after.max())
        assert before.max() / before.min() > 5
        assert after.max() / after.min() < 2
    jax.tree.map(np.testing.assert_array_equal, muon, adam)
    assert len(jax.tree.leaves(muon)) == 4


@pytest.mark.slow
def test_muon_updates_the_full_and_1x1_convolutions_of_the_network():
    net = PoseNet(num_joints=2, num_blocks=2, num_context_maps=1, width=72)
    params = initial_variables(net, 0)["params"]
    gradients = jax.tree.map(jnp.ones_like, params)
    optimizer = make_optimizer("muon", lambda step: 1.0)
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
    found, expected = set(), set()
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        name = "/".join(key.key for key in path)
        if np.sqrt(np.mean(update**2)) < 0.5:  # Muon's updates are of size 0.2, Adam's of size 1
            found.add(name)
        if update.ndim in (2, 4) and not name.endswith(("heatmaps", "stem/conv1/kernel")):
            expected.add(name)
    assert found == expected
    assert len(found) > 20


def test_muon_of_a_zero_gradient_is_zero():
    params = {"pointwise": jnp.ones((4, 6))}
    optimizer = make_optimizer("muon", lambda step: 0.1)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params))
    np.testing.assert_array_equal(updates["pointwise"], 0)


def test_schedules_rise_then_hold_or_fall_to_zero():
    cosine = make_schedule("cosine", 1.0, num_steps=110, warmup_steps=10)
    constant = make_schedule("constant", 1.0, num_steps=110, warmup_steps=10)
    np.testing.assert_allclose(
        [cosine(s) for s in (0, 5, 10, 60, 110)], [0, 0.5, 1, 0.5, 0], atol=1e-6
    )
    np.testing.assert_allclose([constant(s) for s in (0, 5, 10, 110)], [0, 0.5, 1, 1])


def test_clipping_bounds_the_update():
    optimizer = make_optimizer("sgd", lambda step: 1.0, clip_norm=1.0)
    updates, _ = optimizer.update(jnp.array([3.0, 4.0]), optimizer.init(jnp.zeros(2)))
    np.testing.assert_allclose(updates, [-0.6, -0.8], rtol=1e-6)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: make_plateau(**PLATEAU | {"patience": 0}), "patience is 0"),
        (lambda: make_plateau(**PLATEAU | {"factor": 1.5}), "factor is 1.5"),
        (lambda: make_schedule("step", 1.0, num_steps=1), "'step'"),
        (lambda: make_optimizer("lion", lambda s: 1.0), "'lion'"),
    ],
)
def test_bad_values_are_named(call, says):
    with pytest.raises(JaxposeError, match=says):
        call()
