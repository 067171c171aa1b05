"""Refined maxima against closed forms, and peaks against a search through all cells."""

import functools
import itertools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose import find_peaks, gaussian_heatmap, hard_argmax, local_soft_argmax
from jaxpose.peaks import Refinement

RNG = np.random.default_rng(5)


def cell(position, *sizes):
    """(column, row) of a normalized position."""
    return np.asarray(position) * sizes - 0.5


def tilted_gaussian(center, covariance, height, width):
    rows, columns = np.mgrid[:height, :width]
    away = np.stack([columns - center[0], rows - center[1]], -1)
    return np.exp(-0.5 * np.einsum("...i,ij,...j", away, np.linalg.inv(covariance), away))


def test_dark_is_exact_for_a_gaussian_of_any_orientation():
    covariance = np.array([[3.0, 1.6], [1.6, 2.0]])
    for center in RNG.uniform(5, 8, (10, 2)):
        heatmap = np.float32(tilted_gaussian(center, covariance, 14, 16))
        found = cell(hard_argmax(heatmap, refinement="dark"), 16, 14)
        np.testing.assert_allclose(found, center, atol=1e-4)
        quadratic = cell(hard_argmax(np.log(heatmap)), 16, 14)
        assert abs(quadratic - center).max() > 1e-4 or abs(center - center.round()).max() < 0.1


@pytest.mark.parametrize("step", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_dark_is_exact_for_a_round_gaussian_next_to_an_excluded_diagonal_cell(step):
    """Its mixed derivative is 0 anyway."""
    for center in RNG.uniform(5, 8, (10, 2)):
        heatmap = np.float32(tilted_gaussian(center, 2.0 * np.eye(2), 14, 16))
        column, row = center.round().astype(int) + step
        heatmap[row, column] = -np.inf
        found = cell(hard_argmax(heatmap, refinement="dark"), 16, 14)
        np.testing.assert_allclose(found, center, atol=1e-4)


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 4, 5)])
def test_no_maps_give_no_positions(shape):
    maps, lead = jnp.zeros(shape), shape[:-2]
    decoders = [local_soft_argmax, lambda x: find_peaks(x, 3).position[..., 0, :]]
    decoders += [functools.partial(hard_argmax, refinement=r) for r in get_args(Refinement)]
    for decode in decoders:
        assert decode(maps).shape == (*lead, 2)
        slope = jax.grad(lambda x: decode(x).sum())(maps)  # noqa: B023
        assert slope.shape == shape


def test_the_parabola_is_exact_for_a_parabola():
    rows, columns = np.mgrid[:9, :11]
    heatmap = -((columns - 4.3) ** 2) - 3 * (rows - 6.2) ** 2
    np.testing.assert_allclose(cell(hard_argmax(heatmap), 11, 9), [4.3, 6.2], atol=1e-5)


def test_a_quarter_of_a_cell_toward_the_higher_neighbor():
    heatmap = jnp.zeros((5, 7)).at[2, 3].set(9.0).at[2, 4].set(2.0).at[1, 3].set(3.0)
    found = cell(hard_argmax(heatmap, refinement="quarter"), 7, 5)
    np.testing.assert_allclose(found, [3.25, 1.75], atol=1e-6)


@pytest.mark.parametrize("refinement", ["quarter", "quadratic", "dark"])
@pytest.mark.parametrize("corner", [(0, 0), (0, 6), (4, 0), (4, 6)])
def test_edges_are_not_refined(corner, refinement):
    heatmap = jnp.asarray(0.1 * RNG.random((5, 7))).at[corner].set(1.0)
    found = cell(hard_argmax(heatmap, refinement=refinement), 7, 5)
    np.testing.assert_allclose(found, corner[::-1], atol=1e-6)


@pytest.mark.parametrize("refinement", ["quarter", "quadratic", "dark"])
def test_along_an_edge_the_other_axis_is_refined(refinement):
    heatmap = jnp.zeros((5, 7)).at[0, 3].set(1.0).at[0, 4].set(0.6).at[0, 2].set(0.2)
    column, row = cell(hard_argmax(heatmap, refinement=refinement), 7, 5)
    assert 3.1 < column < 3.6
    np.testing.assert_allclose(row, 0, atol=1e-6)


@pytest.mark.parametrize("refinement", ["none", "quarter", "quadratic", "dark"])
@pytest.mark.parametrize(
    "heatmap",
    [
        np.zeros((4, 4)),
        np.where(np.eye(5), 1.0, -np.inf),
        np.full((3, 3), -np.inf),
        np.full((1, 1), 2.0),
        1e4 * np.eye(4) - 1e4,
    ],
    ids=["flat", "excluded neighbors", "all excluded", "one cell", "huge"],
)
def test_degenerate_maps_have_finite_results_and_gradients(heatmap, refinement):
    heatmap = jnp.asarray(heatmap, jnp.float32)
    total = lambda h: hard_argmax(h, refinement=refinement).sum()  # noqa: E731
    value, slope = jax.value_and_grad(total)(heatmap)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
    assert 0 <= value <= 2


def search(heatmap, radius, threshold=-np.inf):
    """Cells (x, y, ...) above all earlier and not below any later cell of their window."""
    found = []
    cells = list(itertools.product(*map(range, heatmap.shape)))
    for here in cells:
        near = [c for c in cells if max(abs(np.subtract(c, here))) <= radius and c != here]
        before = all(heatmap[c] < heatmap[here] for c in near if c < here)
        after = all(heatmap[c] <= heatmap[here] for c in near if c > here)
        if before and after and heatmap[here] > threshold:
            found.append((heatmap[here], here[::-1]))
    return sorted(found, key=lambda peak: -peak[0])  # equal ones stay in the order of memory


@pytest.mark.parametrize("shape", [(15,), (7, 8), (4, 5, 6)])
@pytest.mark.parametrize("window", [3, 5])
@pytest.mark.parametrize("levels", [None, 4], ids=["distinct", "with plateaus"])
def test_peaks_are_those_of_a_search_through_all_cells(shape, window, levels):
    maps = RNG.normal(size=(2, 3, *shape)).astype(np.float32)
    if levels:
        maps = np.floor(maps * 1.5)
    ndim = len(shape)
    threshold = -0.2
    peaks = find_peaks(
        maps, 8, window=window, threshold=threshold, refinement="none", spatial_ndim=ndim
    )
    for index in np.ndindex(2, 3):
        expected = search(maps[index], window // 2, threshold)[:8]
        count = len(expected)
        assert np.asarray(peaks.valid[index]).tolist() == [True] * count + [False] * (8 - count)
        np.testing.assert_array_equal(peaks.value[index][:count], [v for v, _ in expected])
        assert (np.asarray(peaks.value[index][count:]) == -np.inf).all()
        assert not np.asarray(peaks.position[index][count:]).any()
        cells = cell(peaks.position[index][:count], *shape[::-1]).round().astype(int)
        assert cells.tolist() == [list(c) for _, c in expected]


def test_each_peak_is_refined():
    centers = np.float32([[0.23, 0.31], [0.71, 0.64]])
    heatmap = gaussian_heatmap(centers, (24, 24), 1.2) * jnp.array([1.0, 0.7])[:, None, None]
    peaks = find_peaks(heatmap.sum(0), 2, refinement="dark")
    np.testing.assert_allclose(peaks.position, centers, atol=1e-4)


def test_a_plateau_has_one_peak():
    assert find_peaks(jnp.zeros((6, 6)), 4).valid.tolist() == [True, False, False, False]


def test_excluded_cells_are_no_peaks():
    assert not find_peaks(jnp.full((4, 4), -jnp.inf), 2).valid.any()


def test_the_threshold_may_be_traced():
    heatmap = jnp.zeros((8, 8)).at[1, 1].set(2.0).at[5, 5].set(1.0)
    valid = jax.jit(lambda t: find_peaks(heatmap, 2, threshold=t).valid)
    assert valid(0.5).tolist() == [True, True]
    assert valid(1.5).tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hard_argmax(jnp.zeros((4, 4)), refinement="cubic"), "refinement='cubic'"),
        (lambda: hard_argmax(jnp.zeros((4, 4)), grid="pixel"), "grid='pixel'"),
        (lambda: hard_argmax(jnp.zeros(4)), r"shape \(4,\); give \[\.\.\., H, W\]"),
        (lambda: hard_argmax(jnp.zeros((2, 0, 4))), "has no cells"),
        (lambda: hard_argmax(jnp.zeros((4, 4)), spatial_ndim=4), "spatial_ndim=4"),
        (lambda: find_peaks(jnp.zeros((4, 4)), 17), "count=17 .* 16 cells"),
        (lambda: find_peaks(jnp.zeros((4, 4)), 0), "count=0"),
        (lambda: find_peaks(jnp.zeros((4, 4)), 2, window=4), "window=4"),
        (lambda: find_peaks(jnp.zeros((4, 4)), 2, window=1), "window=1"),
        (lambda: find_peaks(jnp.zeros((4, 4)), 2, threshold=jnp.zeros(2)), "not a scalar"),
    ],
)
def test_errors_name_the_bad_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
