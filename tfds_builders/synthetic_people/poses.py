"""Poses of the synthetic people: joint angles drawn around a table of activities.

Angles are in degrees and anatomical. An arm is (flexion: forward and up, abduction: sideways and
up, inward: rotation that carries the forearm across the body, elbow: 0 is straight). A leg is
(flexion: forward and up, abduction: sideways, outward: rotation of the knee and foot outwards,
knee: 0 is straight).
"""

import itertools
from typing import NamedTuple

import numpy as np

from tfds_builders.synthetic_people.chance import pick_weighted


class Activity(NamedTuple):
    """One row of the table: mean angles, and the spread of the people's angles around them.

    ``first`` and ``second`` are the two sides of the body; which one is the right side is random
    for every person. ``tip`` turns the whole body forward about its left-right axis: 90 is lying
    face down, -90 on the back, 180 a headstand. ``level`` is the distance from standing: 0 at rest,
    1 upright with busy arms, 2 sports and sitting, 3 lying and head down.
    """

    spine: tuple[float, float, float]  # forward, sideways, twist
    first_arm: tuple[float, float, float, float]
    second_arm: tuple[float, float, float, float]
    first_leg: tuple[float, float, float, float]
    second_leg: tuple[float, float, float, float]
    spread: float
    tip: float
    level: int


class Pose(NamedTuple):
    """Angles of one person, in degrees.

    Row 0 of ``arms`` and ``legs`` is the right side, row 1 the left. ``spine`` is (forward,
    sideways, twist), ``neck`` (nod, tilt, turn), ``feet`` [2] the extension of the ankles, ``tip``
    the rotation of the whole body about its left-right axis, ``activity`` the name of a row.
    """

    spine: np.ndarray
    neck: np.ndarray
    arms: np.ndarray  # [2, 4]
    legs: np.ndarray  # [2, 4]
    feet: np.ndarray
    tip: float
    activity: str


# spine; first and second arm; first and second leg; spread, tip, level
_TABLE = """
stand           3   0  0    4   9  20  14    4   9 20  14    0  5  6   3    0  5  6   3   9   0  0
stand easy      4   6  8   10  14  45  70    4   9 20  14    6  8 10  14   -4  6  4   2   9   0  0
on hips         2   0  0  -18  48  48  88  -18  48 48  88    2  9  8   4    0  9  8   4   9   0  0
walk            5   0  8   24   6  15  24  -22   7 15  12  -18  3  3  16   26  3  3   8   9   0  0
arms folded     3   0  0   32   8  75 100   32   8 75 100    0  5  6   3    0  5  6   3   9   0  1
phone           8   0  0   38   8  30 125    4   9 20  14    0  5  6   3    8  5  8  15   9   0  1
arms up        -4   0  0  165  12   0  15  165  12  0  15    0  5  6   3    0  5  6   3  13   0  1
cheer          -4   0  0   20 138   0  22   20 138  0  22    0 12  8   5    0 12  8   5  13   0  1
arms spread     0   0  0    5  88   0   8    5  88  0   8    0 14  8   4    0 14  8   4  11   0  1
wave            0   4  0   15 110 -60  70    4   9 20  14    0  5  6   3    0  5  6   3  11   0  1
point           2   0 10   85  15   0   8    4   9 20  14   -6  6  5   4   10  6  6   8  12   0  1
star jump      -4   0  0   10 130   0   8   10 130  0   8    0 36 10   6    0 36 10   6  11   0  1
lunge           6   0 10   36  14  20  68  -22  14 20  48  -24  4  3  26   78  5  3  82  11   0  1
throw           4   8 26   30 100 -72  82   68  42  0  22  -18 10  5  14   36  9  5  30  13   0  1
serve         -12  14 12  150  32   0  42  122  24  0   8  -12  8  5  14   10 10  5  24  12   0  1
box            12   0 22   84   8  10  16   42  14 35 118  -12 10  8  22   24  8  5  28  11   0  1
run            14   0 12   42  10  25  92  -48  12 15  82  -26  4  2  58   58  4  2  72  11   0  2
sprint         22   0 12   62   8  15  85  -58  12 10  75  -34  4  0  30   82  5  0  98  10   0  2
leap            8   0  8   80  40   0  20  -35  50  0  25  -48  8  5  32   72  8  0  24  14   0  2
tuck jump      18   0  0  100  30   0  25  100  30  0  25   88 12  5 105   88 12  5 105  13   0  2
squat          26   0  0   72  10  20  28   72  10 20  28   92 18 14 108   92 18 14 108  11   0  2
crouch         36   0  0   38  12  30  62   38  12 30  62  112 14  8 132   74 10  6 118  12   0  2
kneel           6   0  0   28  10  30  48   14  10 25  30    4  6  4  92   86  8  4  88  10   0  2
sit             4   0  0   26   8  30  55   26   8 30  55   86  9  6  84   86  9  6  84  11   0  2
bend           66   0  8   78  10  10  14   70  14 15  24   22  8  5  16   22  8  5  16  13   0  2
swing          24   6 34   64 -12  18  16   58  10 35  26   14 17  8  24   14 17  8  20  11   0  2
kick          -10  -8 12   30  52   0  24  -32  42  0  28   84 12 10  18   -6  6 10  14  13   0  2
side kick       0 -30  0   30  35  30  78   15  55 10  45   22 84  0  14    0  8 18  12  12   0  2
ballet         -4   4  0   28 124  10  24   34  72 10  24  -58 16 24  12    0  6 30   4  12   0  2
tree            0   0  0  165  20  10  32  165  20 10  32   48 44 38 122    0  5  5   3  10   0  2
ski            34   0  4   38  18  15  62   38  18 15  62   58  6  2  64   54  6  2  60  10   0  2
cycle          44   0  0   68   9   5  22   68   9  5  22   98  5  2  96   42  5  2  44   9   0  2
climb           6   6  0  160  16   0  24  112  32  0  72   78 34 22  88    8 14 10  18  14   0  2
sit on floor   10   0  0  -22  22   0  12   30  14 25  40   84 14  6  18  104 16  8  88  13   0  3
plank           0   0  0   86   8   5   6   86   8  5   6    0  5  2   4    0  5  2   4   8  76  3
lie             4   0  0   20  32  10  30   60  52 10  52    6  9  8  10   34 10  8  44  15 -88  3
fly           -14   0  0  160  16   0  12  150  30  0  18  -10  8  5  12   -6  8  5  24  12  70  3
handstand      -6   0  0  172   8   0   6  172   8  0   6    2 10  4   8    8 12  4  12  12 180  3
somersault     30   0  0   60  14  10  62   60  14 10  62   98  8  4 102   98  8  4 102  13 180  3
"""


def _read(table: str) -> dict[str, Activity]:
    activities = {}
    for line in table.strip().splitlines():
        name = line[:12].strip()
        numbers = [float(number) for number in line[12:].split()]
        groups = [tuple(numbers[start:end]) for start, end in itertools.pairwise(_GROUPS)]
        spread, tip, level = numbers[_GROUPS[-1] :]
        activities[name] = Activity(*groups, spread, tip, int(level))
    return activities


_GROUPS = (0, 3, 7, 11, 15, 19)  # spine, first and second arm, first and second leg
ACTIVITIES = _read(_TABLE)

_WEIGHTS = (2.0, 1.2, 1.1, 0.6)  # how often a row is drawn, by level
_LIMITS = {  # what a body can do: low, high per angle
    "arms": ((-65, 178), (-20, 172), (-85, 85), (0, 148)),
    "legs": ((-62, 125), (-8, 92), (-18, 46), (0, 150)),
    "spine": ((-26, 78), (-34, 34), (-42, 42)),
    "neck": ((-38, 42), (-26, 26), (-66, 66)),
}


def _limited(angles: np.ndarray, part: str) -> np.ndarray:
    low, high = np.array(_LIMITS[part], np.float64).T
    return np.minimum(np.maximum(angles, low), high)


def sample_pose(rng: np.random.Generator, *, variety: float = 1.0, mixed: float = 0.25) -> Pose:
    """Draw one pose.

    Args:
        rng: source of all randomness.
        variety: 0 draws from level 0 alone, 1/3 adds level 1, 2/3 level 2 and 1 the whole table;
            it also scales how far the angles stray.
        mixed: fraction of the people whose arms come from another row than their legs.
    """
    weights = {
        name: _WEIGHTS[row.level] * min(max(3 * variety + 1 - row.level, 0.0), 1.0)
        for name, row in ACTIVITIES.items()
    }
    name, arms_name = pick_weighted(rng, weights), pick_weighted(rng, weights)
    activity = ACTIVITIES[name]
    arms_of = ACTIVITIES[arms_name] if rng.random() < mixed * variety else activity
    stray = activity.spread * (0.35 + 0.65 * variety)

    arms = np.array([arms_of.first_arm, arms_of.second_arm], np.float64)
    legs = np.array([activity.first_leg, activity.second_leg], np.float64)
    spine = np.array(activity.spine, np.float64)
    if rng.random() < 0.5:  # mirror the row: sideways and twist change sign
        spine[1:] *= -1
        legs = legs[::-1]
        arms = arms[::-1]
    arms = arms + rng.normal(size=(2, 4)) * stray * np.array([1.3, 1.2, 1.6, 1.5])
    legs = legs + rng.normal(size=(2, 4)) * stray * np.array([1.0, 0.6, 0.7, 1.0])
    spine = spine + rng.normal(size=3) * stray * np.array([0.6, 0.6, 0.8])
    neck = rng.normal(size=3) * np.array([11, 8, 20]) + np.array([4 - 0.35 * spine[0], 0, 0])
    return Pose(
        spine=_limited(spine, "spine"),
        neck=_limited(neck, "neck"),
        arms=_limited(arms, "arms"),
        legs=_limited(legs, "legs"),
        feet=rng.normal(size=2) * 10 + 0.12 * legs[:, 3] * (legs[:, 0] < 40),
        tip=activity.tip + float(rng.normal()) * stray * 0.5 * (activity.tip != 0),
        activity=name,
    )
