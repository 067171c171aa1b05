"""Render one image of the data set: its people, the camera, and the labels.

    from tfds_builders.synthetic_people.scene import render
    example = render(seed=0, split="train", index=7)
    example.image                               # uint8 [192, 192, 3]
    example.keypoints[example.visible]          # pixels, (x, y)

An image depends only on (seed, split, index), the size and the difficulty.
"""

import zlib
from typing import NamedTuple

import numpy as np

from tfds_builders.synthetic_people import canvas
from tfds_builders.synthetic_people.anatomy import HEAD_SHAPE, Person
from tfds_builders.synthetic_people.body import (
    JOINTS,
    SIDES,
    Camera,
    camera_rotation,
    pose_body,
    sample_proportions,
)
from tfds_builders.synthetic_people.chance import pick
from tfds_builders.synthetic_people.people import STRANGER, draw_person, visible_joints
from tfds_builders.synthetic_people.poses import sample_pose
from tfds_builders.synthetic_people.surroundings import background, paint_occluder
from tfds_builders.synthetic_people.wardrobe import sample_outfit

_TORSO = ("right_shoulder", "left_shoulder", "right_hip", "left_hip")
_ABOVE_MIDDLE = 15 / 200  # MPII's objpos lies this fraction of the height above the body's middle


class Difficulty(NamedTuple):
    """Difficulty of the images. Fractions are of all images."""

    pose_variety: float = 1.0  # 0: people at rest, 1: the whole table of activities
    turned: float = 100.0  # maximum angle from the front or back view, in degrees
    occluders: float = 0.55  # mean number of objects in front of the person
    occluder_size: float = 0.22  # of the largest, in heights of the person; at least a quarter
    strangers: float = 0.30  # fraction with another person, in front (one in three) or behind
    stray_limbs: float = 0.20  # fraction with the arm or leg of another person reaching in
    cut_off: float = 0.20  # fraction framed so that joints lie outside the image
    from_behind: float = 0.30  # fraction seen from behind
    bold_fronts: float = 0.5  # fraction whose front differs clearly from the back
    roll: float = 10.0  # standard deviation of the camera's roll, in degrees
    any_roll: float = 0.05  # fraction rotated by any angle
    clutter: float = 7.0  # mean number of objects in the background
    noise: float = 5.0  # maximum standard deviation of the sensor noise, in gray levels


class Example(NamedTuple):
    """An image and its labels; pixels are continuous, (x, y), the image is [0, W] x [0, H]."""

    image: np.ndarray  # uint8 [H, W, 3], RGB
    keypoints: np.ndarray  # float32 [16, 2]; 0 where not labeled
    labeled: np.ndarray  # bool [16]: inside the image
    visible: np.ndarray  # bool [16]: labeled and not hidden
    box: np.ndarray  # float32 [4]: x, y, width, height of the part inside the image
    center: np.ndarray  # float32 [2]: like MPII's objpos
    scale: float  # pixels: standing height
    head_size: float  # pixels: 0.6 times the diagonal of the head's box
    activity: str


def generator(seed: int, split: str, index: int) -> np.random.Generator:
    """Return the generator of all random numbers of one image."""
    return np.random.default_rng([seed, zlib.crc32(split.encode()), index])


def render(
    seed: int, split: str, index: int, *, size: int = 192, difficulty: Difficulty | None = None
) -> Example:
    """Render image number ``index`` of a split; ``size`` is its side in pixels."""
    difficulty = difficulty or Difficulty()
    rng = generator(seed, split, index)
    person, activity = _sample_person(rng, size, difficulty)
    light = _sample_light(rng)
    on = canvas.new_canvas(background(rng, size, difficulty.clutter))
    stranger = rng.random() < difficulty.strangers
    stranger_in_front = rng.random() < 1 / 3
    if stranger and not stranger_in_front:
        draw_person(on, _sample_stranger(rng, person, difficulty, 0.45), light, owner=STRANGER)
    on.owner[:] = 0  # what is behind the person hides nothing
    draw_person(on, person, light)
    box = _bounds(on.owner)
    if stranger and stranger_in_front:
        draw_person(on, _sample_stranger(rng, person, difficulty, 0.62), light, owner=STRANGER)
    if rng.random() < difficulty.stray_limbs:
        _draw_stray_limb(rng, on, person, light, difficulty)
    joints = person.camera.project(person.figure.joints())
    for _ in range(rng.poisson(difficulty.occluders)):
        target = joints[rng.integers(len(joints))]
        reach = person.camera.focus * difficulty.occluder_size * rng.uniform(0.25, 1.0)
        paint_occluder(rng, on, light, target, reach, STRANGER)
    return _label(rng, _develop(rng, on.image, difficulty.noise), on.owner, person, box, activity)


def _sample_light(rng: np.random.Generator) -> canvas.Light:
    direction = np.array([rng.normal(0, 0.7), -rng.uniform(0.2, 1.2), -rng.uniform(0.3, 1.2)])
    return canvas.Light(direction / np.linalg.norm(direction), float(rng.uniform(0.25, 0.6)))


def _sample_person(
    rng: np.random.Generator, size: int, difficulty: Difficulty
) -> tuple[Person, str]:
    """Sample a person and its framing: inside the image or cut off by its edge."""
    pose = sample_pose(rng, variety=difficulty.pose_variety)
    proportions = sample_proportions(rng)
    yaw = rng.uniform(-1, 1) * difficulty.turned
    if rng.random() < difficulty.from_behind:
        yaw += 180
    roll = float(rng.normal()) * difficulty.roll
    if rng.random() < difficulty.any_roll:
        roll = rng.uniform(-180, 180)
    elevation = np.clip(rng.normal(6, 10), -18, 38)
    figure = pose_body(pose, proportions, camera_rotation(yaw, elevation, roll))
    distance = rng.uniform(2.6, 8.0)
    unit = Camera(1.0, (0.0, 0.0), distance)
    places = unit.project(np.array(list(figure.points.values())))
    low, high = places.min(0) - 0.04, places.max(0) + 0.04  # body, not only bones
    longer = float((high - low).max())
    cut_off = rng.random() < difficulty.cut_off
    focus = float(np.clip(size * rng.uniform(0.62, 0.94) / longer, 0.45 * size, 0.95 * size))
    if not cut_off:
        focus = min(focus, 0.97 * size / longer)
        slack = size - focus * (high - low)
        middle = slack * rng.beta(2, 2, 2) - focus * low
    else:
        middle = _cut_off(rng, size, focus, figure.joints(), unit)
    camera = Camera(focus, (float(middle[0]), float(middle[1])), distance)
    return Person(
        proportions, figure, sample_outfit(rng, bold_fronts=difficulty.bold_fronts), camera
    ), pose.activity


def _cut_off(
    rng: np.random.Generator, size: int, focus: float, joints: np.ndarray, unit: Camera
) -> np.ndarray:
    """Place the pelvis so that limbs or the head, but not the torso, are cut off by the edge."""
    places = unit.project(joints) * focus
    torso = np.isin(JOINTS, _TORSO)
    best = np.full(2, size / 2) - places.mean(0)
    for _ in range(40):
        middle = rng.uniform(-0.1, 1.1, 2) * size
        inside = ((places + middle > 2) & (places + middle < size - 2)).all(1)
        if inside[torso].all():
            best = middle
            if 8 <= inside.sum() < len(JOINTS):
                break
    return best


def _sample_stranger(
    rng: np.random.Generator, beside: Person, difficulty: Difficulty, apart: float
) -> Person:
    """Sample another person, ``apart`` or more standing heights to the side of a person."""
    pose = sample_pose(rng, variety=difficulty.pose_variety)
    proportions = sample_proportions(rng)
    turn = camera_rotation(rng.uniform(-180, 180), rng.normal(4, 8), rng.normal() * 8)
    focus = beside.camera.focus * float(rng.uniform(0.55, 1.15))
    side = pick(rng, (-1, 1)) * rng.uniform(apart, apart + 0.35) * beside.camera.focus
    middle = (
        beside.camera.middle[0] + side,
        beside.camera.middle[1] + float(rng.normal()) * 0.12 * focus,
    )
    camera = Camera(focus, middle, float(rng.uniform(3, 8)))
    return Person(
        proportions,
        pose_body(pose, proportions, turn),
        sample_outfit(rng, bold_fronts=difficulty.bold_fronts),
        camera,
    )


def _draw_stray_limb(
    rng: np.random.Generator,
    on: canvas.Canvas,
    beside: Person,
    light: canvas.Light,
    difficulty: Difficulty,
) -> None:
    """Draw an arm or leg of a second person outside the image; its end is near the first person."""
    stranger = _sample_stranger(rng, beside, difficulty, 0.4)
    side = pick(rng, SIDES)
    chain, end = (
        (("upper_arm", "forearm", "hand"), "hand")
        if rng.random() < 0.6
        else (("thigh", "shin", "foot"), "toe")
    )
    joints = beside.camera.project(beside.figure.joints())
    target = joints[rng.integers(len(joints))] + rng.normal(size=2) * 0.12 * beside.camera.focus
    tip = stranger.camera.project(stranger.figure.points[f"{side}_{end}"])
    middle = np.array(stranger.camera.middle) + target - tip
    moved = stranger._replace(camera=stranger.camera._replace(middle=tuple(middle)))
    draw_person(on, moved, light, owner=STRANGER, only=tuple(f"{side}_{part}" for part in chain))


def _develop(rng: np.random.Generator, image: np.ndarray, noise: float) -> np.ndarray:
    """Apply exposure, color cast, blur and noise of a cheap camera; returns uint8."""
    gain = rng.uniform(0.75, 1.2) * (1 + 0.05 * rng.normal(size=3))
    offset = rng.normal() * 8
    image = image * gain.astype(np.float32) + np.float32(offset)
    if rng.random() < 0.35:
        image = canvas.blur(image, float(rng.uniform(0.4, 1.0)))
    canvas.add_noise(rng, image, rng.uniform(0, noise))
    return canvas.to_bytes(image)


def _bounds(owner: np.ndarray) -> np.ndarray:
    columns = np.flatnonzero(owner.any(0))
    rows = np.flatnonzero(owner.any(1))
    x, y = columns[0], rows[0]
    return np.array([x, y, columns[-1] + 1 - x, rows[-1] + 1 - y], np.float32)


def _label(
    rng: np.random.Generator,
    image: np.ndarray,
    owner: np.ndarray,
    person: Person,
    box: np.ndarray,
    activity: str,
) -> Example:
    keypoints = person.camera.project(person.figure.joints())
    height, width = owner.shape
    labeled = ((keypoints >= 0) & (keypoints < (width, height))).all(1)
    size = person.size
    standing = size.thigh + size.shin + 0.045 + size.torso + size.neck + size.head
    scale = float(person.camera.focus * standing)
    middle = box[:2] + box[2:] / 2 + rng.normal(size=2) * 0.015 * scale
    head = person.figure.frames["head"][:2] * np.array(HEAD_SHAPE) * size.head
    zoom = float(person.camera.zoom(person.figure.points["head"]))
    head_diagonal = 2 * float(np.linalg.norm(head)) * zoom
    return Example(
        image=image,
        keypoints=np.where(labeled[:, None], keypoints, 0).astype(np.float32),
        labeled=labeled,
        visible=labeled & visible_joints(owner, person),
        box=box,
        center=(middle - (0, _ABOVE_MIDDLE * scale)).astype(np.float32),
        scale=scale,
        head_size=0.6 * head_diagonal,
        activity=activity,
    )
