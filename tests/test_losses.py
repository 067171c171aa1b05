"""Eqs. 7 and 8 against plain NumPy in float64, with every mask that a batch can have."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose.losses import (
    coordinate_loss,
    heatmap_divergence,
    masked_count,
    masked_mean,
    probability_loss,
)

BLOCKS, PERSONS, JOINTS = 3, 8, 5


def batch(seed=0):
    """Predictions of K blocks; person 2 has no label, person 5 is padding."""
    rng = np.random.default_rng(seed)
    labelled = rng.random((PERSONS, JOINTS)) < 0.7
    known = rng.random((PERSONS, JOINTS)) < 0.8
    labelled[2] = False
    labelled[5] = known[5] = False
    return {
        "prediction": rng.random((BLOCKS, PERSONS, JOINTS, 2)),
        "target": rng.random((PERSONS, JOINTS, 2)),
        "logit": rng.normal(size=(BLOCKS, PERSONS, JOINTS)) * 5,
        "labelled": labelled,
        "known": known,
    }


def as_float32(arrays):
    return {name: jnp.asarray(x, jnp.float32 if x.dtype.kind == "f" else x.dtype)
            for name, x in arrays.items()}  # fmt: skip


def equation_7(prediction, target, mask):
    """Loop by loop, as the paper writes it; summed over the blocks."""
    total = 0.0
    for block in prediction:
        for person in range(len(target)):
            for joint in range(target.shape[1]):
                if mask[person, joint]:
                    d = block[person, joint] - target[person, joint]
                    total += np.abs(d).sum() + (d**2).sum()
    return total / mask.sum()


def equation_8(logit, labelled, mask):
    p = 1 / (1 + np.exp(-logit))
    entropy = -(labelled * np.log(p) + (1 - labelled) * np.log(1 - p))
    return (entropy * mask).sum() / mask.sum()


def test_coordinates_equal_the_equation():
    a, b = batch(), as_float32(batch())
    found = masked_mean(coordinate_loss(b["prediction"], b["target"]), b["labelled"])
    expected = equation_7(a["prediction"], a["target"], a["labelled"])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_probabilities_equal_the_equation():
    a, b = batch(), as_float32(batch())
    found = masked_mean(probability_loss(b["logit"], b["labelled"]), b["known"])
    np.testing.assert_allclose(found, equation_8(a["logit"], a["labelled"], a["known"]), rtol=1e-6)


@pytest.mark.parametrize("logit", [-1e4, -90.0, 0.0, 90.0, 1e4])
def test_entropy_and_its_gradient_are_finite_and_exact(logit):
    for label in (False, True):
        value, slope = jax.value_and_grad(probability_loss)(jnp.float32(logit), label)
        expected = np.logaddexp(0.0, -logit if label else logit)
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-30)
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(slope, 1 / (1 + np.exp(-logit)) - label, atol=1e-6)


def test_what_the_mask_hides_changes_neither_value_nor_gradient():
    b = as_float32(batch())

    def loss(prediction):
        return masked_mean(coordinate_loss(prediction, b["target"]), b["labelled"])

    spoilt = jnp.where(b["labelled"][..., None], b["prediction"], jnp.nan)
    one, slope = jax.value_and_grad(loss)(b["prediction"])
    other, spoilt_slope = jax.value_and_grad(loss)(jnp.nan_to_num(spoilt, nan=1e9))
    assert one == other == loss(spoilt)
    np.testing.assert_array_equal(slope, spoilt_slope)
    assert (np.asarray(slope)[:, [2, 5]] == 0).all()


def test_nobody_labelled_gives_zero():
    value, slope = jax.value_and_grad(masked_mean)(jnp.ones((2, 3)), jnp.zeros((2, 3), bool))
    assert value == 0.0
    assert (np.asarray(slope) == 0).all()


def test_devices_add_up_to_the_whole_batch():
    """Unequal numbers of labels a device: a mean of means would be wrong."""
    b = as_float32(batch())
    weights = jnp.linspace(0.5, 2.0, 2)

    def loss(weights, prediction, target, labelled, axis_name=None):
        return masked_mean(
            coordinate_loss(prediction * weights, target), labelled, axis_name=axis_name
        )

    persons = b["prediction"].swapaxes(0, 1), b["target"][:, None], b["labelled"][:, None]
    arguments = [x.reshape(4, PERSONS // 4, *x.shape[1:]) for x in persons]
    share = jax.value_and_grad(functools.partial(loss, axis_name="devices"))
    values, slopes = jax.pmap(share, axis_name="devices", in_axes=(None, 0, 0, 0))(
        weights, *arguments
    )
    value, slope = jax.value_and_grad(loss)(weights, *persons)
    np.testing.assert_allclose(np.sum(values), value, rtol=1e-6)
    np.testing.assert_allclose(np.sum(slopes, axis=0), slope, rtol=1e-6)


def test_a_part_divides_by_the_count_of_the_whole():
    b = as_float32(batch())
    distance = coordinate_loss(b["prediction"], b["target"])
    count = masked_count(b["labelled"])
    parts = sum(
        masked_mean(distance[:, part], b["labelled"][part], count=count)
        for part in (slice(0, 3), slice(3, 8))
    )
    np.testing.assert_allclose(parts, masked_mean(distance, b["labelled"]), rtol=1e-6)


def test_heatmap_divergence_is_numpys():
    """Against float64 NumPy on rectangular maps, with a target between the cells."""
    rng = np.random.default_rng(4)
    maps, target = 2 * rng.normal(size=(2, 6, 5, 3)), rng.random((2, 3, 2))
    for sigma, temperature in [(1.0, 1.0), (0.7, 2.0)]:
        found = heatmap_divergence(
            jnp.float32(np.moveaxis(maps, -1, 1)),
            jnp.float32(target),
            sigma=sigma,
            temperature=temperature,
        )
        assert found.shape == (2, 3)
        for b, j in np.ndindex(2, 3):
            p = np.exp(maps[b, ..., j] / temperature)
            p /= p.sum()
            x, y = target[b, j] * (5, 6) - 0.5
            columns, rows = np.meshgrid(np.arange(5), np.arange(6))
            q = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
            q /= q.sum()
            m = (p + q) / 2
            expected = ((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()) / 2
            np.testing.assert_allclose(found[b, j], expected, rtol=1e-5)


def test_heatmap_divergence_stays_finite_for_sharp_maps_and_far_targets():
    maps = jnp.zeros((1, 8, 8)).at[0, 0, 0].set(1e4)
    value, slope = jax.value_and_grad(
        lambda maps: heatmap_divergence(maps, jnp.array([[0.95, 0.95]]), sigma=0.2)[0]
    )(maps)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-5)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("flag", ["numpy_rank_promotion", "numpy_dtype_promotion"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_strict_promotion_gives_the_same_numbers(flag, dtype):
    rng = np.random.default_rng(0)
    prediction = jnp.asarray(rng.normal(size=(2, 3, 4, 2)), dtype)
    target = rng.normal(size=(3, 4, 2)).astype(np.float32)
    mask = rng.random((3, 4)) < 0.5

    def losses():
        position = coordinate_loss(prediction, target)
        presence = probability_loss(prediction[..., 0], mask)
        return masked_mean(position, mask), masked_mean(presence, mask, count=7)

    expected = losses()
    with getattr(jax, flag)({"numpy_rank_promotion": "raise"}.get(flag, "strict")):
        found = losses()
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours == theirs
