"""Draw one person, from the farthest part to the nearest, and determine the visible joints.

Every part of a person owns the pixels that it covers. A joint is visible if the pixel at its
position belongs to a part that is adjacent to the joint. Clothes and hair count as the part below
them, as in MPII.
"""

import numpy as np

from tfds_builders.synthetic_people import canvas
from tfds_builders.synthetic_people.anatomy import PARTS, Person, Tube, shapes
from tfds_builders.synthetic_people.body import JOINTS, SIDES
from tfds_builders.synthetic_people.canvas import Canvas, Light

OWNERS = {part: number for number, part in enumerate(PARTS, start=1)}
STRANGER = 200  # owner of everything that is drawn over the background and is not the person

# A joint is visible if one of these parts owns its pixel. The trunk counts for shoulders and hips
# only if the joint is not behind it (seen from the side, the chest hides the far shoulder).
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
_BEHIND = 0.6  # fraction of half the distance between the shoulders or the hips


def draw_person(
    on: Canvas, person: Person, light: Light, *, owner: int | None = None, only: tuple = ()
) -> None:
    """Draw a person in place.

    Args:
        on: the canvas.
        person: the person to draw.
        light: see canvas.Light.
        owner: number for all pixels of the person; None for one number per part, from OWNERS.
        only: names of the parts to draw; () for all.
    """
    camera = person.camera
    drawn = [shape for shape in shapes(person) if not only or shape.part in only]
    for shape in sorted(drawn, key=lambda shape: shape.nearer - shape.middle[2]):
        number = OWNERS[shape.part] if owner is None else owner
        zoom = float(camera.zoom(shape.middle))
        if isinstance(shape, Tube):
            canvas.paint_tube(
                on,
                camera.project(shape.ends),
                shape.frame,
                shape.half_width * zoom,
                shape.half_depth * zoom,
                shape.texture,
                light,
                profile=shape.profile,
                owner=number,
                cap=shape.cap,
            )
        else:
            canvas.paint_ellipsoid(
                on,
                camera.project(shape.middle),
                shape.frame,
                shape.half_axes * zoom,
                shape.texture,
                light,
                owner=number,
            )


def visible_joints(owner: np.ndarray, person: Person) -> np.ndarray:
    """Return bool [16]: the joint is in the image and an adjacent part owns its pixel."""
    points = person.figure.points
    places = person.camera.project(person.figure.joints())
    hidden_from = {  # depth beyond which the trunk hides the joint
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
