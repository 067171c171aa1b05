"""MPII's crops hold every augmented crop of the paper, and agree with the whole image."""

import pathlib
import re

import cv2
import numpy as np
import pytest

from jaxpose import geometry
from jaxpose.data import augment
from tfds_builders.mpii import crops

AUGMENTATION = augment.Augmentation(rotation=40.0, scale=(0.7, 1.3), flip=True, color=0.0)
INPUT = 256


def random_person(rng, joints=16):
    """Center, height and joints of a person about as MPII has them, in pixels."""
    scale = float(np.exp(rng.uniform(np.log(40), np.log(3000))))
    center = rng.uniform(-0.2, 1.2, 2) * (1280, 720)
    keypoints = center + rng.uniform(-0.45, 0.45, (joints, 2)) * scale
    return center, scale, keypoints, rng.random(joints) < 0.9


def example(center, scale, keypoints, labeled, square=None):
    """The features that the crop rules read; in the stored crop's pixels if a square is given."""
    corner, zoom = (np.array([square.x, square.y]), square.zoom) if square else (np.zeros(2), 1.0)
    return {
        "center": (center - corner) * zoom,
        "scale": scale * zoom,
        "keypoints": (keypoints - corner) * zoom,
        "labeled": labeled,
    }


def corners(crop):
    unit = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)
    return geometry.apply_affine(geometry.crop_to_image(crop), unit)


@pytest.mark.parametrize("rule", [geometry.MPII_RULE, geometry.LSP_RULE], ids=["mpii", "lsp"])
def test_every_augmented_crop_lies_in_the_square(rule):
    rng = np.random.default_rng(0)
    for _ in range(1000):
        person = random_person(rng)
        square = crops.square_around(*person)
        crop = geometry.example_crop(example(*person), rule)
        found = corners(augment.sample(rng, crop, AUGMENTATION)) - (square.x, square.y)
        assert found.min() >= -1e-6 and found.max() <= square.side + 1e-6


def test_a_joint_wrong_by_far_does_not_blow_the_square_up():
    center, scale, keypoints, labeled = random_person(np.random.default_rng(1))
    keypoints[3] += 40 * scale
    labeled[3] = True
    side = crops.square_around(center, scale, keypoints, labeled).side
    assert side < 3 * scale + 2


def test_the_readme_says_which_crops_extend_beyond_the_square():
    """Those of the joints' box, where it would more than double the side."""
    text = pathlib.Path(crops.__file__).with_name("README.md").read_text()
    sentence = (
        "If a distant joint would more than double the square, the joints' box does not count"
    )
    assert sentence in re.sub(r"\s+", " ", text)
    center, scale, keypoints, labeled = random_person(np.random.default_rng(1))
    labeled[:] = True
    outside = []
    for wide in np.arange(1.0, 4.0, 0.05):
        keypoints[:2] = center - scale * wide / 2, center + scale * wide / 2
        square = crops.square_around(center, scale, keypoints, labeled)
        crop = geometry.example_crop(example(center, scale, keypoints, labeled), geometry.LSP_RULE)
        largest = crop._replace(side=crop.side * 1.3 * crops.TURNED)
        found = corners(largest) - (square.x, square.y)
        outside.append(found.min() < -1e-6 or found.max() > square.side + 1e-6)
    assert not outside[0] and outside[-1] and sorted(outside) == outside


def test_a_crop_of_085_has_a_stored_pixel_for_each_of_the_input():
    rng = np.random.default_rng(2)
    for _ in range(300):
        center, scale, keypoints, labeled = random_person(rng)
        square = crops.square_around(center, scale, keypoints, labeled)
        needed = min(1.0, INPUT / (0.85 * 1.25 * scale))
        assert square.zoom <= 1
        assert square.zoom == pytest.approx(needed, rel=0.01)
        assert square.stored < 1400


def draw_image(rng, width, height):
    """Smooth colors, so that two ways of resampling hardly differ."""
    coarse = rng.integers(0, 256, (8, 12, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("seed", range(12))
def test_crops_and_full_agree_after_the_same_augmentation(seed):
    rng = np.random.default_rng(seed)
    whole = draw_image(rng, 1281, 719)
    person = random_person(rng)
    square = crops.square_around(*person)
    stored = crops.decode(crops.crop_image(whole, square))
    assert stored.shape == (square.stored, square.stored, 3)
    views = {}
    for name, image, features in (
        ("full", whole, example(*person)),
        ("crops", stored, example(*person, square)),
    ):
        crop = geometry.example_crop(features, geometry.MPII_RULE)
        crop = augment.sample(np.random.default_rng(seed), crop, AUGMENTATION)
        to_crop = geometry.invert_affine(geometry.crop_to_image(crop))
        points = INPUT * geometry.apply_affine(to_crop, features["keypoints"])
        views[name] = points, geometry.crop_image(image, crop, INPUT).astype(float)
    assert np.abs(views["full"][0] - views["crops"][0]).max() < 0.5
    assert np.abs(views["full"][1] - views["crops"][1]).mean() < 3


def test_labels_stay_on_the_image_where_the_zoom_is_just_below_a_power_of_two():
    """There, the zoom of the stored image, whose side is rounded, may be just above it."""
    limit = crops.INPUT_SIDE / (crops.SHARPEST * crops.ENLARGEMENT)  # the scale of zoom 1
    checked = 0
    for scale in np.arange(2 * limit, 2 * limit + 3, 0.04):
        center = np.array([1500.3, 1200.7])
        square = crops.square_around(center, scale, np.zeros((1, 2)), np.array([False]))
        assert square.x % square.unit == square.y % square.unit == square.side % square.unit == 0
        if checked < 3 and square.unit == 2 and square.x % 4:
            whole = np.zeros((2400, 3000, 3), np.uint8)
            cv2.circle(whole, (1500, 1200), 60, (255, 255, 255), -1)
            stored = crops.decode(crops.crop_image(whole, square))[..., 0].astype(float)
            rows, columns = np.indices(stored.shape)
            dot = np.array([(columns * stored).sum(), (rows * stored).sum()]) / stored.sum() + 0.5
            expected = (np.array([1500.5, 1200.5]) - (square.x, square.y)) * square.zoom
            assert np.allclose(dot, expected, atol=0.1)
            checked += 1
    assert checked == 3


def test_outside_the_image_is_black():
    square = crops.Square(-100, -50, 64, 64)
    stored = crops.decode(crops.crop_image(np.full((40, 30, 3), 255, np.uint8), square))
    assert not stored.any()


@pytest.mark.parametrize("zoom", [1.0, 0.6, 0.4, 0.13])
def test_a_dot_is_found_where_the_square_says(zoom):
    whole = np.zeros((2001, 1999, 3), np.uint8)
    cv2.circle(whole, (1200, 800), 60, (255, 255, 255), -1)
    unit = 2 ** max(0, int(np.floor(np.log2(1 / zoom))))
    side = 1600 // unit * unit
    square = crops.Square(400 // unit * unit, 96 // unit * unit, side, round(side * zoom), unit)
    stored = crops.decode(crops.crop_image(whole, square))[..., 0].astype(float)
    rows, columns = np.indices(stored.shape)
    dot = np.array([(columns * stored).sum(), (rows * stored).sum()]) / stored.sum() + 0.5
    expected = (np.array([1200.5, 800.5]) - (square.x, square.y)) * square.zoom
    assert np.allclose(dot, expected, atol=0.1)
