"""Samples that the finder is trained on: boxes move with the image, maps stand for the boxes."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose.predict.finder import BoxMaps, decode_maps
from tools import train_finder
from tools.train_finder import KINDS, SIZE, STRIDE, Scene, loss, random_crop, sample, shown, targets

CELLS = SIZE // STRIDE
NOBODY = np.zeros((0, 4))


def extent(image):
    """The box of what is red."""
    ys, xs = np.nonzero(image[..., 0] > 127)
    return np.array([xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1])


def scene(box=(60, 30, 40, 80), kind="mpii"):
    """A red rectangle that is a person, in a gray room."""
    image = np.full((150, 200, 3), 60, np.uint8)
    x, y, w, h = box
    image[y : y + h, x : x + w] = (255, 0, 0)
    return Scene(image, np.array([box], np.float64), NOBODY, kind)


def logits_of(wanted):
    return BoxMaps(
        jnp.where(wanted.heat >= 1, 9.0, -9.0)[None], wanted.offset[None], wanted.log_size[None]
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("window", [False, True])
def test_boxes_move_with_the_image(seed, window):
    crop = random_crop(np.random.default_rng(seed), scene(), SIZE, window)
    image, boxes, _ = shown(scene(), crop, SIZE)
    low, high = boxes[0, :2], boxes[0, :2] + boxes[0, 2:]
    low, high = low.clip(0, SIZE), high.clip(0, SIZE)
    np.testing.assert_allclose(extent(image), [*low, *(high - low)], atol=1.6)


def test_targets_stand_for_the_boxes():
    boxes = np.array([[2.2, 3.1, 4.0, 9.0], [12.0, 6.5, 7.0, 5.0]])
    wanted = targets(boxes, NOBODY, np.full((CELLS, CELLS), 0.3))
    found = decode_maps(logits_of(wanted), 5)
    order = np.argsort(found.box[0, :2, 0])
    np.testing.assert_allclose(np.asarray(found.box[0, :2])[order] * CELLS, boxes, atol=1e-4)
    assert (found.probability[0, 2:] < 0.01).all()


def test_cells_count_by_what_is_known_of_them():
    box, unsure = np.array([[2.0, 2.0, 4.0, 4.0]]), np.array([[10.0, 10.0, 4.0, 6.0]])
    wanted = targets(box, unsure, np.full((CELLS, CELLS), 0.3))
    assert wanted.weight[4, 4] == 1.0 and wanted.heat[4, 4] == 1.0
    assert (wanted.weight[10:16, 10:14] == 0).all() and wanted.weight[9, 10] == np.float32(0.3)
    assert wanted.near[18, 18] == 0 and wanted.near[4, 4] == 1.0


def test_the_loss_is_least_for_the_right_maps_and_unsure_places_cost_nothing():
    box, unsure = np.array([[2.0, 2.0, 4.0, 4.0]]), np.array([[10.0, 10.0, 4.0, 6.0]])
    wanted = targets(box, unsure, np.ones((CELLS, CELLS)))
    right = logits_of(wanted)
    batch = train_finder.Targets(*(value[None] for value in wanted))
    center, size = loss(right, batch)
    assert center < 0.01 and size == 0

    def centers(row, column):
        return right._replace(center_logits=right.center_logits.at[0, row, column].set(5.0))

    assert loss(centers(12, 12), batch)[0] < 0.01
    assert loss(centers(19, 4), batch)[0] > 1.0
    larger = right._replace(log_size=right.log_size + 0.1)
    assert float(loss(larger, batch)[1]) == pytest.approx(0.2, rel=1e-3)


def test_samples_follow_from_the_seed_and_show_the_persons_that_they_ask_for(monkeypatch):
    monkeypatch.setattr(train_finder.augment, "color", lambda rng, image, strength: image)
    scenes = {kind: [scene(kind=kind)] for kind in KINDS}
    scenes["empty"] = [scene()._replace(boxes=NOBODY, image=np.zeros((90, 90, 3), np.uint8))]
    seen = 0
    for seed in range(12):
        image, wanted = sample(np.random.default_rng(seed), scenes)
        again, _ = sample(np.random.default_rng(seed), scenes)
        np.testing.assert_array_equal(image, again)
        for row, column in np.argwhere(wanted.heat >= 1):
            x, y = STRIDE * (np.array([column, row]) + 0.5 + wanted.offset[row, column])
            seen += 1
            assert image[int(np.clip(y, 0, SIZE - 1)), int(np.clip(x, 0, SIZE - 1)), 0] > 200
    assert seen >= 8
