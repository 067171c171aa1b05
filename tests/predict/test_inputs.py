"""`predict_each`: which inputs it takes, in which order, and which of them are videos."""

import numpy as np
import pytest
from PIL import Image

from jaxpose.errors import JaxposeError
from jaxpose.predict import predict_each
from tests.predict.test_tracking import Seer, person
from tests.predict.test_video import make


class Opener(Seer):
    """A seer that remembers what it was given, and opens paths."""

    def predict(self, image, boxes=None, **options):
        path = None
        if not isinstance(image, np.ndarray):
            path, image = str(image), np.asarray(Image.open(image).convert("RGB"))
        return super().predict(image, boxes, **options)._replace(source=path)


@pytest.fixture
def seer():
    return Opener(person(60, 100, 10))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in ("b.png", "a.jpg", "c.png"):
        Image.new("RGB", (120, 200)).save(tmp_path / "in" / name)
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ("in", ["in/a.jpg", "in/b.png", "in/c.png"]),
        ("in/*.png", ["in/b.png", "in/c.png"]),
        (["in/c.png", "in/a.jpg"], ["in/c.png", "in/a.jpg"]),
        (["in/c.png", np.zeros((200, 120, 3), np.uint8)], ["in/c.png", None]),
    ],
    ids=["folder", "wildcard", "list", "mixed"],
)
def test_photos_are_predicted_in_order(seer, folder, inputs, names):
    found = list(predict_each(seer, inputs))
    assert [each.source for each in found] == names
    assert all(each.ids is None and len(each.scores) == 1 for each in found)


def test_frames_of_a_video_and_of_an_iterable_are_tracked(seer, folder):
    make("clip.mp4", frames=3)
    for inputs, source in (("clip.mp4", "clip.mp4"), (iter([np.zeros((200, 120, 3))] * 3), None)):
        found = list(predict_each(seer, inputs))
        assert [each.ids.tolist() for each in found] == [[1]] * 3
        assert {each.source for each in found} == {source}


def test_each_is_predicted_when_it_is_asked_for(seer, folder):
    found = predict_each(seer, ["in/a.jpg", "in/missing.png"])
    assert next(found).source == "in/a.jpg" and len(seer.detections) == 1
    with pytest.raises(JaxposeError, match="no file in/missing.png"):
        next(found)
    with pytest.raises(JaxposeError, match="no file matches"):
        next(predict_each(seer, "in/*.tif"))
