"""A body: proportions, forward kinematics and the camera, all in three dimensions.

Body axes: x to the person's LEFT, y up, z to where the chest points; lengths are fractions of the
standing height. Camera axes: x to the right of the image, y down, z away from the viewer. Seen
from the front, the person's left is on the right of the image.
"""

from typing import NamedTuple

import numpy as np

from tfds_builders import joints
from tfds_builders.synthetic_people.poses import Pose

JOINTS = joints.MPII.joints
SIDES = ("right", "left")


class Proportions(NamedTuple):
    """Lengths and half widths as fractions of the standing height."""

    thigh: float
    shin: float
    hip: float  # half the distance between the hips
    torso: float  # pelvis to thorax
    shoulder: float  # half the distance between the shoulders
    upper_arm: float
    forearm: float
    neck: float
    head: float  # upper neck to head top
    chest_width: float  # half widths and half depths of cross-sections
    chest_depth: float
    belly_width: float
    belly_depth: float
    arm_radius: float
    leg_radius: float


def sample_proportions(rng: np.random.Generator) -> Proportions:
    """Draw an adult or, one time in seven, a child; slim to stout."""
    child = rng.random() < 0.14
    stout = float(np.clip(rng.normal(0.0, 1.0), -1.6, 2.4))
    broad = float(rng.normal(0.0, 1.0))
    vary = 1.0 + 0.045 * np.clip(rng.normal(size=9), -2, 2)
    legs = 0.92 if child else 1.0
    size = 1.0 + 0.09 * stout
    return Proportions(
        thigh=0.245 * legs * vary[0],
        shin=0.240 * legs * vary[1],
        hip=0.056 * vary[2] * (1 + 0.03 * stout),
        torso=0.300 * vary[3],
        shoulder=(0.116 if not child else 0.105) * vary[4] * (1 + 0.04 * broad),
        upper_arm=0.168 * legs * vary[5],
        forearm=0.145 * legs * vary[6],
        neck=0.058 * vary[7],
        head=(0.172 if child else 0.132) * vary[8],
        chest_width=0.098 * size * (1 + 0.05 * broad),
        chest_depth=0.068 * size,
        belly_width=0.088 * (1 + 0.13 * stout),
        belly_depth=0.066 * (1 + 0.18 * stout),
        arm_radius=0.0275 * (1 + 0.12 * stout) * (1.08 if child else 1.0),
        leg_radius=0.0470 * (1 + 0.12 * stout) * (1.08 if child else 1.0),
    )


class Figure(NamedTuple):
    """A posed body in camera axes. The pelvis is the origin; lengths are in standing heights.

    ``points`` maps names (the joints, and ``spine``, ``head``, ``right_hand``, ``right_toe``, ...)
    to [3]; ``frames`` maps body parts to [3, 3] whose columns are the part's left, up and forward.
    A limb's up points along the limb toward the trunk.
    """

    points: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]

    def joints(self) -> np.ndarray:
        """Return [16, 3], in the order of ``JOINTS``."""
        return np.array([self.points[name] for name in JOINTS])


def _turn(axis: int, degrees: float) -> np.ndarray:
    """Return the rotation matrix about axis 0 (left), 1 (up) or 2 (forward)."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j] = -s
    matrix[j, i] = s
    return matrix


def camera_rotation(yaw: float, elevation: float, roll: float) -> np.ndarray:
    """Return the rotation [3, 3] from body axes to camera axes.

    ``yaw`` 0 sees the person from the front, 180 from behind, +90 turns the person's chest to the
    right of the image; ``elevation`` looks down from above; ``roll`` turns the image clockwise.
    """
    to_camera = np.diag([1.0, -1.0, -1.0])
    return _turn(2, roll) @ _turn(0, elevation) @ to_camera @ _turn(1, yaw)


def pose_body(pose: Pose, size: Proportions, camera: np.ndarray) -> Figure:
    """Compute forward kinematics; ``camera`` is [3, 3] from body to camera axes."""
    forwards, sideways, twist = pose.spine
    root = camera @ _turn(0, pose.tip)

    def bent(fraction: float) -> np.ndarray:
        return root @ (
            _turn(1, twist * fraction)
            @ _turn(2, sideways * fraction)
            @ _turn(0, forwards * fraction)
        )

    belly, chest = bent(0.45), bent(1.0)
    nod, tilt, turn = pose.neck
    neck = chest @ _turn(1, turn * 0.4) @ _turn(2, tilt * 0.5) @ _turn(0, 14 + nod * 0.5)
    head = chest @ _turn(1, turn) @ _turn(2, tilt) @ _turn(0, nod)
    frames = {"root": root, "belly": belly, "chest": chest, "neck": neck, "head": head}

    points = {"pelvis": np.zeros(3)}
    points["spine"] = belly @ (0, 0.46 * size.torso, 0)
    points["thorax"] = points["spine"] + chest @ (0, 0.54 * size.torso, 0)
    points["upper_neck"] = points["thorax"] + neck @ (0, size.neck, 0)
    points["head"] = points["upper_neck"] + head @ (0, 0.50 * size.head, 0.16 * size.head)
    points["head_top"] = points["upper_neck"] + head @ (0, size.head, 0.10 * size.head)

    for row, (side, sign) in enumerate(zip(SIDES, (-1.0, 1.0), strict=True)):
        flexion, abduction, inward, elbow = pose.arms[row]
        local = _turn(0, -flexion) @ _turn(2, sign * abduction) @ _turn(1, -sign * inward)
        raised = 0.5 - 0.5 * local[1, 1]  # 0: the arm hangs, 1: it points up
        upper = chest @ local
        fore = upper @ _turn(0, -elbow)
        shoulder = points["thorax"] + chest @ (
            sign * size.shoulder * (1 - 0.12 * raised),
            -0.022 + 0.045 * raised,
            0.0,
        )
        points[f"{side}_shoulder"] = shoulder
        points[f"{side}_elbow"] = shoulder - size.upper_arm * upper[:, 1]
        points[f"{side}_wrist"] = points[f"{side}_elbow"] - size.forearm * fore[:, 1]
        points[f"{side}_hand"] = points[f"{side}_wrist"] - 0.045 * fore[:, 1]
        frames[f"{side}_upper_arm"], frames[f"{side}_forearm"] = upper, fore

        flexion, abduction, outward, knee = pose.legs[row]
        thigh = root @ (_turn(0, -flexion) @ _turn(2, sign * abduction) @ _turn(1, sign * outward))
        shin = thigh @ _turn(0, knee)
        foot = shin @ _turn(0, pose.feet[row])
        points[f"{side}_hip"] = root @ (sign * size.hip, -0.012, 0.0)
        points[f"{side}_knee"] = points[f"{side}_hip"] - size.thigh * thigh[:, 1]
        points[f"{side}_ankle"] = points[f"{side}_knee"] - size.shin * shin[:, 1]
        points[f"{side}_toe"] = points[f"{side}_ankle"] + foot @ (0, -0.03, 0.085)
        frames[f"{side}_thigh"], frames[f"{side}_shin"] = thigh, shin
        frames[f"{side}_foot"] = foot
    return Figure(points, frames)


class Camera(NamedTuple):
    """Perspective camera.

    Attributes:
        focus: pixels per standing height at the pelvis.
        middle: (x, y) of the pelvis in the image, in pixels.
        distance: from the camera to the pelvis, in standing heights.
    """

    focus: float
    middle: tuple[float, float]
    distance: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project [..., 3] in camera axes to [..., 2] pixels (continuous, x and y)."""
        return points[..., :2] * self.zoom(points)[..., None] + np.asarray(self.middle)

    def zoom(self, points: np.ndarray) -> np.ndarray:
        """Return the pixels per standing height at the depth of points [..., 3]."""
        return self.focus * self.distance / np.maximum(self.distance + points[..., 2], 0.3)
