"""Images: what is drawn lies where it belongs, in the color it should have, and nothing else."""

import cv2
import numpy as np
import pytest

from jaxpose.skeleton import AUTHORS, LSP, MPII
from jaxpose.visualize import (
    context_images,
    draw_number,
    draw_skeleton,
    heat_map,
    joint_colors,
    moved_most,
    part_maps,
    single_maps,
    tile,
)

GRAY = np.full((96, 128, 3), 128, np.uint8)
JOINTS = ("left_hip", "left_knee", "right_hip")
LIMBS = (("left_hip", "left_knee"), ("left_hip", "right_hip"))
POINTS = np.array([(40.0, 30.0), (44.0, 70.0), (80.0, 32.0)])


def draw(points=POINTS, image=GRAY, **options):
    return draw_skeleton(image, points, joints=JOINTS, limbs=LIMBS, **options)


def changed(pixels, image=GRAY):
    return (pixels != image).any(axis=-1)


def distance_to_segment(a, b):
    """Of every pixel's center, by brute force over points of the segment."""
    y, x = np.mgrid[: GRAY.shape[0], : GRAY.shape[1]] + 0.5
    points = a + np.linspace(0, 1, 401)[:, None] * (b - a)
    return np.hypot(x[..., None] - points[:, 0], y[..., None] - points[:, 1]).min(axis=-1)


# Skeletons


@pytest.mark.parametrize("place", [(30.5, 40.5), (61.25, 20.75), (100.0, 70.1)])
def test_a_dot_is_drawn_where_the_joint_is(place):
    image = draw([place, (np.nan, 0), (0, np.nan)])
    weight = np.abs(image.astype(float) - GRAY).sum(axis=-1)
    y, x = np.mgrid[: GRAY.shape[0], : GRAY.shape[1]] + 0.5
    middle = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
    np.testing.assert_allclose(middle, place, atol=0.1)


def test_a_limb_covers_its_segment_and_nothing_far_from_it():
    image = changed(draw([*POINTS[:2], (np.nan, np.nan)]))
    distance = distance_to_segment(POINTS[0], POINTS[1])
    assert image[distance < 0.5].all()
    assert not image[distance > 5].any()


@pytest.mark.parametrize(
    "options",
    [
        {"confidence": [0.9, 0.5, 0.4], "threshold": 0.5},
        {"points": np.where([[False], [False], [True]], np.inf, POINTS)},
    ],
    ids=["not confident", "not finite"],
)
def test_a_joint_that_is_not_there_is_not_drawn_nor_are_its_limbs(options):
    expected = draw_skeleton(GRAY, POINTS[:2], joints=JOINTS[:2], limbs=LIMBS)
    # The colors of the first two follow from their names and ranks among the left ones.
    np.testing.assert_array_equal(draw(**options), expected)


def test_nobody_there_leaves_the_image():
    np.testing.assert_array_equal(draw(np.full((3, 2), np.nan)), GRAY)


def test_the_given_image_is_not_drawn_on():
    image = GRAY.copy()
    draw(image=image)
    np.testing.assert_array_equal(image, GRAY)


@pytest.mark.parametrize("far", [(-500.0, 30.0), (1e9, -1e9), (64.0, 4000.0)])
def test_joints_outside_the_image_are_cut_off(far):
    image = draw([POINTS[0], far, POINTS[2]])
    assert image.shape == GRAY.shape and changed(image)[30, 40]


def test_the_drawing_of_a_mirrored_image_is_the_mirrored_drawing():
    image = np.random.default_rng(0).integers(0, 256, GRAY.shape, np.uint8)
    mirrored = draw([(128 - x, y) for x, y in POINTS], image=image[:, ::-1])
    np.testing.assert_array_equal(mirrored[:, ::-1], draw(image=image))


def test_lines_are_as_thick_as_the_person_is_large():
    shares = []
    for factor in (10, 20):
        large = np.repeat(np.repeat(GRAY, factor, axis=0), factor, axis=1)
        shares.append(changed(draw(factor * POINTS, large), large).mean())
    assert shares[1] == pytest.approx(shares[0], rel=0.05)
    assert changed(draw()).mean() > 2 * shares[0]  # on a small image still to be seen


# Colors


@pytest.mark.parametrize("joints", [MPII.joints, LSP.joints, AUTHORS.joints])
def test_left_is_warm_right_is_cool_and_all_differ(joints):
    colors = joint_colors(joints).astype(int)
    for name, (red, _, blue) in zip(joints, colors, strict=True):
        if name.startswith("left_"):
            assert red == 255 and red > blue, name
        if name.startswith("right_"):
            assert blue == 255 and blue > red, name
    assert len({tuple(color) for color in colors}) == len(joints)


def test_joints_without_sides_share_all_hues():
    colors = joint_colors(("nose", "tail", "ear", "paw")).astype(int)
    assert np.abs(colors[:, None] - colors).sum(axis=-1)[~np.eye(4, dtype=bool)].min() > 100


# Maps


def one_hot(rows, columns, row, column, height=30.0):
    heatmap = np.zeros((rows, columns))
    heatmap[row, column] = height
    return heatmap


def test_part_maps_show_each_joint_in_its_cell_and_color():
    cells = [(2, 3), (12, 5), (7, 14)]
    maps = np.stack([one_hot(16, 20, *cell) for cell in cells], axis=-1)
    image = part_maps(maps, joints=JOINTS)
    assert image.shape == (128, 160, 3)
    for (row, column), color in zip(cells, joint_colors(JOINTS), strict=True):
        middle = image[8 * row + 3 : 8 * row + 5, 8 * column + 3 : 8 * column + 5].mean((0, 1))
        np.testing.assert_allclose(middle, color, atol=12)
    assert image[-1, 0].max() == 0


def test_maps_lie_on_the_image_without_a_shift():
    # What the image shows bright and what the map shows bright have the same middle.
    image = heat_map(one_hot(16, 16, 4, 11), size=160).astype(float).sum(axis=-1)
    weight = image - image.min()
    y, x = np.mgrid[:160, :160] + 0.5
    middle = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
    np.testing.assert_allclose(middle, (115, 45), atol=0.5)


def test_a_heat_map_is_brighter_where_it_is_higher():
    ramp = np.broadcast_to(np.arange(16.0), (16, 16))
    gray = heat_map(ramp, softmaxed=False, size=16) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(gray, axis=1) > 0).all()


def test_the_softmax_leaves_the_peak_and_dims_the_rest():
    heatmap = np.random.default_rng(0).normal(size=(16, 16)) + one_hot(16, 16, 5, 5, 9.0)
    before, after = (
        heat_map(heatmap, softmaxed=softmaxed, size=128).sum(axis=-1) for softmaxed in (False, True)
    )
    assert np.abs(np.argwhere(after == after.max())[0] - 44).max() <= 4
    assert after.mean() < before.mean() / 2


def test_softmaxed_maps_are_as_wide_as_the_networks_temperature_makes_them():
    heatmap = np.random.default_rng(0).normal(size=(16, 16)) + one_hot(16, 16, 5, 5, 8.0)
    maps = np.stack([heatmap, one_hot(16, 16, 9, 3, 8.0), one_hot(16, 16, 2, 12, 8.0)], axis=-1)
    colder = heat_map(heatmap, temperature=4.0)
    np.testing.assert_array_equal(colder, heat_map(heatmap / 4))
    assert (colder != heat_map(heatmap)).any()
    np.testing.assert_array_equal(
        part_maps(maps, joints=JOINTS, temperature=4.0), part_maps(maps / 4, joints=JOINTS)
    )
    found = single_maps(maps, joints=("tail", "nose", "ear"), temperature=4.0, size=64)
    for index, (_, raw, softmaxed) in enumerate(found):
        np.testing.assert_array_equal(raw, heat_map(maps[..., index], softmaxed=False, size=64))
        np.testing.assert_array_equal(softmaxed, heat_map(maps[..., index] / 4, size=64))


@pytest.mark.parametrize("softmaxed", [False, True])
def test_a_flat_or_a_huge_map_has_an_image(softmaxed):
    for heatmap in (np.zeros((4, 4)), np.full((4, 4), 1e4), one_hot(4, 4, 1, 1, -1e4)):
        assert heat_map(heatmap, softmaxed=softmaxed).shape == (32, 32, 3)


def test_beneath_a_map_the_image_is_gray_and_dimmed():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    corner = heat_map(one_hot(8, 8, 7, 7), image=image)[:32, :32].astype(float)
    assert np.ptp(corner, axis=-1).max() == 0
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:32, :32]
    assert np.corrcoef(corner[..., 0].ravel(), gray.ravel())[0, 1] > 0.99
    assert corner.max() < 128


def test_context_images_mark_every_maps_position_and_the_answer():
    image = np.full((128, 128, 3), 60, np.uint8)
    maps = np.stack([one_hot(16, 16, 3, 3), one_hot(16, 16, 10, 10), one_hot(16, 16, 3, 12)], -1)
    positions = np.array([(0.2, 0.2), (0.7, 0.7), (0.8, 0.2)])
    found = context_images(image, maps, positions, np.array([0.9, 0.25]), np.array([0.3, 0.2]))
    captions = [caption for caption, _ in found]
    assert captions[:3] == ["part map", "context map 1, p = 0.90", "context map 2, p = 0.25"]
    assert "10.0 %" in captions[3]
    final = changed(found[3][1], image)
    for x, y in (128 * np.array([*positions, (0.3, 0.2)])).astype(int):
        assert final[y, x]
    assert not final[100:, :40].any()


@pytest.mark.parametrize(
    ("joints", "shown"),
    [
        (LSP.joints, ["right ankle", "right hip", "right wrist", "right shoulder", "neck"]),
        (("tail", "nose"), ["tail", "nose"]),
    ],
)
def test_single_maps_are_those_of_the_figure_or_all(joints, shown):
    maps = np.stack([one_hot(8, 8, i % 8, i % 5) for i in range(len(joints))], axis=-1)
    found = single_maps(maps, joints=joints, size=64)
    assert [name for name, _, _ in found][:5] == shown
    for name, raw, softmaxed in found:
        index = joints.index(name.replace(" ", "_"))
        np.testing.assert_array_equal(raw, heat_map(maps[..., index], softmaxed=False, size=64))
        np.testing.assert_array_equal(softmaxed, heat_map(maps[..., index], size=64))


def test_the_joints_that_context_moved_the_furthest_come_first():
    # Three joints of a network, of which two are shown; part maps, then two context maps a joint.
    cells = [(2, 2), (8, 8), (13, 13), *[(5, 5)] * 2, *[(9, 9), (10, 10)], *[(1, 14), (14, 1)]]
    maps = np.stack([one_hot(16, 16, row, column) for row, column in cells], axis=-1)
    predictions = np.array([(0.5, 0.5), (0.85, 0.5)])
    found = moved_most(
        np.zeros((128, 128, 3), np.uint8),
        maps,
        predictions,
        joints=("left_hip", "head_top"),
        channels=np.array([1, 2]),
        num_joints=3,
        most=2,
        grid="half_pixel",
        temperature=1.0,
    )
    assert [name for name, _ in found] == ["head top", "left hip"]
    for (_, images), (part, *context) in zip(found, [(2, 7, 8), (1, 5, 6)], strict=True):
        assert len(images) == 4
        for (_, image), channel in zip(images, (part, *context), strict=False):
            row, column = cells[channel]
            brightest = np.argwhere(image.sum(-1) == image.sum(-1).max()).mean(axis=0)
            np.testing.assert_allclose(brightest, (8 * row + 3.5, 8 * column + 3.5), atol=8)


# Contact sheets


def test_a_sheet_holds_every_image_whole():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 250, (h, w, 3), np.uint8) for h, w in [(20, 30), (24, 24), (20, 30)]]
    sheet = tile(images, 2, gap=4)
    assert sheet.shape == (2 * 28 + 4, 2 * 34 + 4, 3)
    np.testing.assert_array_equal(sheet[6:26, 4:34], images[0])
    np.testing.assert_array_equal(sheet[4:28, 41:65], images[1])
    np.testing.assert_array_equal(sheet[34:54, 4:34], images[2])
    assert (sheet[32:, 38:] == 255).all()


def test_captions_stand_beneath_their_images():
    images = [np.zeros((40, 60, 3), np.uint8)] * 2
    sheet = tile(images, 2, ["left", ""], gap=4)
    assert (sheet[4:44, 4:64] == 0).all()
    assert (sheet[46:, :66] < 128).any() and (sheet[46:, 66:] == 255).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2, 2), (3, 1), (40, 40)])
@pytest.mark.parametrize("number", [1, 123])
def test_a_number_fits_into_the_smallest_image(shape, number):
    drawn = draw_number(np.zeros((*shape, 3), np.uint8), number, np.array([0.5, 0.5]))
    assert drawn.shape == (*shape, 3) and drawn.dtype == np.uint8
