"""What a `Prediction` draws, and what it writes."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxpose.errors import JaxposeError
from jaxpose.predict import Prediction
from jaxpose.predict.box_file import BoxFile
from jaxpose.visualize import draw_skeleton

JOINTS = ("left_hand", "right_hand", "head_top")
LIMBS = (("left_hand", "head_top"), ("right_hand", "head_top"))


def prediction(persons=2, **changes):
    points = np.array([[20.0, 60.0], [50.0, 60.0], [35.0, 30.0]])
    keypoints = np.stack([points + (70 * i, 0) for i in range(persons)]).reshape(-1, 3, 2)
    confidence = np.tile(np.float32([0.9, 0.2, 0.8]), (persons, 1))
    fields = dict(
        keypoints=keypoints,
        confidence=confidence,
        boxes=np.tile([10.0, 20.0, 50.0, 60.0], (persons, 1)),
        joints=JOINTS,
        presence=confidence,
        scores=confidence.mean(axis=1),
        limbs=LIMBS,
        image=np.full((100, 160, 3), 90, np.uint8),
    )
    return Prediction(**{**fields, **changes})


def test_one_person_is_drawn_as_a_skeleton_alone():
    found = prediction(1)
    expected = draw_skeleton(
        found.image, found.keypoints[0], joints=JOINTS, limbs=LIMBS,
        confidence=found.confidence[0], threshold=0.3,
    )  # fmt: skip
    np.testing.assert_array_equal(found.draw(), expected)
    assert (found.draw(min_confidence=0.0) != expected).any()
    assert (found.draw(min_confidence=0.95) == found.image).all()


def test_what_is_drawn_never_shares_the_memory_of_the_image():
    for persons in ([], [0], [0, 1]):
        found = prediction(2).select(persons)
        assert not np.shares_memory(found.draw(), found.image)


def test_several_persons_and_tracked_ones_are_numbered():
    found = prediction(2)
    alone = [found.select([i]).draw() for i in range(2)]
    together = found.draw()
    drawn = (alone[0] != found.image) | (alone[1] != found.image)
    label = (together != found.image) & ~drawn
    assert label.any()
    tracked = found._replace(ids=np.array([1, 2])).draw()
    np.testing.assert_array_equal(tracked, together)
    assert (found._replace(ids=np.array([7, 8])).draw() != together).any()
    assert (found.select([0])._replace(ids=np.array([3])).draw() != alone[0]).any()


def test_results_are_cocos():
    first, second = prediction(2).to_coco(image_id=9, min_confidence=0.5)
    assert first["keypoints"] == [19.5, 59.5, 2, 49.5, 59.5, 0, 34.5, 29.5, 2]
    assert first["image_id"] == second["image_id"] == 9 and first["category_id"] == 1
    assert first["score"] == pytest.approx(1.9 / 3, abs=1e-5)
    assert set(first) == {"image_id", "category_id", "keypoints", "score"}
    assert prediction(1).to_coco(category_id=17)[0]["category_id"] == 17
    assert prediction().select([]).to_coco() == []


def test_the_category_and_the_number_of_a_frame_are_saved(tmp_path):
    prediction(2, source="clip.mp4", category="dog", frame=4).save(tmp_path / "a.json")
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["categories"][0]["name"] == "dog"
    frames = BoxFile(tmp_path / "a.json").of("clip.mp4")
    assert list(frames) == [4] and frames[4].tolist() == [[10, 20, 50, 60]] * 2


def test_it_is_saved_as_an_image_or_as_json(tmp_path):
    found = prediction(2, source="in/photo.jpg")
    found.save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), found.draw())
    found.save(tmp_path / "a.json")
    record = json.loads((tmp_path / "a.json").read_text())
    assert [person["num_keypoints"] for person in record["annotations"]] == [2, 2]
    assert record["images"][0]["file_name"] == "in/photo.jpg"
    assert record["categories"][0]["keypoints"] == list(JOINTS)
    assert "frame" not in record["images"][0]
    with pytest.raises(JaxposeError, match=r"cannot write .*a\.gif"):
        found.save(tmp_path / "a.gif")
    with pytest.raises(JaxposeError, match="no folder"):
        found.save(tmp_path / "none" / "a.png")
