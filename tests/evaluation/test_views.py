"""Several views of one person: their crops, their maps, the positions that agree."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.evaluation import views
from jaxpose.heatmaps import soft_argmax
from jaxpose.network import PoseNet

NET = PoseNet(num_joints=3, num_blocks=1, num_context_maps=2, width=18)


def test_crop_sizes():
    np.testing.assert_allclose(views.crop_sizes(5), [1, 0.9, 1.1, 0.8, 1.2])
    assert views.crop_sizes(np.int64(1)) == [1]
    for number in (0, 10, 2.5, 3.0, "3", None, float("nan")):
        with pytest.raises(
            JaxposeError, match=f"num_crops is {number!r}; it must be an integer from 1 to 9"
        ):
            views.crop_sizes(number)


def test_maps_of_a_flipped_crop_get_their_joints_order_and_their_columns_back():
    names = np.array(["right", "middle", "left", *(f"{joint}{i}" for joint in "rml" for i in "01")])
    back = {"right": 2, "middle": 1, "left": 0, "r": "l", "m": "m", "l": "r"}
    maps = np.arange(4 * 5 * 9.0).reshape(4, 5, 9)
    found = np.asarray(views.mirror_maps(NET, jnp.asarray(maps), flipped=[2, 1, 0]))
    for channel, name in enumerate(names):
        of = back[name] if name in back else list(names).index(back[name[0]] + name[1])
        np.testing.assert_array_equal(found[..., channel], maps[:, ::-1, of])


@pytest.mark.parametrize("grid", ["half_pixel", "align_corners", "paper"])
def test_a_mirrored_map_has_its_position_at_the_other_side_in_every_grid(grid):
    net = PoseNet(num_joints=1, num_blocks=1, num_context_maps=0, width=18, grid=grid)
    rows, columns = np.mgrid[:16, :16]
    maps = -np.square(rows - 4.0) - np.square(columns - 9.3)
    x, y = soft_argmax(maps, grid=grid)
    mirrored = views.mirror_maps(net, jnp.asarray(maps)[..., None], flipped=[0])[..., 0]
    np.testing.assert_allclose(soft_argmax(mirrored, grid=grid), [1 - x, y], atol=1e-6)


def test_positions_that_agree_are_averaged_and_others_left_out():
    positions = np.array([[[10.0, 10.0]], [[12.0, 10.0]], [[90.0, 50.0]], [[14.0, 13.0]]])
    found = views.agreed_positions(positions, np.ones((4, 1)), distance=8.0)
    np.testing.assert_allclose(found, [[12.0, 11.0]])
    weights = np.array([[1.0], [2.0], [1.0], [1.0]])
    found = views.agreed_positions(positions, weights, distance=8.0)
    np.testing.assert_allclose(found, [[12.0, 10.75]])


def test_of_two_distant_positions_the_one_with_more_weight_is_returned():
    positions = np.array(
        [[[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [[9.0, 0.0], [9.0, 0.0], [2.0, 0.0]]]
    )
    weights = np.array([[0.3, 0.8, 0.25], [0.5, 0.2, 0.75]])
    found = views.agreed_positions(positions, weights, distance=np.array([3.0, 3.0, 3.0]))
    np.testing.assert_allclose(found[:, 0], [9.0, 0.0, 1.5])


def test_positions_without_any_weight_are_finite():
    positions = np.array([[[1.0, 2.0]], [[3.0, 2.0]]])
    found = views.agreed_positions(positions, np.zeros((2, 1)), distance=5.0)
    np.testing.assert_allclose(found, [[2.0, 2.0]])


def test_one_position_is_returned_as_it_is():
    positions = np.random.default_rng(0).normal(size=(1, 5, 2))
    found = views.agreed_positions(positions, np.full((1, 5), 1e-9), distance=0.0)
    np.testing.assert_allclose(found, positions[0], rtol=1e-12)
