"""The shapes of a person: position, width and texture of every tube and ellipsoid.

All lengths are in standing heights and all places in camera axes, as in body.Figure.
"""

from typing import NamedTuple

import numpy as np

from tfds_builders.synthetic_people.body import SIDES, Camera, Figure, Proportions
from tfds_builders.synthetic_people.wardrobe import Outfit, plain

PARTS = ("trunk", "neck", "head", "skirt", "backpack") + tuple(
    f"{side}_{part}"
    for side in SIDES
    for part in ("upper_arm", "forearm", "hand", "thigh", "shin", "foot")
)
# Half axes of the head (left, up, forward), as fractions of its height.
HEAD_SHAPE = (0.36, 0.54, 0.44)
_NOSE = ((0.0, -0.08, 0.44), (0.05, 0.09, 0.08))  # middle, half axes; same unit
_EAR = ((0.36, -0.03, -0.04), (0.04, 0.10, 0.07))
_BRIM = ((0.0, 0.20, 0.48), (0.28, 0.05, 0.26))
_HAIR = {
    "long": ((0.0, -0.30, -0.26), (0.36, 0.55, 0.20)),
    "tail": ((0.0, -0.20, -0.55), (0.11, 0.42, 0.11)),
    "bun": ((0.0, 0.35, -0.45), (0.18, 0.18, 0.18)),
}


class Person(NamedTuple):
    """A fully specified person, with no randomness left."""

    size: Proportions
    figure: Figure
    outfit: Outfit
    camera: Camera


class Tube(NamedTuple):
    """A limb; see canvas.paint_tube. ``nearer`` pulls it forward in the order of painting."""

    part: str
    ends: np.ndarray  # [2, 3]
    frame: np.ndarray
    half_width: float
    half_depth: float
    texture: np.ndarray
    profile: str
    nearer: float = 0.0
    cap: float = 1.0

    @property
    def middle(self) -> np.ndarray:
        return (self.ends[0] + self.ends[1]) / 2


class Ellipsoid(NamedTuple):
    """See canvas.paint_ellipsoid."""

    part: str
    middle: np.ndarray  # [3]
    frame: np.ndarray
    half_axes: np.ndarray
    texture: np.ndarray
    nearer: float = 0.0


def shapes(person: Person) -> list[Tube | Ellipsoid]:
    """Return all shapes of a person, in no particular order."""
    found = _trunk(person) + _head(person)
    for row, side in enumerate(SIDES):
        found += _arm(person, row, side) + _leg(person, row, side)
    if person.outfit.skirt is not None:
        found.append(_skirt(person))
    return found


def _arm(person: Person, row: int, side: str) -> list[Tube | Ellipsoid]:
    size, (points, frames), outfit, _ = person
    shoulder, elbow, wrist = (points[f"{side}_{j}"] for j in ("shoulder", "elbow", "wrist"))
    upper, fore = f"{side}_upper_arm", f"{side}_forearm"
    wide = size.arm_radius * outfit.loose_arms
    sleeve = "baggy" if outfit.loose_arms > 1.12 else "forearm"
    ends, texture = np.stack([shoulder, elbow]), outfit.upper_arms[row]
    lower_ends, lower_texture = np.stack([elbow, wrist]), outfit.forearms[row]
    hand = np.array((0.017, 0.046, 0.030))
    return [
        Tube(upper, ends, frames[upper], 1.12 * wide, 1.12 * wide, texture, "upper_arm", 0.03),
        Tube(
            fore, lower_ends, frames[fore], 0.92 * wide, 0.92 * wide, lower_texture, sleeve, 0.035
        ),
        Ellipsoid(f"{side}_hand", points[f"{side}_hand"], frames[fore], hand, outfit.hands, 0.034),
    ]


def _leg(person: Person, row: int, side: str) -> list[Tube | Ellipsoid]:
    size, (points, frames), outfit, _ = person
    hip, knee, ankle = (points[f"{side}_{j}"] for j in ("hip", "knee", "ankle"))
    thigh, shin, foot = f"{side}_thigh", f"{side}_shin", f"{side}_foot"
    wide = size.leg_radius * outfit.loose_legs
    loose = outfit.loose_legs > 1.15
    ends, texture = np.stack([hip, knee]), outfit.thighs[row]
    lower_ends, lower_texture = np.stack([knee, ankle]), outfit.shins[row]
    upper_leg, lower_leg = ("baggy", "baggy") if loose else ("thigh", "shin")
    sole = ankle + frames[foot] @ (0.0, -0.020, 0.038)
    shoe = np.array((0.027, 0.027, 0.074))
    return [
        Tube(thigh, ends, frames[thigh], 1.18 * wide, 1.22 * wide, texture, upper_leg),
        Tube(
            shin,
            lower_ends,
            frames[shin],
            0.80 * wide,
            0.84 * wide,
            lower_texture,
            lower_leg,
            0.005,
        ),
        Ellipsoid(foot, sole, frames[foot], shoe, outfit.shoes, 0.004),
    ]


def _trunk(person: Person) -> list[Tube | Ellipsoid]:
    """Make belly and chest (both from the top down, like the texture) and the shoulders' slope."""
    size, (points, frames), outfit, _ = person
    chest, belly = frames["chest"], frames["belly"]
    half = len(outfit.trunk) // 2
    waist = np.stack([points["spine"], points["pelvis"] - belly[:, 1] * 0.02])
    ribs = np.stack([points["thorax"] - chest[:, 1] * 0.035, points["spine"] - chest[:, 1] * 0.01])
    shoulders = np.stack([points["right_shoulder"], points["left_shoulder"]])
    across = shoulders[1] - shoulders[0]
    yoke_frame = np.column_stack([-chest[:, 1], across / np.linalg.norm(across), chest[:, 2]])
    # around the yoke: from the back over the top (which is on its "right") to the front
    columns = outfit.trunk.shape[1]  # beside the collar, in front of it and behind it
    behind, before = (outfit.trunk[2:6, columns * part // 16].mean(0) for part in (2, 10))
    yoke = np.stack([behind, before, before, behind])[None].repeat(3, 1)
    wide = size.arm_radius
    found: list[Tube | Ellipsoid] = [
        Tube(
            "trunk", waist, belly, size.belly_width, size.belly_depth, outfit.trunk[half:],
            "hips", 0.0, 0.55,
        ),
        Tube(
            "trunk", ribs, chest, size.chest_width, size.chest_depth, outfit.trunk[:half],
            "ribs", 0.001, 0.5,
        ),
        Tube(
            "trunk", shoulders, yoke_frame, 1.25 * wide, 1.3 * wide, yoke, "straight", 0.0005
        ),
    ]  # fmt: skip
    if outfit.backpack is not None:
        middle = (points["thorax"] + points["spine"]) / 2 - chest[:, 2] * (size.chest_depth + 0.05)
        ends = np.stack([middle + chest[:, 1] * 0.07, middle - chest[:, 1] * 0.10])
        pack = outfit.backpack
        found.append(Tube("backpack", ends, chest, 0.085, 0.06, pack, "straight", 0.0, 0.5))
    return found


def _head(person: Person) -> list[Tube | Ellipsoid]:
    size, (points, frames), outfit, _ = person
    head, unit = frames["head"], size.head
    skin = plain(outfit.skin)

    def on_head(shape, texture, nearer, sign=1) -> Ellipsoid:
        place, half_axes = np.array(shape) * unit
        place = points["head"] + head @ (place * (sign, 1, 1))
        return Ellipsoid("head", place, head, half_axes, texture, nearer)

    ends = np.stack([
        points["upper_neck"] + 0.02 * head[:, 1],
        points["thorax"] - 0.01 * frames["chest"][:, 1],
    ])  # fmt: skip
    found: list[Tube | Ellipsoid] = [
        Tube("neck", ends, frames["neck"], 0.034, 0.034, outfit.neck, "horn", 0.002, 0.6),
        on_head(((0, 0, 0), HEAD_SHAPE), outfit.head, 0.01),
        on_head(_NOSE, skin, 0.012),
    ]
    if outfit.hair_style != "long":
        found += [on_head(_EAR, skin, 0.008, sign) for sign in (-1, 1)]
    if outfit.brim is not None:
        found.append(on_head(_BRIM, outfit.brim, 0.014))
    if outfit.hair is not None:
        found.append(on_head(_HAIR[outfit.hair_style], outfit.hair, 0.005))
    return found


def _skirt(person: Person) -> Tube:
    """Make a cone from the waist to a hem that is wide enough for both legs."""
    size, (points, frames), outfit, _ = person
    length = outfit.skirt_length
    hems = np.array([
        points[f"{side}_hip"]
        + (points[f"{side}_knee"] - points[f"{side}_hip"]) * min(length, 1.0)
        + (points[f"{side}_ankle"] - points[f"{side}_knee"]) * max(length - 1.0, 0.0)
        for side in SIDES
    ])  # fmt: skip
    hem = hems.mean(0)
    half = float(np.linalg.norm(hems[1] - hems[0])) / 2 + 1.3 * size.leg_radius
    depth = max(half * 0.7, size.leg_radius * 1.5)
    ends = np.stack([points["pelvis"] + 0.02 * frames["root"][:, 1], hem])
    nearer = float(hem[2] - hems[:, 2].min()) + 0.02
    return Tube(
        "skirt", ends, frames["root"], half, depth, outfit.skirt, "skirt", nearer, 0.25
    )  # fmt: skip
