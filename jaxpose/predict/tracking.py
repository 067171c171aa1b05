"""Persons followed from frame to frame: where to look next, and a filter against jitter.

A person is predicted from the box of the previous frame. Tracking drifts, so the full frame is
re-detected periodically, and whenever the joints become less probable; the more probable of the two
predictions is kept. (On 12 images of LSP, moved and enlarged over 50 frames, re-detection reduced
the median error from 0.17 to 0.06 of the person's size, for a sixth more predictions.)

The filter is the One-Euro filter (Casiez, Roussel, Vogel 2012): a low pass whose cutoff rises with
the speed, so that a joint at rest does not tremble and a fast one does not lag.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose.predict.boxes import MIN_CONFIDENCE, MIN_CONFIDENT_JOINTS, box_around, check_boxes
from jaxpose.predict.estimator import PoseEstimator, Prediction

MAX_SIDE_CHANGE = 0.1  # of a box's side from one frame to the next
REDETECT_INTERVAL = 10  # frames
REDETECT_BELOW = 0.5  # mean probability of the joints, and as a fraction of the best one so far:
REDETECT_BELOW_BEST = 0.9
BEST_SCORE_DECAY = 0.01  # of that best one in a frame
REDETECT_SCALE = 1.8  # a given box's wider look, in its sides
MAX_JUMP = 0.5  # box sides that joints move to be somebody else's, as far as the filter knows
SPEED_CUTOFF = 1.0  # Hz, of the speed's own low pass
CUTOFF_SLOPE = 6.0  # Hz by which the cutoff rises for one box side a second


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
      given: whether the box came from a person; then nobody is looked for far from it.
      best: the highest mean probability of the joints so far, slowly forgotten.
      age: frames.
      filtered: of its joints, if they are smoothed.
    """

    box: np.ndarray | None = None
    given: bool = False
    best: float = 0.0
    age: int = 0
    filtered: Filtered | None = None


class PersonPrediction(NamedTuple):
    """The prediction for one person of an image: a row of a `Prediction`.

    Attributes:
      keypoints: float64 [J, 2], (x, y) in pixels of the frame.
      confidence: float32 [J].
      box: float64 [4], (x, y, width, height) in pixels.
      presence: float32 [J].
    """

    keypoints: np.ndarray
    confidence: np.ndarray
    box: np.ndarray
    presence: np.ndarray


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
    persons = {i: _row(found, n) for n, i in enumerate(known)}
    tracked = []
    for i, track in enumerate(tracks):
        if i not in persons:
            persons[i] = _row(estimator.predict(frame, **options), 0)
        elif _is_doubtful(track, persons[i]):
            again = _redetect(estimator, frame, track, **options)
            persons[i] = max(persons[i], again, key=lambda person: person.confidence.mean())
        track, persons[i] = _next(track, persons[i], frame, time, smooth)
        tracked.append(track)
    shape = (len(tracks), len(estimator.joints))
    prediction = Prediction(
        np.array([persons[i].keypoints for i in range(len(tracks))]).reshape(*shape, 2),
        np.array([persons[i].confidence for i in range(len(tracks))], np.float32).reshape(shape),
        np.array([persons[i].box for i in range(len(tracks))]).reshape(-1, 4),
        estimator.joints,
        np.array([persons[i].presence for i in range(len(tracks))], np.float32).reshape(shape),
        np.array([persons[i].confidence.mean() for i in range(len(tracks))], np.float32),
    )
    return tracked, prediction


def _row(found: Prediction, n: int) -> PersonPrediction:
    return PersonPrediction(
        found.keypoints[n], found.confidence[n], found.boxes[n], found.presence[n]
    )


def _is_doubtful(track: Track, person: PersonPrediction) -> bool:
    mean = person.confidence.mean()
    return (
        track.age % REDETECT_INTERVAL == 0
        or mean < max(REDETECT_BELOW, REDETECT_BELOW_BEST * track.best)
        or _is_lost(person)
    )


def _redetect(
    estimator: PoseEstimator, frame: np.ndarray, track: Track, **options
) -> PersonPrediction:
    """Predict from the whole frame, or around a given box; then from the box of what is there."""
    if not track.given:
        return _row(estimator.predict(frame, **options), 0)
    x, y, width, height = track.box
    more = (REDETECT_SCALE - 1) / 2
    around = (x - more * width, y - more * height, REDETECT_SCALE * width, REDETECT_SCALE * height)
    person = _row(estimator.predict(frame, [around], **options), 0)
    box = box_around(person.keypoints, person.confidence, frame.shape[1::-1])
    return person if box is None else _row(estimator.predict(frame, [box], **options), 0)


def _next(
    track: Track, person: PersonPrediction, frame: np.ndarray, time: float, smooth: float | None
) -> tuple[Track, PersonPrediction]:
    """The track for the next frame, and the prediction with its keypoints filtered."""
    best = max((1 - BEST_SCORE_DECAY) * track.best, float(person.confidence.mean()))
    track = track._replace(age=track.age + 1, best=best)
    if _is_lost(person):  # a given box stays where it is; otherwise the whole frame is searched
        return track._replace(filtered=None, box=track.box if track.given else None), person
    found = box_around(person.keypoints, person.confidence, frame.shape[1::-1])
    box = _next_box(found, person.box)
    if smooth is None:
        return track._replace(box=box), person
    filtered = _filter(track.filtered, person.keypoints, time, smooth, max(person.box[2:]))
    return track._replace(box=box, filtered=filtered), person._replace(keypoints=filtered.points)


def _is_lost(person: PersonPrediction) -> bool:
    """Whether too few joints seem to be there, or they have shrunk to a point."""
    sure = person.confidence >= MIN_CONFIDENCE
    if sure.sum() < min(MIN_CONFIDENT_JOINTS, len(sure)):
        return True
    return np.ptp(person.keypoints[sure], axis=0).max() < 0.1 * max(person.box[2:])


def _next_box(found: np.ndarray | None, before: np.ndarray) -> np.ndarray:
    """The box around the joints, whose size changes gently: crops that breathe make joints jump."""
    if found is None:
        return before
    center = found[:2] + found[2:] / 2
    side, old = max(found[2:]), max(before[2:])
    factor = np.clip(side, old * (1 - MAX_SIDE_CHANGE), old * (1 + MAX_SIDE_CHANGE)) / side
    size = factor * found[2:]
    return np.concatenate([center - size / 2, size])


def _filter(
    before: Filtered | None, points: np.ndarray, time: float, cutoff: float, side: float
) -> Filtered:
    """One step of the One-Euro filter; speeds count in box sides a second."""
    if before is None or time <= before.time:
        return Filtered(time, points, np.zeros_like(points))
    if np.median(np.linalg.norm(points - before.points, axis=-1)) > MAX_JUMP * side:
        return Filtered(time, points, np.zeros_like(points))
    passed = time - before.time
    speed = (points - before.points) / passed
    speed = before.speed + _weight(SPEED_CUTOFF, passed) * (speed - before.speed)
    sides = np.linalg.norm(speed, axis=-1, keepdims=True) / side
    weight = _weight(cutoff + CUTOFF_SLOPE * sides, passed)
    return Filtered(time, before.points + weight * (points - before.points), speed)


def _weight(cutoff, passed: float):
    """Share of the new value in a low pass of first order."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff * passed))
