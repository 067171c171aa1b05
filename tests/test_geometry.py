"""Crops and affine maps: images and points move together, nothing drifts by half a pixel."""

import numpy as np
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.geometry import (
    IMAGE_RULE,
    LSP_RULE,
    MPII_RULE,
    Crop,
    CropRule,
    apply_affine,
    crop_image,
    crop_rule,
    crop_to_image,
    example_crop,
    invert_affine,
    reduce_by_area,
    reduction,
)
from jaxpose.predict.boxes import check_boxes

CROPS = [
    Crop((70.0, 60.0), 64.0),
    Crop((70.3, 60.8), 40.7, rotation=33.0),
    Crop((66.1, 63.9), 90.2, rotation=-40.0, flip=True),
    Crop((72.5, 58.5), 127.9, rotation=12.5, flip=True),
    Crop((70.0, 60.0), 150.0, rotation=-7.0),
    Crop((68.0, 66.0), 300.0, rotation=40.0),
    Crop((68.0, 66.0), 600.0, flip=True),
]
DOT = (71.3, 62.6)


def dot_image(height, width, center, sigma):
    """A Gaussian blob whose center is a continuous coordinate, sampled at the pixels' centers."""
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    blob = np.exp(-((x[None] - center[0]) ** 2 + (y[:, None] - center[1]) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(250 * blob)[..., None], 3, axis=2).astype(np.uint8)


def centroid(image):
    """Continuous (x, y) of the brightness in an image, in its own pixels."""
    mass = image[..., 0].astype(np.float64)
    x, y = np.arange(image.shape[1]) + 0.5, np.arange(image.shape[0]) + 0.5
    return np.array([(mass * x[None]).sum(), (mass * y[:, None]).sum()]) / mass.sum()


def test_corners_of_an_upright_crop():
    matrix = crop_to_image(Crop((50.0, 40.0), 20.0))
    corners = apply_affine(matrix, np.array([(0, 0), (1, 0), (0, 1), (1, 1)]))
    np.testing.assert_allclose(corners, [(40, 30), (60, 30), (40, 50), (60, 50)])


def test_flip_exchanges_left_and_right_of_the_crop():
    plain, mirrored = crop_to_image(CROPS[1]), crop_to_image(CROPS[1]._replace(flip=True))
    points = np.random.default_rng(0).random((5, 2))
    np.testing.assert_allclose(
        apply_affine(mirrored, points), apply_affine(plain, [1, 0] + points * [-1, 1])
    )


def test_rotation_turns_the_crop_from_x_towards_y():
    matrix = crop_to_image(Crop((0.0, 0.0), 2.0, rotation=90.0))
    np.testing.assert_allclose(apply_affine(matrix, np.array([(1.0, 0.5)])), [(0, 1)], atol=1e-12)


@pytest.mark.parametrize("crop", CROPS)
def test_inverse_leads_back(crop):
    points = np.random.default_rng(1).uniform(-1, 2, (7, 2))
    matrix = crop_to_image(crop)
    back = apply_affine(invert_affine(matrix), apply_affine(matrix, points))
    np.testing.assert_allclose(back, points, atol=1e-12)


def test_affine_maps_batch():
    matrices = np.stack([crop_to_image(crop) for crop in CROPS])
    points = np.random.default_rng(2).random((len(CROPS), 3, 2))
    for matrix, single, mapped in zip(
        matrices, points, apply_affine(matrices, points), strict=True
    ):
        np.testing.assert_allclose(mapped, single @ matrix[:, :2].T + matrix[:, 2])
    np.testing.assert_allclose(invert_affine(matrices)[2], invert_affine(matrices[2]))


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("shape", [(128, 128), (131, 149)])
def test_drawn_dot_moves_with_its_coordinates(crop, shape):
    size = 64
    sigma = max(3.0, crop.side / size)
    shown = crop_image(dot_image(*shape, DOT, sigma), crop, size)
    expected = apply_affine(invert_affine(crop_to_image(crop)), np.array([DOT]))[0] * size
    np.testing.assert_allclose(centroid(shown), expected, atol=0.06)


def test_crop_of_the_image_itself_is_the_image():
    image = np.random.default_rng(5).integers(0, 256, (48, 48, 3), np.uint8)
    np.testing.assert_array_equal(crop_image(image, Crop((24.0, 24.0), 48.0), 48), image)
    mirrored = crop_image(image, Crop((24.0, 24.0), 48.0, flip=True), 48)
    np.testing.assert_array_equal(mirrored, image[:, ::-1])


def test_twice_up_and_down_is_the_identity_on_coordinates():
    ramp = np.repeat(np.tile(np.arange(48, dtype=np.uint8) * 4, (48, 1))[..., None], 3, axis=2)
    up = crop_image(ramp, Crop((24.0, 24.0), 48.0), 96)
    down = crop_image(up, Crop((48.0, 48.0), 96.0), 48)
    np.testing.assert_allclose(down[2:-2, 2:-2].astype(int), ramp[2:-2, 2:-2], atol=1)


def test_black_outside_and_untouched_inside():
    white = np.full((40, 60, 3), 255, np.uint8)
    shown = crop_image(white, Crop((30.0, 20.0), 120.0), 120)
    expected = np.zeros((120, 120), np.uint8)
    expected[40:80, 30:90] = 255
    np.testing.assert_array_equal(shown[..., 1], expected)


@pytest.mark.parametrize(
    "crop", [Crop((1000.0, -500.0), 20.0), Crop((-300.0, 20.0), 50.0, rotation=30.0)]
)
def test_crop_beside_the_image_is_black(crop):
    out = np.full((16, 16, 3), 9, np.uint8)
    assert crop_image(np.full((40, 60, 3), 255, np.uint8), crop, 16, out=out) is out
    assert not out.any()


def test_huge_crop_shows_a_speck():
    white = np.full((41, 67, 3), 255, np.uint8)
    shown = crop_image(white, Crop((33.5, 20.5), 1e7), 16)
    assert shown.shape == (16, 16, 3)


def test_images_wider_than_opencv_can_warp():
    wide = np.zeros((8, 40_000, 3), np.uint8)
    wide[:, 38_990:39_010] = 255
    shown = crop_image(wide, Crop((39_000.0, 4.0), 40.0), 40)
    assert shown[20, 10:30].min() == 255 and not shown[20, :10].any()


def test_crop_image_writes_into_a_row_of_a_batch():
    image = np.random.default_rng(6).integers(0, 256, (100, 90, 3), np.uint8)
    batch = np.zeros((3, 32, 32, 3), np.uint8)
    for crop in CROPS:
        crop_image(image, crop, 32, out=batch[1])
        np.testing.assert_array_equal(batch[1], crop_image(image, crop, 32))
        assert not batch[0].any() and not batch[2].any()


@pytest.mark.parametrize("shape", [(12, 16), (13, 17), (3, 9), (1, 1)])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_area_reduction_is_the_mean_of_each_square(shape, factor):
    image = np.random.default_rng(7).integers(0, 256, (*shape, 3), np.uint8)
    result = reduce_by_area(image, factor)
    assert result.shape == (-(-shape[0] // factor), -(-shape[1] // factor), 3)
    for r in range(result.shape[0]):
        for c in range(result.shape[1]):
            square = image[r * factor : (r + 1) * factor, c * factor : (c + 1) * factor]
            np.testing.assert_allclose(result[r, c], square.mean((0, 1)), atol=0.51)


@pytest.mark.parametrize("side,expected", [(1, 1), (128, 1), (128.1, 2), (256.1, 4), (1e6, 2**13)])
def test_reduction_leaves_at_most_two_pixels_for_one(side, expected):
    assert reduction(side, 64) == expected


def test_mpii_rule_is_the_authors():
    # objpos (300, 200), scale 2.5: their side is 1.25 * 500, their center 12 / 200 of it lower.
    crop = example_crop({"center": [300.0, 200.0], "scale": 500.0}, MPII_RULE)
    assert crop == Crop((300.0, 200.0 + 12 / 200 * 625), 625.0)


def test_lsp_rule_reads_the_labeled_joints_only():
    example = {
        "keypoints": np.array([(10, 20), (30, 96), (500, 500)], np.float32),
        "labeled": np.array([True, True, False]),
    }
    crop = example_crop(example, LSP_RULE)
    np.testing.assert_allclose([*crop.center, crop.side], [20, 58, 100])


def test_image_rule_pads_to_a_square():
    for example in ({"image": np.zeros((30, 80, 3))}, {"stored_size": (80, 30)}):
        assert example_crop(example, IMAGE_RULE) == Crop((40.0, 15.0), 80.0)


def test_a_rule_under_its_old_name_is_the_same_rule():
    source = "picture"  # old spelling
    example = {"image": np.zeros((30, 80, 3))}
    assert example_crop(example, CropRule(source, 1.0, 0.0)) == example_crop(example, IMAGE_RULE)


def test_an_unknown_crop_is_named():
    with pytest.raises(JaxposeError, match="unknown crop 'square'; choose one of scale"):
        crop_rule("square")
    assert crop_rule("image") == IMAGE_RULE


def test_box_rule():
    crop = example_crop({"box": [10, 20, 30, 60]}, CropRule("box", 1.5))
    assert crop == Crop((25.0, 50.0), 90.0)


@pytest.mark.parametrize("number", [10**400, -(10**400)])
@pytest.mark.parametrize("place", range(4))
def test_a_box_with_an_integer_beyond_float64_has_no_extent(number, place):
    box = [10, 20, 30, 60]
    box[place] = number
    crop = example_crop({"box": box, "stored_size": (80, 30)}, CropRule("box"))
    assert crop == Crop((40.0, 15.0), 80.0)
    with pytest.raises(JaxposeError, match="a box has a number that is too large"):
        check_boxes([box])


def test_a_center_or_scale_beyond_float64_has_no_extent():
    for example in ({"center": [1, 2], "scale": 10**400}, {"center": [10**400, 2], "scale": 5}):
        crop = example_crop({**example, "stored_size": (80, 30)}, MPII_RULE)
        assert crop.center == (40.0, 15.0)


@pytest.mark.parametrize("labeled", [[False, False], [True, False], [True, True]])
def test_without_extent_the_rule_falls_back_to_scale(labeled):
    example = {
        "keypoints": np.array([(10.0, 20.0), (10.0, 20.0)]),
        "labeled": np.array(labeled),
        "center": np.array([50.0, 60.0]),
        "scale": 76.0,
    }
    np.testing.assert_allclose(example_crop(example, LSP_RULE).side, 100)


def test_a_rule_without_anything_to_read_is_an_error():
    example = {"center": [np.nan, 0], "scale": 0.0}
    with pytest.raises(JaxposeError, match="cannot compute a crop: an example has no usable"):
        example_crop(example, MPII_RULE)
    with pytest.raises(JaxposeError, match="'middle' is unknown"):
        example_crop(example, CropRule("middle"))
