"""Persons followed from frame to frame: where to look next, and a filter against jitter.

A person is looked for around where the frame before had it. The filter is the One-Euro filter
(Casiez, Roussel, Vogel 2012): a low pass whose cutoff rises with the speed, so that a joint at
rest does not tremble and a fast one does not lag.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose.predict.boxes import FEWEST_SURE, SURE, box_around, check_boxes
from jaxpose.predict.estimator import PoseEstimator, Prediction

MOST_CHANGE = 0.1  # of a box's side from one frame to the next
SPEED_CUTOFF = 1.0  # Hz, of the speed's own low pass
SPEED_SHARE = 6.0  # Hz by which the cutoff rises for one box side a second


class Filtered(NamedTuple):
    """State of the filter of J joints.

    Attributes:
      time: seconds, of the frame that it saw last.
      points: [J, 2] filtered, in pixels.
      speed: [J, 2], filtered, in pixels a second.
    """

    time: float
    points: np.ndarray
    speed: np.ndarray


class Track(NamedTuple):
    """A person that is followed.

    Attributes:
      box: float64 [4], where to look in the next frame; None: in the whole frame.
      given: whether the box came from a person; then it stays where the person was lost.
      filtered: of its joints, if they are smoothed.
    """

    box: np.ndarray | None = None
    given: bool = False
    filtered: Filtered | None = None


def tracks_of(boxes: Sequence[Sequence[float]] | None) -> list[Track]:
    """One track a box; without boxes, one person somewhere in the frame."""
    if boxes is None:
        return [Track()]
    return [Track(box=box, given=True) for box in check_boxes(boxes)]


def follow(
    estimator: PoseEstimator,
    frame: np.ndarray,
    tracks: Sequence[Track],
    time: float,
    *,
    smooth: float | None = None,
    **options: Any,
) -> tuple[list[Track], Prediction]:
    """The next frame of a video.

    Args:
      estimator: finds the keypoints.
      frame: uint8 [H, W, 3].
      tracks: N persons, of `tracks_of` or of the frame before.
      time: seconds, of the frame.
      smooth: cutoff of the filter for a joint at rest, in Hz; the lower the calmer. None: no
        filter.
      options: `flip_test`, `num_crops` of `PoseEstimator.predict`.

    Returns:
      (the N tracks for the next frame, the frame's prediction in the tracks' order).
    """
    known = [i for i, track in enumerate(tracks) if track.box is not None]
    found = estimator.predict(frame, [tracks[i].box for i in known], **options)
    rows = {i: _row(found, n) for n, i in enumerate(known)}
    following = []
    for i, track in enumerate(tracks):
        lost = i not in rows or _lost(rows[i])
        if lost and not track.given:
            rows[i] = _row(estimator.predict(frame, **options), 0)
            track = Track()
        keypoints, confidence, box = rows[i]
        filtered = None
        if smooth is not None:
            filtered = _filter(track.filtered, keypoints, time, smooth, max(box[2:]))
            rows[i] = filtered.points, confidence, box
        if _lost((keypoints, confidence, box)):
            # A given box waits where it is; else the whole frame is looked at again.
            following.append(track._replace(filtered=None))
        else:
            size = frame.shape[1], frame.shape[0]
            box = _next_box(box_around(keypoints, confidence, size), track.box)
            following.append(track._replace(box=box, filtered=filtered))
    shape = (len(tracks), len(estimator.joints))
    prediction = Prediction(
        np.array([rows[i][0] for i in range(len(tracks))], np.float64).reshape(*shape, 2),
        np.array([rows[i][1] for i in range(len(tracks))], np.float32).reshape(shape),
        np.array([rows[i][2] for i in range(len(tracks))], np.float64).reshape(-1, 4),
        estimator.joints,
    )
    return following, prediction


def _row(found: Prediction, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return found.keypoints[n], found.confidence[n], found.boxes[n]


def _lost(row: tuple[np.ndarray, np.ndarray, np.ndarray]) -> bool:
    """Whether too few joints seem to be there, or they have shrunk to a point."""
    keypoints, confidence, box = row
    sure = confidence >= SURE
    if sure.sum() < min(FEWEST_SURE, len(sure)):
        return True
    return np.ptp(keypoints[sure], axis=0).max() < 0.1 * max(box[2:])


def _next_box(found: np.ndarray | None, before: np.ndarray | None) -> np.ndarray | None:
    """The box around the joints, whose size changes gently: crops that breathe make joints jump."""
    if found is None or before is None:
        return found if before is None else before
    center = found[:2] + found[2:] / 2
    side, old = max(found[2:]), max(before[2:])
    factor = np.clip(side, old * (1 - MOST_CHANGE), old * (1 + MOST_CHANGE)) / side
    size = factor * found[2:]
    return np.concatenate([center - size / 2, size])


def _filter(
    before: Filtered | None, points: np.ndarray, time: float, cutoff: float, side: float
) -> Filtered:
    """One step of the One-Euro filter; speeds count in box sides a second."""
    if before is None or time <= before.time:
        return Filtered(time, points, np.zeros_like(points))
    passed = time - before.time
    speed = (points - before.points) / passed
    speed = before.speed + _weight(SPEED_CUTOFF, passed) * (speed - before.speed)
    sides = np.linalg.norm(speed, axis=-1, keepdims=True) / side
    weight = _weight(cutoff + SPEED_SHARE * sides, passed)
    return Filtered(time, before.points + weight * (points - before.points), speed)


def _weight(cutoff, passed: float):
    """Share of the new value in a low pass of first order."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff * passed))
