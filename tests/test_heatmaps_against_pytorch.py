"""The soft-argmax family against kornia and dsntnn: values and gradients, after `convert_grid`."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose import (
    convert_grid,
    find_peaks,
    gaussian_heatmap,
    heatmap_divergence,
    soft_argmax,
    soft_argmax_with_covariance,
    spatial_expectation,
    spatial_softmax,
    variance_loss,
)
from jaxpose.losses import euclidean_loss, masked_mean

torch = pytest.importorskip("torch", reason="PyTorch: the extra bench")
dsntnn = pytest.importorskip("dsntnn", reason="dsntnn: the extra bench")
subpix = pytest.importorskip("kornia.geometry.subpix", reason="kornia: the extra bench")

RNG = np.random.default_rng(3)
SIZES = {1: (7,), 2: (6, 8), 3: (4, 6, 5)}
MAPS = {ndim: RNG.normal(0, 3, (2, 3, *size)).astype(np.float32) for ndim, size in SIZES.items()}
POSITION = {ndim: RNG.uniform(0.1, 0.9, (2, 3, ndim)).astype(np.float32) for ndim in SIZES}
TRUTH = {ndim: RNG.uniform(0.1, 0.9, (2, 3, ndim)).astype(np.float32) for ndim in SIZES}
MASK = np.array([[True, False, True], [True, True, False]])


class Pair(NamedTuple):
    ours: Callable  # of a JAX array
    theirs: Callable  # of a torch tensor, in the other library
    inputs: np.ndarray


def on_grid(target, ndim, source="half_pixel"):
    """Translates positions on maps of that many axes."""
    return partial(convert_grid, shape=SIZES[ndim], source=source, target=target)


def dsntnn_target(ndim):
    return torch.tensor(np.asarray(on_grid("dsntnn", ndim)(TRUTH[ndim])))


def dsntnn_divergence(losses, ndim):
    return lambda maps: losses(dsntnn.flat_softmax(maps), dsntnn_target(ndim), 1.3)


PAIRS = {
    "kornia, spatial_soft_argmax2d": Pair(
        lambda maps: on_grid("kornia", 2)(soft_argmax(maps)),
        subpix.spatial_soft_argmax2d,
        MAPS[2],
    ),
    "kornia, spatial_soft_argmax2d, temperature": Pair(
        lambda maps: on_grid("kornia", 2)(soft_argmax(maps, temperature=0.4)),
        partial(subpix.spatial_soft_argmax2d, temperature=0.4),
        MAPS[2],
    ),
    "kornia, spatial_soft_argmax2d, in cells": Pair(
        lambda maps: on_grid("index", 2)(soft_argmax(maps)),
        partial(subpix.spatial_soft_argmax2d, normalized_coordinates=False),
        MAPS[2],
    ),
    "kornia, spatial_soft_argmax2d, read on its own grid": Pair(
        lambda maps: on_grid("kornia", 2, "align_corners")(soft_argmax(maps, grid="align_corners")),
        subpix.spatial_soft_argmax2d,
        MAPS[2],
    ),
    "kornia, spatial_softmax2d": Pair(spatial_softmax, subpix.spatial_softmax2d, MAPS[2]),
    "kornia, spatial_expectation2d": Pair(
        lambda p: on_grid("kornia", 2)(spatial_expectation(p / p.sum((-2, -1), keepdims=True))),
        lambda p: subpix.spatial_expectation2d(p / p.sum((-2, -1), keepdim=True)),
        np.exp(MAPS[2]),
    ),
    "kornia, render_gaussian2d": Pair(
        lambda x: gaussian_heatmap(x, SIZES[2], 1.3, norm="sum"),
        lambda x: subpix.render_gaussian2d(
            x * torch.tensor([8.0, 6.0]) - 0.5, torch.full((2,), 1.3), SIZES[2], False
        ),
        POSITION[2],
    ),
    "dsntnn, variance_reg_losses": Pair(
        partial(variance_loss, sigma=1.3),
        lambda maps: dsntnn.variance_reg_losses(dsntnn.flat_softmax(maps), 1.3),
        MAPS[2],
    ),
    "dsntnn, average_loss": Pair(
        lambda x: masked_mean(euclidean_loss(x, TRUTH[2]), MASK),
        lambda x: dsntnn.average_loss(
            dsntnn.euclidean_losses(x, torch.tensor(TRUTH[2])), torch.tensor(MASK).float()
        ),
        POSITION[2],
    ),
}
for _ndim in SIZES:
    PAIRS |= {
        f"dsntnn, dsnt of flat_softmax, {_ndim}-D": Pair(
            lambda maps, n=_ndim: on_grid("dsntnn", n)(soft_argmax(maps, spatial_ndim=n)),
            lambda maps: dsntnn.dsnt(dsntnn.flat_softmax(maps)),
            MAPS[_ndim],
        ),
        f"dsntnn, dsnt in cells, {_ndim}-D": Pair(
            lambda maps, n=_ndim: on_grid("index", n)(soft_argmax(maps, spatial_ndim=n)),
            lambda maps: dsntnn.dsnt(dsntnn.flat_softmax(maps), normalized_coordinates=False),
            MAPS[_ndim],
        ),
        f"dsntnn, flat_softmax, {_ndim}-D": Pair(
            partial(spatial_softmax, spatial_ndim=_ndim), dsntnn.flat_softmax, MAPS[_ndim]
        ),
        f"dsntnn, make_gauss, sum 1, {_ndim}-D": Pair(
            lambda x, n=_ndim: gaussian_heatmap(x, SIZES[n], 1.3, norm="sum"),
            lambda x, n=_ndim: dsntnn.make_gauss(2 * x - 1, SIZES[n], 1.3),
            POSITION[_ndim],
        ),
        f"dsntnn, make_gauss, peak 1, {_ndim}-D": Pair(
            lambda x, n=_ndim: gaussian_heatmap(x, SIZES[n], 1.3),
            lambda x, n=_ndim: dsntnn.make_gauss(2 * x - 1, SIZES[n], 1.3, normalize=False),
            POSITION[_ndim],
        ),
        f"dsntnn, js_reg_losses, {_ndim}-D": Pair(
            lambda maps, n=_ndim: heatmap_divergence(maps, TRUTH[n], sigma=1.3, spatial_ndim=n),
            dsntnn_divergence(dsntnn.js_reg_losses, _ndim),
            MAPS[_ndim],
        ),
        f"dsntnn, kl_reg_losses, {_ndim}-D": Pair(
            lambda maps, n=_ndim: heatmap_divergence(
                maps, TRUTH[n], sigma=1.3, kind="kl", spatial_ndim=n
            ),
            dsntnn_divergence(dsntnn.kl_reg_losses, _ndim),
            MAPS[_ndim],
        ),
        f"dsntnn, euclidean_losses, {_ndim}-D": Pair(
            lambda x, n=_ndim: euclidean_loss(x, TRUTH[n]),
            lambda x, n=_ndim: dsntnn.euclidean_losses(x, torch.tensor(TRUTH[n])),
            POSITION[_ndim],
        ),
    }


def assert_close(found, expected):
    """To 1e-5 of the largest entry, since single entries pass through zero."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", PAIRS)
def test_values_and_gradients_equal_those_of(name):
    ours, theirs, inputs = PAIRS[name]
    given = torch.tensor(inputs, requires_grad=True)
    expected = theirs(given)
    found, pull = jax.vjp(jax.jit(ours), jnp.asarray(inputs))
    back = np.sin(1 + np.arange(found.size, dtype=np.float32)).reshape(found.shape)
    expected.backward(torch.tensor(back))
    assert_close(found, expected.detach().numpy())
    assert_close(pull(jnp.asarray(back))[0], given.grad.numpy())


def test_the_variance_is_that_of_two_expectations_of_kornia():
    """E[(X - x)(Y - y)] by expectations of kornia's, which has no covariance of its own."""
    p = subpix.spatial_softmax2d(torch.tensor(MAPS[2]))
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    mean = subpix.spatial_expectation2d(p, normalized_coordinates=False)
    apart = [axis - mean[..., i, None, None] for i, axis in enumerate((columns, rows))]
    expected = torch.stack(
        [torch.stack([(p * a * b).sum((-2, -1)) for a in apart], -1) for b in apart], -1
    )
    _, found = soft_argmax_with_covariance(MAPS[2], size=(8, 6))
    assert_close(found, expected.numpy())


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("ndim", [2, 3])
def test_torch_grid_sample_finds_the_cell_at_the_converted_position(align_corners, ndim):
    target = "torch_align_corners" if align_corners else "torch"
    size = SIZES[ndim]
    cells = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij")[::-1], -1)
    grid = convert_grid(cells.astype(np.float32), size, source="index", target=target)
    maps = torch.tensor(MAPS[ndim])
    sampled = torch.nn.functional.grid_sample(
        maps, torch.tensor(np.asarray(grid))[None].repeat(2, *[1] * (ndim + 1)),
        align_corners=align_corners,
    )  # fmt: skip
    assert_close(sampled.numpy(), MAPS[ndim])


@pytest.mark.parametrize("window", [3, 5])
def test_peaks_inside_the_map_are_those_of_kornia(window):
    """kornia's are at least half a window away from the edge."""
    maps = RNG.normal(size=(9, 11)).astype(np.float32)
    kept = subpix.nms2d(torch.tensor(maps)[None, None], (window, window), mask_only=True)[0, 0]
    peaks = find_peaks(maps, maps.size, window=window, refinement="none")
    index = convert_grid(peaks.position, maps.shape, source="half_pixel", target="index")
    found = np.asarray(index[peaks.valid])
    apart = np.minimum(found, [10, 8] - found).min(-1)
    assert (apart < window // 2).any()
    found = found[apart >= window // 2].round().astype(int)
    assert {(x, y) for x, y in found} == {(x, y) for y, x in np.argwhere(kept.numpy())}
