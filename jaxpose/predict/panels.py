"""Figures of a network's heat maps for one person: the paper's Figs. 1b, 5 and 6."""

from typing import NamedTuple

import numpy as np

from jaxpose import geometry
from jaxpose.predict.boxes import MIN_CONFIDENCE
from jaxpose.predict.estimator import Maps, PoseEstimator
from jaxpose.predict.images import as_image
from jaxpose.visualize import (
    JOINTS_OF_FIG_6,
    draw_skeleton,
    moved_most,
    part_maps,
    single_maps,
    tile,
)

SIZE = 256  # side of a displayed crop, in pixels
SINGLE_SIZE = 190  # side of a single map; two pairs side by side are as wide as three crops
PAIRS_OF_FIG_5 = 2


class Person(NamedTuple):
    """One person in a photo.

    Attributes:
      crop: uint8 [SIZE, SIZE, 3], the network's input crop at display size.
      maps: heat maps and pose in that crop.
    """

    crop: np.ndarray
    maps: Maps


def predict_person(estimator: PoseEstimator, image, box) -> Person:
    """Predict the person in a box (x, y, width, height) or crop, for the functions below."""
    pixels = as_image(image)
    maps = estimator.maps(pixels, box)
    return Person(geometry.crop_image(pixels, maps.crop, SIZE), maps)


def _draw(estimator, image, points, confidence) -> np.ndarray:
    return draw_skeleton(
        image,
        points,
        joints=estimator.joints,
        limbs=estimator.limbs,
        confidence=confidence,
        threshold=MIN_CONFIDENCE,
    )


def skeleton_on_crop(estimator: PoseEstimator, person: Person) -> np.ndarray:
    """Draw the predicted skeleton on the crop."""
    return _draw(estimator, person.crop, SIZE * person.maps.keypoints, person.maps.confidence)


def part_maps_of(estimator: PoseEstimator, person: Person) -> np.ndarray:
    """Return the raw part maps [H, W, J] of the estimator's joints."""
    return person.maps.heatmaps[..., estimator.channels]


def part_maps_on_crop(estimator: PoseEstimator, person: Person) -> np.ndarray:
    """Draw the part maps of all joints on the crop (Fig. 1b)."""
    maps = part_maps_of(estimator, person)
    temperature = estimator.net.temperature
    return part_maps(maps, joints=estimator.joints, temperature=temperature, image=person.crop)


def maps_before_and_after(
    estimator: PoseEstimator, person: Person, *, size: int
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Draw part maps before and after the softmax (Fig. 5); see ``single_maps``."""
    return single_maps(
        part_maps_of(estimator, person),
        joints=estimator.joints,
        temperature=estimator.net.temperature,
        size=size,
    )


def moved_by_context(
    estimator: PoseEstimator, person: Person
) -> list[tuple[str, list[tuple[str, np.ndarray]]]]:
    """Draw the joints that context maps moved the furthest (Fig. 6); see ``moved_most``."""
    net = estimator.net
    return moved_most(
        person.crop,
        person.maps.heatmaps,
        person.maps.keypoints,
        joints=estimator.joints,
        channels=estimator.channels,
        num_joints=net.num_joints,
        most=JOINTS_OF_FIG_6,
        grid=net.grid,
        temperature=net.temperature,
        window=net.window,
    )


# Sheets written by the commands


def all_part_maps(estimator: PoseEstimator, person: Person) -> np.ndarray:
    """Draw skeleton and part maps of all joints on the crop, and part maps alone (Fig. 1b)."""
    alone = part_maps(
        part_maps_of(estimator, person),
        joints=estimator.joints,
        temperature=estimator.net.temperature,
        size=SIZE,
    )
    images = (
        (skeleton_on_crop(estimator, person), "skeleton"),
        (part_maps_on_crop(estimator, person), "part maps"),
        (alone, "part maps alone"),
    )
    return tile([p for p, _ in images], len(images), [caption for _, caption in images])


def before_and_after(estimator: PoseEstimator, person: Person) -> np.ndarray:
    """Draw single part maps before and after the softmax (Fig. 5)."""
    images, captions = [], []
    for name, raw, softmaxed in maps_before_and_after(estimator, person, size=SINGLE_SIZE):
        images += [raw, softmaxed]
        captions += [name, "after softmax"]
    return tile(images, 2 * PAIRS_OF_FIG_5, captions)


def context(estimator: PoseEstimator, person: Person) -> np.ndarray | None:
    """Draw the joints that the context maps moved the furthest, one per row (Fig. 6).

    Returns None if the network has no context maps.
    """
    rows = moved_by_context(estimator, person)
    images, captions = [], []
    for name, found in rows:
        images += [image for _, image in found]
        captions += [
            f"{name}: {caption}" if i == 0 else caption for i, (caption, _) in enumerate(found)
        ]
    return tile(images, len(rows[0][1]), captions) if rows else None


def stacked(sheets: list[np.ndarray]) -> np.ndarray:
    """Stack images vertically on a white background, uint8 [H, W, 3]."""
    width = max(sheet.shape[1] for sheet in sheets)
    return np.concatenate(
        [np.pad(s, [(0, 0), (0, width - s.shape[1]), (0, 0)], constant_values=255) for s in sheets]
    )
