"""Gaussian targets against the formula in float64, and decoded back to their keypoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose import (
    gaussian_heatmap,
    hard_argmax,
    heatmap_divergence,
    simcc_targets,
    soft_argmax,
    variance_loss,
)
from jaxpose.heatmap_targets import gaussian_log_density

RNG = np.random.default_rng(3)


def test_equals_the_formula_at_every_cell_center():
    keypoints = RNG.random((2, 3, 2))
    found = gaussian_heatmap(keypoints.astype(np.float32), (6, 5), 1.4)
    assert found.shape == (2, 3, 6, 5)
    for b, j, row, column in np.ndindex(found.shape):
        x, y = keypoints[b, j] * (5, 6)
        square = (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2
        np.testing.assert_allclose(
            found[b, j, row, column], np.exp(-square / 2 / 1.4**2), rtol=2e-6
        )


def test_a_sigma_of_numpy_does_not_widen_float32():
    sigma, keypoints, maps = np.array([1.0, 2.0]), jnp.zeros((3, 2)), jnp.zeros((3, 4, 5))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        for found in (
            gaussian_heatmap(keypoints, (4, 5), sigma),
            heatmap_divergence(maps, keypoints, sigma=sigma),
            variance_loss(maps, sigma=sigma),
        ):
            assert found.dtype == jnp.float32


def test_a_keypoint_at_a_cell_center_has_its_peak_there():
    heatmap = gaussian_heatmap(jnp.array([3.5 / 8, 1.5 / 4]), (4, 8), 0.7)
    assert heatmap[1, 3] == 1 == heatmap.max()


@pytest.mark.parametrize("position", [0.3, -40.0, 1e6, -1e20, np.finfo(np.float32).max])
def test_the_sum_is_one_wherever_the_keypoint_lies(position):
    keypoint = jnp.array([position, 0.2, 0.9])
    total = lambda k: gaussian_heatmap(k, (4, 5, 6), 0.5, norm="sum").sum()  # noqa: E731
    np.testing.assert_allclose(total(keypoint), 1, rtol=1e-6)
    assert np.isfinite(jax.grad(total)(keypoint)).all()
    assert np.isfinite(gaussian_log_density(keypoint, (4, 5, 6), 0.5)).all()


@pytest.mark.parametrize("grid", ["half_pixel", "align_corners", "paper"])
@pytest.mark.parametrize("shape", [(24,), (20, 24), (18, 20, 24)])
def test_decoding_gives_the_keypoint_back(shape, grid):
    keypoints = RNG.uniform(0.4, 0.6, (5, len(shape))).astype(np.float32)
    heatmap = gaussian_heatmap(keypoints, shape, 1.5, grid=grid)
    options = {"grid": grid, "spatial_ndim": len(shape)}
    np.testing.assert_allclose(soft_argmax(jnp.log(heatmap), **options), keypoints, atol=1e-5)
    np.testing.assert_allclose(
        hard_argmax(heatmap, refinement="dark", **options), keypoints, atol=1e-5
    )


def test_sigma_for_each_axis_and_each_keypoint():
    keypoints = np.float32([[0.3, 0.6], [0.5, 0.2]])
    narrow, wide = (gaussian_heatmap(keypoints, (7, 9), sigma) for sigma in (0.8, 2.0))
    each = gaussian_heatmap(keypoints, (7, 9), jnp.array([[0.8], [2.0]]))
    np.testing.assert_allclose(each, jnp.stack([narrow[0], wide[1]]), rtol=1e-6)
    both = gaussian_heatmap(keypoints, (7, 9), jnp.array([0.8, 2.0]))
    across = gaussian_heatmap(keypoints[:, :1], (9,), 0.8)[:, None]
    down = gaussian_heatmap(keypoints[:, 1:], (7,), 2.0)[:, :, None]
    np.testing.assert_allclose(both, across * down, rtol=1e-6)


@pytest.mark.parametrize("splits", [1, 2, 3])
def test_simcc_targets_decode_to_their_keypoint(splits):
    keypoints = RNG.uniform(0.3, 0.7, (4, 2)).astype(np.float32)
    targets = simcc_targets(keypoints, (48, 36), 1.5, splits=splits)
    for axis, (target, size) in enumerate(zip(targets, (36, 48), strict=True)):
        assert target.shape == (4, size * splits)
        np.testing.assert_allclose(target.sum(-1), 1, rtol=1e-6)
        found = soft_argmax(jnp.log(target + 1e-30), spatial_ndim=1)
        np.testing.assert_allclose(found[:, 0], keypoints[:, axis], atol=1e-5)


def test_small_keypoints_give_float32():
    keypoints = jnp.asarray(RNG.random((3, 2)), jnp.bfloat16)
    found = gaussian_heatmap(keypoints, (4, 4), jnp.float16(1))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, gaussian_heatmap(np.float32(keypoints), (4, 4), 1.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_heatmap(jnp.zeros(2), (4,), 1.0), r"\(2,\) do not fit .* \(4,\)"),
        (lambda: gaussian_heatmap(jnp.zeros(2), (4, 0), 1.0), "do not fit"),
        (lambda: gaussian_heatmap(jnp.zeros(2), (4, 4), 1.0, norm="max"), "norm='max'"),
        (lambda: gaussian_heatmap(jnp.zeros(2), (4, 4), 1.0, grid="pixel"), "'pixel' is unknown"),
        (lambda: simcc_targets(jnp.zeros(2), (4, 4), 1.0, splits=0), "splits=0"),
        (lambda: gaussian_heatmap(jnp.zeros(2), (4, 4), 0.0), "sigma=0.0 is not positive"),
        (lambda: gaussian_log_density(jnp.zeros(1), (4,), jnp.array([-1.0])), "not positive"),
        (lambda: simcc_targets(jnp.zeros(2), (4, 4), np.nan), "sigma=nan"),
    ],
)
def test_errors_name_the_bad_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
