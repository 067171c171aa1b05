"""Several views of one person: their crops, their maps, the positions that agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.evaluation import views
from jaxpose.heatmaps import soft_argmax
from jaxpose.network import PoseNet, decode_output

NET = PoseNet(num_joints=3, num_blocks=1, num_context_maps=2, width=18)
FLIPPED = [2, 1, 0]


def test_crop_sizes():
    np.testing.assert_allclose(views.crop_sizes(5), [1, 0.9, 1.1, 0.8, 1.2])
    assert views.crop_sizes(np.int64(1)) == [1]
    for number in (0, 10, 2.5, 3.0, "3", None, float("nan")):
        with pytest.raises(
            JaxposeError, match=f"num_crops is {number!r}; it must be an integer from 1 to 9"
        ):
            views.crop_sizes(number)


def test_maps_of_a_flipped_crop_get_the_order_of_the_crops_joints_and_columns():
    names = ["right", "middle", "left", *(f"{joint}{i}" for joint in "rml" for i in "01")]
    counterpart = {"right": "left", "left": "right", "middle": "middle"}
    counterpart |= {name[0]: other[0] for name, other in counterpart.items()}
    maps = np.arange(4 * 5 * 9.0).reshape(4, 5, 9)
    mean = views.average_maps(NET, jnp.zeros((4, 5, 9)), jnp.asarray(maps), flipped=FLIPPED)
    for channel, name in enumerate(names):
        other = counterpart.get(name) or counterpart[name[0]] + name[1]
        expected = maps[:, ::-1, names.index(other)] / 2
        np.testing.assert_array_equal(mean[..., channel], expected)


# Columns, among them those on the borders.
@pytest.mark.parametrize("column", [1, 2, 9, 13, 17])
@pytest.mark.parametrize("grid", ["half_pixel", "align_corners", "paper"])
def test_the_map_of_a_mirrored_crop_has_its_peak_at_the_place_of_the_crops(grid, column):
    """In every grid, a position x and its mirror image 1 - x are averaged to x."""
    net = PoseNet(num_joints=1, num_blocks=1, num_context_maps=0, width=18, grid=grid)
    rows, columns = np.mgrid[:12, :19]
    maps = -2 * np.square(rows - 4.0) - 30 * np.square(columns - column)
    other = 19 - 1 - column - (grid == "paper")
    x, y = soft_argmax(maps, grid=grid)
    mirrored = -2 * np.square(rows - 4.0) - 30 * np.square(columns - other)
    np.testing.assert_allclose(soft_argmax(mirrored, grid=grid), [1 - x, y], atol=1e-6)
    mean = views.average_maps(
        net, *(jnp.asarray(each)[..., None] for each in (maps, mirrored)), flipped=[0]
    )
    np.testing.assert_allclose(soft_argmax(mean[..., 0], grid=grid), [x, y], atol=1e-6)


class TwoPasses:
    """Stands in for a `PoseNet` with two joints: each map has one peak, in a given cell.

    A crop is bright at its left side, so that a flipped one is told from it.
    """

    num_blocks, num_joints, num_context_maps, dtype = 1, 2, 1, jnp.float32
    grid, temperature, alpha = "half_pixel", 1.0, 0.8

    def __init__(self, plain, mirrored, *, window, dtype=jnp.float32):
        self.maps, self.window, self.maps_dtype = (plain, mirrored), window, dtype

    def apply(self, variables, images, *, train, heatmaps):
        is_plain = images[:, :, 0].mean() > images[:, :, -1].mean()
        cells = jnp.where(is_plain, *(self._drawn(peaks) for peaks in self.maps))
        maps = jnp.broadcast_to(cells, (1, len(images), *cells.shape)).astype(self.maps_dtype)
        return decode_output(self, maps, window=self.window)

    def _drawn(self, peaks):
        """[8, 16, 4]: a part map and a context map for each joint, alike."""
        maps = np.zeros((8, 16, 4), np.float32)
        for joint, (row, column, height) in enumerate(peaks):
            maps[row, column, [joint, 2 + joint]] = height
        return jnp.asarray(maps)


def crops():
    images = np.zeros((3, 16, 16, 3), np.uint8)
    images[:, :, :8] = 255
    return jnp.asarray(images)


def cell(row, column):
    return [(column + 0.5) / 16, (row + 0.5) / 8]


PLAIN = [(2, 3, 20.0), (5, 10, 26.0)]
# The flipped crop's joint 1 is the crop's joint 0: in column 12 of the crop, and higher than there.
MIRRORED = [(5, 15 - 4, 16.0), (2, 15 - 12, 30.0)]


def test_of_two_distant_peaks_the_higher_one_is_returned():
    for jit in (lambda f: f, jax.jit):
        predict = jit(
            lambda images: views.apply_network(
                TwoPasses(PLAIN, MIRRORED, window=3), {}, images, flipped=[1, 0]
            )
        )
        output = predict(crops())
        found = np.asarray(output.keypoints)
        assert found.shape == (1, 3, 2, 2)
        np.testing.assert_allclose(found[0], [[cell(2, 12), cell(5, 10)]] * 3, atol=1e-3)
        np.testing.assert_allclose(output.heatmaps[0, 0, 2, [3, 12], 0], [10, 15])
        # Presence: the mean of the logits of both passes, not the maximum of the mean map.
        np.testing.assert_allclose(output.presence_logits[0], [[25.0, 21.0]] * 3)


def test_without_flipped_crops_the_maps_are_the_plain_passs():
    output = views.apply_network(TwoPasses(PLAIN, MIRRORED, window=3), {}, crops())
    np.testing.assert_allclose(output.keypoints[0, 0], [cell(2, 3), cell(5, 10)], atol=1e-3)
    np.testing.assert_allclose(output.presence_logits[0, 0], [20.0, 26.0])


def test_maps_in_bfloat16_are_averaged_in_float32():
    plain, mirrored = [(2, 3, 20.0)] * 2, [(2, 12, 20.125)] * 2
    net = TwoPasses(plain, mirrored, window=1, dtype=jnp.bfloat16)
    output = views.apply_network(net, {}, crops(), flipped=[1, 0])
    assert output.heatmaps.dtype == jnp.float32
    np.testing.assert_allclose(output.heatmaps[0, 0, 2, 3], 20.0625)  # not a bfloat16 number


def test_mirrored_positions_are_positions_in_the_crop():
    keypoints = np.array([[0.1, 0.2], [0.5, 0.6], [0.75, 0.0]])
    found = views.mirror_positions(jnp.asarray(keypoints), flipped=FLIPPED)
    np.testing.assert_allclose(found, [[0.25, 0.0], [0.5, 0.6], [0.9, 0.2]], atol=1e-7)


def test_positions_that_agree_are_averaged_and_others_left_out():
    positions = np.array([[[10.0, 10.0]], [[12.0, 10.0]], [[90.0, 50.0]], [[14.0, 13.0]]])
    found = views.agreed_positions(positions, np.ones((4, 1)), side=80.0)
    np.testing.assert_allclose(found, [[12.0, 11.0]])
    weights = np.array([[1.0], [2.0], [1.0], [1.0]])
    found = views.agreed_positions(positions, weights, side=80.0)
    np.testing.assert_allclose(found, [[12.0, 10.75]])


def test_of_two_distant_positions_the_one_with_more_weight_is_returned():
    first, second = np.zeros((4, 2)), np.array([[9.0, 0.0], [9.0, 0.0], [2.0, 0.0], [9.0, 0.0]])
    weights = np.array([[0.3, 0.8, 0.25, 0.5], [0.5, 0.2, 0.75, 0.5]])
    found = views.agreed_positions(np.stack([first, second]), weights, side=np.full(4, 30.0))
    np.testing.assert_allclose(found[:, 0], [9.0, 0.0, 1.5, 0.0])  # the last one is a tie


def test_positions_without_any_weight_have_a_mean():
    positions = np.array([[[1.0, 2.0]], [[3.0, 2.0]]])
    found = views.agreed_positions(positions, np.zeros((2, 1)), side=50.0)
    np.testing.assert_allclose(found, [[2.0, 2.0]])


def test_one_position_is_returned_unchanged():
    positions = np.random.default_rng(0).normal(size=(1, 5, 2))
    positions[0, 2] = np.nan  # of a network whose output is not finite
    found = views.agreed_positions(positions, np.full((1, 5), 1e-9), side=0.0)
    np.testing.assert_array_equal(found, positions[0])
