"""Track persons through a video with stable ids, and smooth their keypoints.

A person is predicted in the box of the previous frame. Every ``SEARCH_INTERVAL`` frames, and when a
person is lost, the whole frame is searched. Poses similar to a track's pose update that track;
other poses start new tracks. A track that is lost for ``MAX_MISSING`` frames ends. If boxes are
given, no other persons are detected: the box of a lost person stays in place, and the person is
re-detected around it.

Two rules avoid flicker. A person found after the first frame gets an id, and is shown, only when
the next frame confirms it. A person who has an id is kept even if the score would be too low for a
new person.

The filter is the One-Euro filter (Casiez, Roussel, Vogel 2012): a low-pass filter whose cutoff
frequency increases with speed. It removes jitter of joints at rest without adding lag to fast ones.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose.predict import search
from jaxpose.predict.boxes import (
    MIN_CONFIDENCE,
    MIN_CONFIDENT_JOINTS,
    box_around,
    check_boxes,
    overlap,
)
from jaxpose.predict.estimator import PoseEstimator
from jaxpose.predict.prediction import Prediction

MAX_SIDE_CHANGE = 0.1  # maximum relative change of a box's side per frame
SEARCH_INTERVAL = 10  # frames
MAX_MISSING = 15  # frames after which a lost person's track ends
DETECTED_SCORE = 0.3  # minimum score in a detector's box; otherwise search.MIN_SCORE
KEEP_FRACTION = 2 / 3  # a person who has an id needs only this fraction of the minimum score
SAME_TRACK = 0.2  # minimum pose similarity to match a detected person to a visible track
SAME_PLACE = 0.3  # minimum overlap (IoU) of boxes to match a detected person to a lost track
REDETECT_BELOW = 0.5  # a person with a lower score is re-detected
REDETECT_BELOW_BEST = 0.9  # likewise below this fraction of the person's best score so far
BEST_SCORE_DECAY = 0.01  # decay of the best score per frame
REDETECT_SCALE = 1.8  # side of the re-detection crop relative to the given box
MAX_JUMP = 0.5  # a median joint movement above this many box sides resets the filter
SPEED_CUTOFF = 1.0  # Hz, cutoff of the low-pass filter of the speed
CUTOFF_SLOPE = 6.0  # Hz by which the cutoff increases for a speed of one box side per second


class Filtered(NamedTuple):
    """State of the filter of J joints.

    Attributes:
      time: time of the last frame, in seconds.
      points: [J, 2], filtered, in pixels.
      speed: [J, 2], filtered, in pixels per second.
    """

    time: float
    points: np.ndarray
    speed: np.ndarray


class Track(NamedTuple):
    """A person who is tracked.

    Attributes:
      id: id of the person, from 1, never reused; 0 until a second frame confirms the person.
      box: float64 [4], the box to predict in the next frame.
      best: highest score so far, decayed over time.
      missing: number of frames since the person was last visible.
      filtered: filter state of the joints, if they are smoothed.
    """

    id: int
    box: np.ndarray
    best: float = 0.0
    missing: int = 0
    filtered: Filtered | None = None


class Tracks(NamedTuple):
    """All persons of a video up to a frame.

    Attributes:
      persons: tracked and recently lost persons.
      given: whether the boxes were given; then no other persons are detected.
      age: number of frames so far.
      last_id: highest id so far.
    """

    persons: tuple[Track, ...] = ()
    given: bool = False
    age: int = 0
    last_id: int = 0


def tracks_of(boxes: Sequence[Sequence[float]] | None, *, last_id: int = 0) -> Tracks:
    """Start one track per box; without boxes, the first frame is searched.

    Args:
      boxes: [N, 4] (x, y, width, height) in pixels.
      last_id: highest id in use.
    """
    if boxes is None:
        return Tracks(last_id=last_id)
    persons = tuple(Track(last_id + n, box) for n, box in enumerate(check_boxes(boxes), 1))
    return Tracks(persons, given=True, last_id=last_id + len(persons))


def follow(
    estimator: PoseEstimator,
    frame: np.ndarray,
    tracks: Tracks,
    time: float,
    *,
    smooth: float | None = None,
    max_persons: int | None = None,
    min_score: float | None = None,
    **options: Any,
) -> tuple[Tracks, Prediction]:
    """Track the persons in the next frame of a video.

    Args:
      estimator: the estimator.
      frame: uint8 [H, W, 3].
      tracks: result of ``tracks_of`` or of the previous frame.
      time: time of the frame, in seconds.
      smooth: cutoff frequency of the filter for a joint at rest, in Hz; lower is smoother. None for
        no filter.
      max_persons: maximum number of persons tracked at once.
      min_score: minimum score of a person who is found; a tracked person needs two thirds of it.
        The default is 0.48, or 0.3 with a detector. If boxes were given, persons with a lower score
        are tracked but not returned; the default is no limit.
      options: ``flip_test``, ``num_crops`` and ``detector``, as in ``PoseEstimator.predict``.

    Returns:
      (tracks for the next frame, persons of this frame with their ``ids``). If boxes were given,
      these are the persons of the boxes, in the order of the boxes. Otherwise, these are the
      persons who are visible in this frame and have an id, in the order of their ids.
    """
    detector = options.pop("detector", None)
    boxes = np.array([track.box for track in tracks.persons]).reshape(-1, 4)
    found = estimator.predict(frame, boxes, **options)
    if tracks.given:
        return _follow_given(estimator, found, tracks, time, smooth, min_score, options)
    persons = list(tracks.persons)
    if min_score is None:
        min_score = search.MIN_SCORE if detector is None else DETECTED_SCORE
    least = np.array([KEEP_FRACTION * min_score if track.id else min_score for track in persons])
    seen = _has_its_person(persons, found) & (found.scores >= least)
    newly_lost = any(
        track.id and not track.missing and not visible
        for track, visible in zip(persons, seen, strict=True)
    )
    if not seen.any() or newly_lost or tracks.age % SEARCH_INTERVAL == 0:
        limits = {"max_persons": max_persons, "min_score": min_score}
        detected = estimator.predict(frame, detector=detector, **limits, **options)
        persons, found, seen = _matched(persons, found, seen, detected, max_persons)
    if max_persons is not None:
        seen = _limited(persons, found, seen, max_persons)
    kept, shown, last_id = [], [], tracks.last_id
    points = found.keypoints.copy()
    for row, (track, visible) in enumerate(zip(persons, seen, strict=True)):
        if visible:
            if not track.id and (row < len(tracks.persons) or tracks.age == 0):
                last_id += 1
                track = track._replace(id=last_id)
            track, points[row] = _next(track, found, row, time, smooth)
            if track.id:
                shown.append((row, track.id))
        else:
            track = track._replace(missing=track.missing + 1, filtered=None)
        if track.missing <= (MAX_MISSING if track.id else 0):
            kept.append(track)
    prediction = found._replace(keypoints=points).select([row for row, _ in shown])
    prediction = prediction._replace(ids=np.array([number for _, number in shown], int))
    return Tracks(tuple(kept), False, tracks.age + 1, last_id), prediction


def _has_its_person(persons: list[Track], found: Prediction) -> np.ndarray:
    """Whether each track has a person of its own, bool [N].

    If several tracks converge on the same person, the person belongs to the track that was not lost
    and whose box is closest. The others count as lost, so that a person who is hidden by a
    passer-by keeps the id.
    """

    def distance(i: int) -> tuple[bool, float]:
        box = box_around(found.keypoints[i], found.confidence[i], found.image.shape[1::-1])
        shared = 0.0 if box is None else overlap(box, persons[i].box)
        return persons[i].missing > 0, -shared

    order = sorted(range(len(persons)), key=distance)
    kept: list[int] = []
    for i in order:
        weights = np.minimum(found.confidence[i], found.confidence[kept])
        alike = search.similarity(found.keypoints[i], found.keypoints[kept], weights)
        if not (alike >= search.SAME_PERSON).any():
            kept.append(i)
    return np.isin(np.arange(len(persons)), kept)


def _matched(
    persons: list[Track],
    found: Prediction,
    seen: np.ndarray,
    detected: Prediction,
    max_persons: int | None,
) -> tuple[list[Track], Prediction, np.ndarray]:
    """Match the persons found in the whole frame to the tracks, or start new tracks."""
    merged, seen, taken = found.joined(detected), seen.tolist(), set()
    rows = list(range(len(persons)))
    for n in range(len(detected.scores)):
        place = len(found.scores) + n
        match = _best_match(n, persons, found, seen, detected, taken)
        if match is not None:
            taken.add(match)
            if not seen[match] or detected.scores[n] > found.scores[match]:
                rows[match] = place
            seen[match] = True
        elif max_persons is None or sum(seen) < max_persons:
            persons = [*persons, Track(0, detected.boxes[n])]
            rows.append(place)
            seen.append(True)
            taken.add(len(persons) - 1)
    return persons, merged.select(rows), np.array(seen, bool)


def _limited(
    persons: list[Track], found: Prediction, seen: np.ndarray, max_persons: int
) -> np.ndarray:
    """Limit the visible persons, bool [N]: omit first those who were lost, then low scores."""
    order = sorted(np.flatnonzero(seen), key=lambda i: (persons[i].missing > 0, -found.scores[i]))
    return np.isin(np.arange(len(seen)), order[:max_persons])


def _best_match(n, persons, found, seen, detected, taken) -> int | None:
    """Find the track of the n-th detected person: by pose, or by box for lost tracks."""
    best, most = None, 0.0
    for i in range(len(found.scores)):
        if i in taken:
            continue
        if seen[i]:
            weights = np.minimum(detected.confidence[n], found.confidence[i])
            value = search.similarity(detected.keypoints[n], found.keypoints[i], weights)
            value = float(value) + 1.0 if value >= SAME_TRACK else 0.0
        else:
            value = overlap(detected.boxes[n], persons[i].box)
            value = value if value >= SAME_PLACE else 0.0
        if value > most:
            best, most = i, value
    return best


def _follow_given(
    estimator: PoseEstimator,
    found: Prediction,
    tracks: Tracks,
    time: float,
    smooth: float | None,
    min_score: float | None,
    options: dict[str, Any],
) -> tuple[Tracks, Prediction]:
    """Track the persons of given boxes in the next frame."""
    kept, points = [], found.keypoints.copy()
    for row, track in enumerate(tracks.persons):
        if _is_doubtful(track, tracks.age, found, row):
            again = _redetect(estimator, found.image, track, **options)
            if again.scores[0] > found.scores[row]:
                merged = found.joined(again)
                rows = np.arange(len(found.scores))
                rows[row] = len(found.scores)
                found = merged.select(rows)
        if _is_lost(found, row):
            kept.append(track._replace(filtered=None, missing=track.missing + 1))
            points[row] = found.keypoints[row]
        else:
            track, points[row] = _next(track, found, row, time, smooth)
            kept.append(track)
    ids = np.array([track.id for track in tracks.persons], int)
    prediction = found._replace(keypoints=points, ids=ids)
    if min_score is not None:
        prediction = prediction.select(np.flatnonzero(found.scores >= min_score))
    return tracks._replace(persons=tuple(kept), age=tracks.age + 1), prediction


def _is_doubtful(track: Track, age: int, found: Prediction, row: int) -> bool:
    return (
        age % SEARCH_INTERVAL == 0
        or found.scores[row] < max(REDETECT_BELOW, REDETECT_BELOW_BEST * track.best)
        or _is_lost(found, row)
    )


def _redetect(
    estimator: PoseEstimator, frame: np.ndarray, track: Track, **options: Any
) -> Prediction:
    """Predict one person in an enlarged box, then again in the box around that pose."""
    x, y, width, height = track.box
    more = (REDETECT_SCALE - 1) / 2
    around = (x - more * width, y - more * height, REDETECT_SCALE * width, REDETECT_SCALE * height)
    person = estimator.predict(frame, [around], **options)
    box = box_around(person.keypoints[0], person.confidence[0], frame.shape[1::-1])
    return person if box is None else estimator.predict(frame, [box], **options)


def _next(
    track: Track, found: Prediction, row: int, time: float, smooth: float | None
) -> tuple[Track, np.ndarray]:
    """Return the track for the next frame, and the person's filtered keypoints [J, 2]."""
    points, box = found.keypoints[row], found.boxes[row]
    best = max((1 - BEST_SCORE_DECAY) * track.best, float(found.scores[row]))
    around = box_around(points, found.confidence[row], found.image.shape[1::-1])
    track = track._replace(best=best, missing=0, box=_next_box(around, box))
    if smooth is None:
        return track, points
    filtered = _filter(track.filtered, points, time, smooth, max(box[2:]))
    return track._replace(filtered=filtered), filtered.points


def _is_lost(found: Prediction, row: int) -> bool:
    """Whether too few joints are confident, or the pose has collapsed to a point."""
    sure = found.confidence[row] >= MIN_CONFIDENCE
    if sure.sum() < min(MIN_CONFIDENT_JOINTS, len(sure)):
        return True
    return np.ptp(found.keypoints[row][sure], axis=0).max() < 0.1 * max(found.boxes[row][2:])


def _next_box(found: np.ndarray | None, before: np.ndarray) -> np.ndarray:
    """Limit the size change of the box: abrupt changes of the crop make joints jump."""
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
    """Apply one step of the One-Euro filter, with speeds in box sides per second."""
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
    """Weight of the new value in a first-order low-pass filter."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff * passed))
