"""Random transforms: within their ranges, independent of each other's switches, reproducible."""

import numpy as np
import pytest

from jaxpose.data.augment import STRAY_SCALE, STRAY_SHIFT, Augmentation, color, erase, sample
from jaxpose.geometry import Crop

CROP = Crop((50.0, 40.0), 100.0)
FULL = Augmentation(rotation=40.0, scale=(0.7, 1.3), flip=True, color=0.3)


def draws(augmentation, n=2000):
    return [sample(np.random.default_rng(seed), CROP, augmentation) for seed in range(n)]


def test_no_augmentation_changes_nothing():
    assert set(draws(Augmentation(), 20)) == {CROP}


def test_rotation_and_scale_are_uniform_in_their_ranges():
    crops = draws(FULL)
    rotations = np.array([c.rotation for c in crops])
    sides = np.array([c.side for c in crops])
    for values, low, high in [(rotations, -40, 40), (sides, 70, 130)]:
        assert low <= values.min() and values.max() <= high
        shares = np.histogram(values, bins=8, range=(low, high))[0] / len(values)
        np.testing.assert_allclose(shares, 1 / 8, atol=0.03)


def test_half_are_mirrored_and_none_moves():
    crops = draws(FULL)
    assert 0.45 < np.mean([c.flip for c in crops]) < 0.55
    assert {c.center for c in crops} == {CROP.center}


@pytest.mark.parametrize("field,off", [("rotation", 0.0), ("scale", (1.0, 1.0)), ("flip", False)])
def test_a_switch_leaves_the_other_transforms_alone(field, off):
    changed = {"rotation": "rotation", "scale": "side", "flip": "flip"}[field]
    for seed in range(20):
        full = sample(np.random.default_rng(seed), CROP, FULL)
        less = sample(np.random.default_rng(seed), CROP, FULL._replace(**{field: off}))
        assert less == full._replace(**{changed: getattr(CROP, changed)})


def test_flip_of_a_mirrored_crop_is_undone():
    mirrored = CROP._replace(flip=True)
    both = {sample(np.random.default_rng(s), mirrored, FULL).flip for s in range(20)}
    assert both == {True, False}


def test_color_zero_changes_nothing_and_draws_the_same():
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(color(rng, image.copy(), 0.0), image)
    other = np.random.default_rng(1)
    color(other, image.copy(), 0.5)
    assert rng.random() == other.random()


def test_color_is_its_formula():
    image = np.random.default_rng(2).integers(0, 256, (16, 16, 3), np.uint8)
    strength = 0.4
    u = 2 * np.random.default_rng(3).random(5) - 1
    luma = image @ np.array([0.299, 0.587, 0.114])
    saturated = luma[..., None] + np.exp(strength * u[0]) * (image - luma[..., None])
    gain = np.exp(strength * u[1]) * np.exp(strength / 2 * u[2:])
    expected = np.clip(gain * saturated, 0, 255)
    result = color(np.random.default_rng(3), image.copy(), strength)
    np.testing.assert_allclose(result, expected, atol=1)


def test_gray_stays_gray_but_for_the_balance():
    image = np.full((2, 2, 3), 90, np.uint8)
    u = 2 * np.random.default_rng(5).random(5) - 1
    result = color(np.random.default_rng(5), image, 0.3)[0, 0]
    np.testing.assert_allclose(result, 90 * np.exp(0.3 * (u[1] + u[2:] / 2)), atol=1)


def test_color_works_in_place_and_keeps_black_black():
    image = np.zeros((4, 4, 3), np.uint8)
    assert color(np.random.default_rng(4), image, 0.5) is image
    assert not image.any()
    image[0] = 100
    color(np.random.default_rng(4), image, 0.5)
    assert (image[0] != 100).any() and not image[1:].any()


def test_stray_and_turned_crops_leave_the_others_alone():
    """The fraction asked for is far off or rotated by any angle; every other crop is unchanged."""
    changed = FULL._replace(stray=0.25, turned=0.1)
    pairs = list(zip(draws(FULL), draws(changed), strict=True))
    moved = [b for _, b in pairs if b.center != CROP.center]
    assert abs(len(moved) / len(pairs) - 0.25) < 0.03
    low, high = STRAY_SCALE
    for crop in moved:
        assert low * CROP.side <= crop.side <= high * CROP.side
        offsets = np.abs(np.subtract(crop.center, CROP.center)) / crop.side
        assert offsets.max() <= STRAY_SHIFT
    far = [b for _, b in pairs if abs(b.rotation) > FULL.rotation]
    assert abs(len(far) / len(pairs) - 0.1 * (1 - 40 / 180)) < 0.02
    same = [a == b for a, b in pairs]
    assert abs(np.mean(same) - 0.75 * 0.9) < 0.03


def test_erase_fills_one_rectangle_of_the_fraction_asked_for():
    image = np.full((50, 50, 3), 7, np.uint8)
    assert erase(np.random.default_rng(0), image, 0.0) is image and (image == 7).all()
    hit = 0
    for seed in range(400):
        rng, twin = np.random.default_rng(seed), np.random.default_rng(seed)
        found = erase(rng, image.copy(), 0.3)
        assert rng.random() == twin.random()
        changed = (found != 7).any(axis=-1)
        if changed.any():
            hit += 1
            rows, columns = np.where(changed.any(1))[0], np.where(changed.any(0))[0]
            for side in (np.ptp(rows) + 1, np.ptp(columns) + 1):
                assert 4 <= side <= 20
            assert changed[np.ix_(rows, columns)].mean() > 0.9
    assert abs(hit / 400 - 0.3) < 0.07
