"""Persons in videos: the box goes with them, comes back to them, and the filter calms them."""

import math

import numpy as np
import pytest

from jaxpose.predict import PoseEstimator
from jaxpose.predict.tracking import follow, tracks_of
from tests.support import people_video
from tests.support.people_video import SIZE
from tests.support.seer import SHAPE, Seer, around, person

FRAME = np.zeros((480, 640, 3), np.uint8)


def test_a_person_who_walks_is_followed_with_few_looks_at_the_whole_frame():
    seer, tracks = Seer(), tracks_of(None)
    for i in range(60):
        seer.people = [person(100 + 7 * i, 240 + 40 * math.sin(i / 6))]
        tracks, found = follow(seer, FRAME, tracks, i / 30)
        np.testing.assert_array_equal(found.keypoints[0], seer.people[0])
    assert sum(look is None for look in seer.detections) <= 60 / 10


def test_a_person_who_comes_closer_fills_the_box_all_along():
    seer, tracks = Seer(), tracks_of(None)
    for i in range(60):
        seer.people = [person(320, 240, 12 + i)]
        tracks, found = follow(seer, FRAME, tracks, i / 30)
        assert found.confidence.min() > 0.9
    assert sum(look is None for look in seer.detections) <= 60 / 10


def test_a_person_who_jumps_is_found_in_the_next_frame():
    seer, tracks = Seer(person(100, 200)), tracks_of(None)
    tracks, _ = follow(seer, FRAME, tracks, 0.0)
    seer.people = [person(500, 300)]
    tracks, _ = follow(seer, FRAME, tracks, 0.1)
    tracks, found = follow(seer, FRAME, tracks, 0.2)
    np.testing.assert_array_equal(found.keypoints[0], seer.people[0])


def test_nobody_is_looked_for_in_every_frame_and_found_when_there():
    seer, tracks = Seer(), tracks_of(None)
    for i in range(3):
        tracks, found = follow(seer, FRAME, tracks, i / 30)
        assert found.keypoints.shape == (0, 8, 2) and found.ids.shape == (0,)
    seer.people = [person(400, 200)]
    tracks, _ = follow(seer, FRAME, tracks, 1.0)
    _, found = follow(seer, FRAME, tracks, 1.1)
    np.testing.assert_array_equal(found.keypoints[0], seer.people[0])


def test_a_person_of_a_lower_score_than_asked_is_not_seen():
    for min_score, seen in ((None, 1), (0.9, 1), (0.96, 0)):  # the seer's scores are 0.95
        seer, tracks = Seer(person(100, 200)), tracks_of(None)
        for i in range(2):
            tracks, found = follow(seer, FRAME, tracks, i / 30, min_score=min_score)
            assert len(found.ids) == seen
        _, given = follow(seer, FRAME, tracks_of([[60, 120, 80, 160]]), 0.0, min_score=min_score)
        assert given.ids.tolist() == [1] * seen


def test_a_given_person_of_a_lower_score_than_asked_keeps_the_id():
    seer, tracks = Seer(person(100, 200)), tracks_of([[300, 120, 80, 160], [60, 120, 80, 160]])
    for i in range(3):
        tracks, found = follow(seer, FRAME, tracks, i / 30, min_score=0.9)
        assert found.ids.tolist() == [2] and len(tracks.persons) == 2


def test_a_given_box_waits_for_a_person_who_was_lost():
    seer, tracks = Seer(person(100, 200)), tracks_of([[60, 120, 80, 160]])
    tracks, _ = follow(seer, FRAME, tracks, 0.0)
    there = tracks.persons[0].box
    seer.people = []
    for i in range(5):
        tracks, found = follow(seer, FRAME, tracks, 0.1 * i)
    np.testing.assert_array_equal(tracks.persons[0].box, there)
    assert all(look is not None for look in seer.detections)


def test_the_more_probable_of_two_looks_wins():
    """A box that drifted sees half a person; the search sees all of it, and the id stays."""
    seer = Seer(person(320, 240))
    tracks, _ = follow(seer, FRAME, tracks_of(None), 0.0)
    drifted = tracks.persons[0]._replace(box=np.array([285.0, 180.0, 60.0, 60.0]))
    tracks, found = follow(seer, FRAME, tracks._replace(persons=(drifted,), age=10), 0.1)
    assert seer.detections[-1] is None and found.confidence.min() > 0.9
    assert found.ids.tolist() == [1] and len(tracks.persons) == 1
    middle = tracks.persons[0].box[:2] + tracks.persons[0].box[2:] / 2
    np.testing.assert_allclose(middle, (320, 240))


def test_ids_stay_while_persons_move_enter_and_leave():
    seer, tracks = Seer(), tracks_of(None)
    seen = {}
    for i in range(80):
        walking = {"a": person(100 + 3 * i, 200), "b": person(500 - 2 * i, 350)}
        if i >= 20:
            walking["c"] = person(560, 100 + i)
        if i >= 40:
            del walking["a"]
        seer.people = list(walking.values())
        tracks, found = follow(seer, FRAME, tracks, i / 30)
        for who, points in walking.items():
            rows = [
                n
                for n, found_points in enumerate(found.keypoints)
                if (found_points == points).all()
            ]
            assert len(rows) <= 1
            seen.setdefault(who, []).extend(found.ids[rows].tolist())
        assert len(found.ids) <= len(walking)
    assert {who: set(ids) for who, ids in seen.items()} == {"a": {1}, "b": {2}, "c": {3}}
    assert len(seen["a"]) == 40 and len(seen["b"]) == 80 and len(seen["c"]) >= 50
    assert [track.id for track in tracks.persons] == [2, 3]


def test_a_person_who_is_hidden_for_a_moment_keeps_the_id_and_later_does_not():
    for frames, expected in ((5, 1), (30, 2)):
        seer = Seer(person(200, 200))
        tracks, _ = follow(seer, FRAME, tracks_of(None), 0.0)
        seer.people = []
        for i in range(frames):
            tracks, found = follow(seer, FRAME, tracks, 0.1 * i)
            assert len(found.ids) == 0
        seer.people = [person(205, 202)]
        tracks, _ = follow(seer, FRAME, tracks, 5.0)
        _, found = follow(seer, FRAME, tracks, 5.1)
        assert found.ids.tolist() == [expected]


def test_a_person_whose_score_varies_is_shown_in_every_frame():
    seer, tracks = Seer(person(200, 200), confidence=0.5), tracks_of(None)
    for i in range(30):
        seer.confidence = 0.5 if i % 3 == 0 else 0.35  # a person has to have 0.48 to be found
        tracks, found = follow(seer, FRAME, tracks, i / 30)
        assert found.ids.tolist() == [1]
    assert sum(look is None for look in seer.detections) <= 30 / 10


def test_a_person_of_a_single_frame_is_not_shown_and_takes_no_id():
    seer, tracks = Seer(person(200, 200)), tracks_of(None)
    for i in range(15):
        seer.people = [person(200, 200)] + [person(450, 250)] * (i == 10)  # when it is searched
        tracks, found = follow(seer, FRAME, tracks, i / 30)
        assert found.ids.tolist() == [1]
    seer.people = [person(200, 200), person(450, 250)]
    for i in range(15, 25):
        tracks, found = follow(seer, FRAME, tracks, i / 30)
    assert found.ids.tolist() == [1, 2]


def test_persons_whom_a_detector_misses_at_times_are_shown_in_every_frame():
    seer, tracks, calls = Seer(confidence=0.35), tracks_of(None), 0

    def detector(frame):
        nonlocal calls
        calls += 1
        return [around(person) for n, person in enumerate(seer.people) if (calls + n) % 2]

    shown = []
    for i in range(60):
        seer.people = [person(100 + 3 * i, 200), person(500 - 2 * i, 350)]
        tracks, found = follow(seer, FRAME, tracks, i / 30, detector=detector)
        shown.append(found.ids.tolist())
    assert shown[0] == [1] and shown[12:] == [[1, 2]] * 48
    assert calls <= 60 / 10


def test_a_box_of_a_detector_without_a_person_is_not_tracked():
    seer, tracks = Seer(person(100, 200)), tracks_of(None)
    boxes = [around(seer.people[0]), (400.0, 100.0, 80.0, 160.0)]
    for i in range(12):
        tracks, found = follow(seer, FRAME, tracks, i / 30, detector=lambda frame: boxes)
        assert found.ids.tolist() == [1]


def test_a_person_who_is_hidden_by_a_passer_by_keeps_the_id():
    seer, tracks, seen = Seer(), tracks_of(None), []
    for i in range(60):
        standing, passing = person(300, 200), person(60 + 8 * i, 205)
        hidden = abs(passing[0, 0] - standing[0, 0]) < 30
        seer.people = [passing] if hidden else [standing, passing]
        tracks, found = follow(seer, FRAME, tracks, i / 30)
        ids = {
            name: found.ids[n]
            for n, points in enumerate(found.keypoints)
            for name, who in (("standing", standing), ("passing", passing))
            if (points == who).all()
        }
        seen.append(ids)
    assert all(ids["passing"] == 2 for ids in seen)
    assert {ids["standing"] for ids in seen if "standing" in ids} == {1}
    assert "standing" in seen[0] and "standing" in seen[-1]


@pytest.mark.slow
@pytest.mark.parametrize("with_detector", [False, True], ids=["search", "detector"])
def test_real_persons_keep_their_ids_while_one_leaves_and_one_enters(with_detector, shared):
    frames = people_video.people_video(shared / "data" / "free_photos")
    estimator, tracks = PoseEstimator.from_pretrained(), tracks_of(None)
    rng = np.random.default_rng(0)

    def detector(image):
        """Knows the boxes within the image, and misses each with 30 %."""
        boxes = frames[len(shown)].boxes.values()
        inside = [(np.clip(b[:2], 0, SIZE), np.clip(b[:2] + b[2:], 0, SIZE)) for b in boxes]
        inside = [(*low, *(high - low)) for low, high in inside if high[0] - low[0] > 30]
        return [box for box in inside if rng.random() > 0.3]

    shown = []
    for number, frame in enumerate(frames):
        options = {"detector": detector} if with_detector else {}
        tracks, found = follow(
            estimator, frame.image, tracks, number / people_video.RATE, **options
        )
        middles = np.median(found.keypoints, axis=1)
        names = {}
        for track_id, middle in zip(found.ids.tolist(), middles, strict=True):
            distance = {
                name: abs(box[0] + box[2] / 2 - middle[0]) for name, box in frame.boxes.items()
            }
            names[track_id] = min(distance, key=lambda name: distance[name])
        shown.append(names)
    assert {(track_id, name) for names in shown for track_id, name in names.items()} == {
        (1, "stays"), (2, "leaves"), (3, "enters"),
    }  # fmt: skip
    for track_id in (1, 2, 3):
        seen = [number for number, names in enumerate(shown) if track_id in names]
        assert seen == list(range(seen[0], seen[-1] + 1))  # nobody flickers
        assert len(seen) > 15
    assert all(1 in names for names in shown)


def test_two_tracks_of_one_person_become_one():
    seer = Seer(person(200, 200))
    tracks, _ = follow(seer, FRAME, tracks_of(None), 0.0)
    twice = (*tracks.persons, tracks.persons[0]._replace(id=2))
    tracks = tracks._replace(persons=twice)
    for i in range(20):
        tracks, found = follow(seer, FRAME, tracks, 0.1 * i)
        assert found.ids.tolist() == [1]
    assert len(tracks.persons) == 1


def test_the_number_of_tracked_persons_can_be_limited():
    seer = Seer(person(100, 200), person(300, 200), person(500, 200))
    tracks, found = follow(seer, FRAME, tracks_of(None), 0.0, max_persons=2)
    assert found.ids.tolist() == [1, 2]
    for i in range(12):
        tracks, found = follow(seer, FRAME, tracks, 0.1 * i, max_persons=2)
    assert found.ids.tolist() == [1, 2]


def test_a_person_who_comes_back_does_not_exceed_the_limit():
    seer = Seer(person(100, 200))
    tracks, _ = follow(seer, FRAME, tracks_of(None), 0.0, max_persons=1)
    seer.people = [person(400, 200)]  # the first person is hidden, and another one gets the place
    for i in range(1, 5):
        tracks, found = follow(seer, FRAME, tracks, 0.1 * i, max_persons=1)
    assert found.ids.tolist() == [2]
    seer.people = [person(100, 200), person(400, 200)]
    for i in range(5, 20):
        tracks, found = follow(seer, FRAME, tracks, 0.1 * i, max_persons=1)
        assert found.ids.tolist() == [2]


def test_ids_of_new_boxes_are_new():
    tracks = tracks_of([[1, 1, 5, 5], [20, 20, 5, 5]])
    assert [track.id for track in tracks_of([[2, 2, 5, 5]], last_id=tracks.last_id).persons] == [3]


def test_a_given_person_is_found_again_nearby_and_nobody_far_away():
    for place, found_again in (((130, 200), True), ((500, 300), False)):
        seer, tracks = Seer(person(100, 200)), tracks_of([[60, 120, 80, 160]])
        tracks, _ = follow(seer, FRAME, tracks, 0.0)
        seer.people = [person(*place)]
        _, found = follow(seer, FRAME, tracks, 0.1)
        assert (found.confidence.mean() > 0.9) == found_again


def test_two_persons_keep_their_order():
    seer = Seer(person(150, 200), person(450, 240))
    tracks = tracks_of([[400, 150, 100, 180], [100, 120, 100, 160]])
    for i in range(20):
        seer.people = [person(150 + 3 * i, 200), person(450, 240 + 2 * i)]
        tracks, found = follow(seer, FRAME, tracks, i / 30)
        np.testing.assert_array_equal(found.keypoints, seer.people[::-1])


def test_no_person_gives_an_empty_prediction():
    tracks, found = follow(Seer(person(100, 100)), FRAME, tracks_of([]), 0.0)
    assert (
        tracks.persons == () and found.keypoints.shape == (0, 8, 2) and found.boxes.shape == (0, 4)
    )


def test_the_box_changes_its_size_gently():
    seer, tracks = Seer(person(320, 240, 20)), tracks_of(None)
    tracks, _ = follow(seer, FRAME, tracks, 0.0)
    before = max(tracks.persons[0].box[2:])
    seer.people = [person(320, 240, 26)]
    tracks, _ = follow(seer, FRAME, tracks, 0.1)
    assert max(tracks.persons[0].box[2:]) == pytest.approx(1.1 * before)


# The filter


def smoothed(paths, smooth, rate=30.0):
    """Keypoints [T, 8, 2] of people who stand at paths [T, 2]."""
    seer, tracks, found = Seer(), tracks_of(None), []
    for i, place in enumerate(paths):
        seer.people = [person(*place)]
        tracks, prediction = follow(seer, FRAME, tracks, i / rate, smooth=smooth)
        found.append(prediction.keypoints[0])
    return np.array(found)


def test_jitter_at_rest_is_filtered_away():
    noise = np.random.default_rng(0).normal(0, 1.0, (200, 2))
    path = (320, 240) + noise
    calm = smoothed(path, 1.0)[50:, 0] - person(320, 240)[0]
    assert calm.std() < 0.4 * noise[50:].std()
    assert abs(calm.mean()) < 0.3


def test_a_fast_person_is_not_left_behind():
    path = np.stack([100 + 10 * np.arange(40), np.full(40, 240)], axis=-1)  # 2.5 sides a second
    lag = 10 * 39 + 100 - smoothed(path, 1.0)[-1].mean(axis=0)[0]
    assert 0 <= lag < 10  # less than a frame


def test_the_lower_the_calmer():
    path = (320, 240) + np.random.default_rng(1).normal(0, 1.0, (100, 2))
    moves = [np.abs(np.diff(smoothed(path, hz)[20:], axis=0)).mean() for hz in (0.3, 1.0, 5.0)]
    assert moves[0] < moves[1] < moves[2]


def test_the_filter_does_not_depend_on_the_frame_rate():
    step = lambda n, rate: np.where(  # noqa: E731
        np.arange(n)[:, None] < rate / 10, (300.0, 240.0), (301.0, 240.0)
    )
    slow = smoothed(step(30, 50), 0.5, 50.0)[-1, 0, 0]
    fast = smoothed(step(120, 200), 0.5, 200.0)[-1, 0, 0]
    assert slow == pytest.approx(fast, abs=0.05)


def test_without_the_filter_nothing_is_changed():
    path = (320, 240) + np.random.default_rng(2).normal(0, 2.0, (10, 2))
    np.testing.assert_array_equal(smoothed(path, None)[:, 0], path + 20 * SHAPE[0])
