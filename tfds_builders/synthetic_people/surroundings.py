"""The surroundings of a person: rooms, landscapes and noise behind, and objects in front.

Many objects look like limbs (poles, trunks, table legs, tubes in skin colors), so that a network
cannot mistake every thin object for a limb.
"""

import numpy as np

from tfds_builders.synthetic_people import canvas
from tfds_builders.synthetic_people.canvas import Canvas, Light
from tfds_builders.synthetic_people.chance import pick, pick_weighted
from tfds_builders.synthetic_people.wardrobe import fabric, random_color

_LIMB_COLORS = np.array([[232, 190, 158], [188, 135, 96], [98, 64, 45], [60, 60, 70]], np.float32)


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    line = np.linspace(-0.5, 0.5, 24, dtype=np.float32)
    fraction = 0.5 + np.cos(angle) * line[None] + np.sin(angle) * line[:, None]
    fraction = np.minimum(np.maximum(fraction, 0), 1)[..., None]
    first, second = random_color(rng), random_color(rng)
    return canvas.resize((first + fraction * (second - first)).astype(np.float32), (size, size))


def _horizon(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw wall or sky above, floor or ground below."""
    image = np.empty((size, size, 3), np.float32)
    line = int(size * rng.uniform(0.45, 0.9))
    down = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    image[:] = random_color(rng) * (1 - 0.35 * down * rng.uniform(-1, 1))
    image[line:] = random_color(rng) * (0.75 + 0.35 * down[line:])
    if rng.random() < 0.4:  # a skirting board or a far shore
        image[line : line + int(rng.integers(1, 6))] = random_color(rng)
    return image


def _pattern(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw wall paper, bricks or blinds."""
    cells = int(rng.integers(24, 64))
    tile = fabric(rng, (cells, cells), around=rng.uniform(0.6, 2.5))
    return canvas.resize(tile, (size, size))


def background(rng: np.random.Generator, size: int, clutter: float) -> np.ndarray:
    """Draw float32 [size, size, 3], RGB in 0..255; ``clutter`` is the mean number of objects."""
    backdrop = pick_weighted(rng, {_gradient: 0.25, _horizon: 0.55, _pattern: 0.20})
    image = backdrop(rng, size)
    on = canvas.new_canvas(image)
    light = Light(np.array([0.4, -0.6, -0.7]), float(rng.uniform(0.2, 0.5)))
    for _ in range(rng.poisson(clutter)):
        _thing(rng, on, light, rng.uniform(-0.1, 1.1, 2) * size, size * rng.uniform(0.05, 0.38), 0)
    roughness = pick_weighted(rng, {0.0: 0.2, 6.0: 0.4, 14.0: 0.25, 24.0: 0.15})
    if roughness:
        cells = pick(rng, (5, 12, 30, 70))
        noise = canvas.smooth_noise(rng, cells, size, 3 if rng.random() < 0.4 else 1)
        image += roughness * noise
    if rng.random() < 0.5:  # out of focus
        image = canvas.blur(image, float(rng.uniform(0.6, 2.2)))
    return image


def _pole(rng, on, light, middle, reach, owner) -> None:
    angle = rng.normal(0, 0.35) + np.pi / 2 * (rng.random() < 0.7)
    direction = np.array([np.cos(angle), np.sin(angle)])
    length = reach * rng.uniform(1.5, 6.0)
    ends = middle + np.outer((-0.5, 0.5), direction) * length
    if rng.random() < 0.4:
        colors = _LIMB_COLORS[rng.integers(len(_LIMB_COLORS))] * np.ones((4, 8, 1), np.float32)
    else:
        colors = fabric(rng, (16, 16))
    radius = reach * rng.uniform(0.08, 0.3)
    canvas.paint_tube(
        on, ends, np.eye(3), radius, radius, colors, light,
        profile=pick(rng, ("straight", "thigh", "shin", "forearm")), owner=owner, cap=0.5,
    )  # fmt: skip


def _slab(rng, on, light, middle, reach, owner) -> None:
    """Draw a quadrilateral: a door, poster or wall, or a side of a box or of furniture."""
    half = reach * rng.uniform(0.35, 1.1, 2)
    angle = rng.normal(0, 0.12) if rng.random() < 0.75 else rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    corners[:, 0] *= 1 + 0.25 * rng.normal() * np.sign(corners[:, 1])
    colors = fabric(rng, (24, 24)) if rng.random() < 0.5 else random_color(rng)
    canvas.paint_polygon(on, corners @ turn.T + middle, colors, owner=owner)


def _table(rng, on, light, middle, reach, owner) -> None:
    """Draw a table, chair or fence: a board and legs."""
    color = random_color(rng)
    width, height = reach * rng.uniform(0.6, 1.6), reach * rng.uniform(0.5, 1.4)
    thick = max(1.5, reach * rng.uniform(0.05, 0.16))
    board = np.array([[-width, 0], [width, 0], [width, thick], [-width, thick]]) + middle
    canvas.paint_polygon(on, board, color, owner=owner)
    texture = np.broadcast_to(color * 0.8, (4, 4, 3)).astype(np.float32)
    for place in np.linspace(-0.92, 0.92, int(rng.integers(2, 5))):
        top = middle + (place * width, thick)
        ends = np.stack([top, top + (0.08 * width * rng.normal(), height)])
        canvas.paint_tube(
            on, ends, np.eye(3), thick * 0.45, thick * 0.45, texture, light,
            profile="straight", owner=owner, cap=0.2,
        )  # fmt: skip


def _ball(rng, on, light, middle, reach, owner) -> None:
    radius = reach * rng.uniform(0.2, 0.6)
    half_axes = (radius, radius * rng.uniform(0.6, 1.4), radius)
    canvas.paint_ellipsoid(
        on, middle, np.eye(3), half_axes, fabric(rng, (20, 32)), light, owner=owner
    )


def _polygon(rng, on, light, middle, reach, owner) -> None:
    """Draw a rock, a roof or a hill."""
    count = int(rng.integers(3, 8))
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))
    radii = reach * rng.uniform(0.4, 1.2, count)
    corners = middle + np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
    colors = fabric(rng, (24, 24)) if rng.random() < 0.4 else random_color(rng)
    canvas.paint_polygon(on, corners, colors, owner=owner)


def _plant(rng, on, light, middle, reach, owner) -> None:
    color = np.array([40, 90, 35], np.float32) * rng.uniform(0.6, 1.6)
    for _ in range(int(rng.integers(4, 10))):
        angle = rng.normal(-np.pi / 2, 0.8)
        tip = middle + reach * rng.uniform(0.5, 1.3) * np.array([np.cos(angle), np.sin(angle)])
        side = reach * 0.12 * np.array([-np.sin(angle), np.cos(angle)])
        corners = np.array([middle, (middle + tip) / 2 + side, tip, (middle + tip) / 2 - side])
        canvas.paint_polygon(on, corners, color * rng.uniform(0.7, 1.2), owner=owner)


_BEHIND = {_pole: 0.27, _slab: 0.30, _table: 0.13, _ball: 0.08, _polygon: 0.16, _plant: 0.06}
_IN_FRONT = {_pole: 0.24, _slab: 0.30, _table: 0.16, _ball: 0.12, _polygon: 0.10, _plant: 0.08}


def _thing(rng, on, light, middle, reach, owner, weights=_BEHIND) -> None:
    pick_weighted(rng, weights)(rng, on, light, np.asarray(middle), reach, owner)


def paint_occluder(
    rng: np.random.Generator,
    on: Canvas,
    light: Light,
    middle: np.ndarray,
    reach: float,
    owner: int,
) -> None:
    """Paint an object in front, about ``reach`` pixels in size, over the point ``middle`` [2]."""
    offset = rng.normal(size=2) * reach * 0.25
    _thing(rng, on, light, middle + offset, reach, owner, _IN_FRONT)
