"""Draws one person, part by part from the farthest to the nearest, and reads off what is visible.

Every part of a person owns the pixels that it covers. A joint is visible if its own pixel belongs
to a part that meets there; clothes and hair count as the part below them, as in MPII.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfds_builders.synthetic_people import canvas
from tfds_builders.synthetic_people.body import JOINTS, SIDES, Camera, Figure, Proportions
from tfds_builders.synthetic_people.canvas import Canvas, Light
from tfds_builders.synthetic_people.wardrobe import Outfit

PARTS = ("trunk", "neck", "head", "skirt", "backpack") + tuple(
    f"{side}_{part}"
    for side in SIDES
    for part in ("upper_arm", "forearm", "hand", "thigh", "shin", "foot")
)
OWNERS = {part: number for number, part in enumerate(PARTS, start=1)}
STRANGER = 200  # owner of everything that is drawn over the background and is not the person

# Parts that show a joint when they own its pixel. The trunk shows shoulders and hips only when the
# joint is not behind it (a far shoulder seen from the side is hidden by the chest).
_SHOWN_BY = {
    "pelvis": ("trunk", "skirt", "right_thigh", "left_thigh"),
    "thorax": ("trunk", "neck", "head"),
    "upper_neck": ("neck", "head", "trunk"),
    "head_top": ("head",),
}
for _side in SIDES:
    _SHOWN_BY[f"{_side}_shoulder"] = (f"{_side}_upper_arm", "trunk")
    _SHOWN_BY[f"{_side}_elbow"] = (f"{_side}_upper_arm", f"{_side}_forearm")
    _SHOWN_BY[f"{_side}_wrist"] = (f"{_side}_forearm", f"{_side}_hand")
    _SHOWN_BY[f"{_side}_hip"] = (f"{_side}_thigh", "trunk", "skirt")
    _SHOWN_BY[f"{_side}_knee"] = (f"{_side}_thigh", f"{_side}_shin", "skirt")
    _SHOWN_BY[f"{_side}_ankle"] = (f"{_side}_shin", f"{_side}_foot")
_BEHIND = 0.6  # of half the shoulders' or the hips' distance


class Person(NamedTuple):
    """What is needed to draw someone, without any randomness left."""

    size: Proportions
    figure: Figure
    outfit: Outfit
    camera: Camera


def draw_person(
    on: Canvas, person: Person, light: Light, *, owner: int | None = None, only: tuple = ()
) -> None:
    """Draws a person in place.

    Args:
        on: the canvas.
        person: who.
        light: see canvas.Light.
        owner: number for all their pixels; None: each part its own, from OWNERS.
        only: names of parts; the others are left out. Empty: all.
    """
    for _, part, draw in sorted(_parts(person), key=lambda item: -item[0]):
        if not only or part in only:
            draw(on, light, OWNERS[part] if owner is None else owner)


def visible_joints(owner: np.ndarray, person: Person) -> np.ndarray:
    """[16] bool: the joint lies in the picture and a part that meets there owns its pixel."""
    points = person.figure.points
    places = person.camera.project(person.figure.joints())
    hidden_from = {  # depth beyond which the trunk is in the way
        "shoulder": points["thorax"][2] + _BEHIND * person.size.shoulder,
        "hip": points["pelvis"][2] + _BEHIND * person.size.hip,
    }
    height, width = owner.shape
    visible = np.zeros(len(JOINTS), bool)
    for number, (joint, (x, y)) in enumerate(zip(JOINTS, places, strict=True)):
        if not (0 <= x < width and 0 <= y < height):
            continue
        shown_by = _SHOWN_BY[joint]
        kind = joint.split("_")[-1]
        if points[joint][2] > hidden_from.get(kind, np.inf):
            shown_by = tuple(part for part in shown_by if part not in ("trunk", "skirt"))
        visible[number] = owner[int(y), int(x)] in [OWNERS[part] for part in shown_by]
    return visible


Draw = Callable[[Canvas, Light, int], None]


def _parts(person: Person) -> list[tuple[float, str, Draw]]:
    """(depth, part, what draws it) of everything the person consists of."""
    size, figure, outfit, camera = person
    points, frames = figure.points, figure.frames
    parts: list[tuple[float, str, Draw]] = []

    def tube(part, ends, frame, half_width, half_depth, texture, profile, nearer=0.0, cap=1.0):
        line = np.array(ends)
        middle = line.mean(0)
        zoom = float(camera.zoom(middle))

        def draw(on: Canvas, light: Light, owner: int) -> None:
            canvas.paint_tube(
                on,
                camera.project(line),
                frame,
                half_width * zoom,
                half_depth * zoom,
                texture,
                light,
                profile=profile,
                owner=owner,
                cap=cap,
            )

        parts.append((middle[2] - nearer, part, draw))

    def ellipsoid(part, middle, frame, half_axes, texture, nearer=0.0):
        pixels = np.array(half_axes) * float(camera.zoom(middle))

        def draw(on: Canvas, light: Light, owner: int) -> None:
            canvas.paint_ellipsoid(
                on, camera.project(middle), frame, pixels, texture, light, owner=owner
            )

        parts.append((middle[2] - nearer, part, draw))

    _trunk(person, tube)
    _head(person, tube, ellipsoid)
    arm, leg = size.arm_radius, size.leg_radius
    for row, side in enumerate(SIDES):
        shoulder, elbow, wrist = (points[f"{side}_{j}"] for j in ("shoulder", "elbow", "wrist"))
        hip, knee, ankle = (points[f"{side}_{j}"] for j in ("hip", "knee", "ankle"))
        sleeve, trouser = outfit.loose_arms, outfit.loose_legs
        tube(
            f"{side}_upper_arm",
            (shoulder, elbow),
            frames[f"{side}_upper_arm"],
            arm * 1.12 * sleeve,
            arm * 1.12 * sleeve,
            outfit.upper_arms[row],
            "upper_arm",
            0.03,
        )
        tube(
            f"{side}_forearm",
            (elbow, wrist),
            frames[f"{side}_forearm"],
            arm * 0.92 * sleeve,
            arm * 0.92 * sleeve,
            outfit.forearms[row],
            "forearm" if sleeve < 1.12 else "baggy",
            0.035,
        )
        ellipsoid(
            f"{side}_hand",
            points[f"{side}_hand"],
            frames[f"{side}_forearm"],
            (0.017, 0.046, 0.030),
            outfit.hands,
            0.034,
        )
        tube(
            f"{side}_thigh",
            (hip, knee),
            frames[f"{side}_thigh"],
            leg * 1.18 * trouser,
            leg * 1.22 * trouser,
            outfit.thighs[row],
            "thigh" if trouser < 1.15 else "baggy",
        )
        tube(
            f"{side}_shin",
            (knee, ankle),
            frames[f"{side}_shin"],
            leg * 0.80 * trouser,
            leg * 0.84 * trouser,
            outfit.shins[row],
            "shin" if trouser < 1.15 else "baggy",
            0.005,
        )
        foot = frames[f"{side}_foot"]
        middle = ankle + foot @ (0.0, -0.020, 0.038)
        ellipsoid(f"{side}_foot", middle, foot, (0.027, 0.027, 0.074), outfit.shoes, 0.004)
    if outfit.skirt is not None:
        _skirt(person, tube)
    return parts


def _trunk(person: Person, tube: Callable) -> None:
    size, figure, outfit, _ = person
    points, frames = figure.points, figure.frames
    chest, belly = frames["chest"], frames["belly"]
    rows = len(outfit.trunk)
    half = rows // 2
    # both tubes run downwards, as the texture does
    tube(
        "trunk",
        (points["spine"], points["pelvis"] - belly[:, 1] * 0.02),
        belly,
        size.belly_width,
        size.belly_depth,
        outfit.trunk[half:],
        "hips",
        0.0,
        0.55,
    )
    top = points["thorax"] - chest[:, 1] * 0.035
    bottom = points["spine"] - chest[:, 1] * 0.01
    tube(
        "trunk",
        (top, bottom),
        chest,
        size.chest_width,
        size.chest_depth,
        outfit.trunk[:half],
        "ribs",
        0.001,
        0.5,
    )
    # the shoulders' slope, from armpit to armpit
    shoulders = np.array([points["right_shoulder"], points["left_shoulder"]])
    across = shoulders[1] - shoulders[0]
    frame = np.column_stack([-chest[:, 1], across / np.linalg.norm(across), chest[:, 2]])
    yoke = outfit.trunk[2:6, [0, 32]]  # behind, in front
    yoke = np.repeat(yoke.mean(0)[None], 4, 0)
    yoke = np.stack([yoke[:, 0], yoke[:, 1]], 1)
    wrapped = np.repeat(yoke[:, [0, 1, 1, 0]], 3, 1)
    tube(
        "trunk",
        shoulders,
        frame,
        size.arm_radius * 1.25,
        size.arm_radius * 1.3,
        wrapped,
        "straight",
        0.0005,
        1.0,
    )
    if outfit.backpack is not None:
        middle = (points["thorax"] + points["spine"]) / 2 - chest[:, 2] * (size.chest_depth + 0.05)
        ends = (middle + chest[:, 1] * 0.07, middle - chest[:, 1] * 0.10)
        tube("backpack", ends, chest, 0.085, 0.06, outfit.backpack, "straight", 0.0, 0.5)


def _head(person: Person, tube: Callable, ellipsoid: Callable) -> None:
    size, figure, outfit, _ = person
    points, frames = figure.points, figure.frames
    head, chest = frames["head"], frames["chest"]
    middle, unit = points["head"], size.head
    tube(
        "neck",
        (points["upper_neck"] + 0.02 * head[:, 1], points["thorax"] - 0.01 * chest[:, 1]),
        frames["neck"],
        0.034,
        0.034,
        outfit.neck,
        "horn",
        0.002,
        0.6,
    )
    ellipsoid("head", middle, head, (0.36 * unit, 0.54 * unit, 0.44 * unit), outfit.head, 0.01)
    nose = middle + head @ np.array((0.0, -0.08, 0.44)) * unit
    ellipsoid(
        "head",
        nose,
        head,
        (0.05 * unit, 0.09 * unit, 0.08 * unit),
        outfit.hands * 0 + outfit.skin * 1.02,
        0.012,
    )
    for sign in (-1, 1):
        ear = middle + head @ np.array((sign * 0.36, -0.03, -0.04)) * unit
        if outfit.hair_style != "long":
            ellipsoid(
                "head",
                ear,
                head,
                (0.04 * unit, 0.10 * unit, 0.07 * unit),
                outfit.hands * 0 + outfit.skin * 0.9,
                0.008,
            )
    if outfit.brim is not None:
        brim = middle + head @ np.array((0.0, 0.20, 0.48)) * unit
        ellipsoid("head", brim, head, (0.28 * unit, 0.05 * unit, 0.26 * unit), outfit.brim, 0.014)
    if outfit.hair is None:
        return
    if outfit.hair_style == "long":
        place, axes = (0.0, -0.30, -0.26), (0.36, 0.55, 0.20)
    elif outfit.hair_style == "tail":
        place, axes = (0.0, -0.20, -0.55), (0.11, 0.42, 0.11)
    else:
        place, axes = (0.0, 0.35, -0.45), (0.18, 0.18, 0.18)
    hair = middle + head @ np.array(place) * unit
    ellipsoid("head", hair, head, tuple(axis * unit for axis in axes), outfit.hair, 0.005)


def _skirt(person: Person, tube: Callable) -> None:
    size, figure, outfit, _ = person
    points, frames = figure.points, figure.frames
    hems = []
    for side in SIDES:
        hip, knee, ankle = (points[f"{side}_{joint}"] for joint in ("hip", "knee", "ankle"))
        share = outfit.skirt_length
        on_leg = hip + (knee - hip) * min(share, 1.0) + (ankle - knee) * max(share - 1.0, 0.0)
        hems.append(on_leg)
    hem = (hems[0] + hems[1]) / 2
    half = float(np.linalg.norm(hems[1] - hems[0])) / 2 + 1.3 * size.leg_radius
    nearest = max(0.0, (hem[2] - min(hems[0][2], hems[1][2]))) + 0.02
    tube(
        "skirt",
        (points["pelvis"] + 0.02 * frames["root"][:, 1], hem),
        frames["root"],
        half,
        max(half * 0.7, size.leg_radius * 1.5),
        outfit.skirt,
        "skirt",
        nearest,
        0.25,
    )
