"""`predict_each`: which inputs it takes, in which order, and which of them are videos."""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxpose.errors import JaxposeError
from jaxpose.predict import as_image, inputs, predict_each
from jaxpose.predict.tracking import follow
from tests.support.seer import Seer, person
from tests.support.videos import make


class Opener(Seer):
    """A seer that remembers its options, and takes images as an estimator does."""

    def __init__(self, *people):
        super().__init__(*people)
        self.options = []

    def predict(self, image, boxes=None, **options):
        self.options.append(options)
        path = str(image) if isinstance(image, str | pathlib.Path) else None
        return super().predict(as_image(image), boxes, **options)._replace(source=path)


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
    ("given", "names"),
    [
        ("in", ["in/a.jpg", "in/b.png", "in/c.png"]),
        ("in/*.png", ["in/b.png", "in/c.png"]),
        ("**/*.png", ["in/b.png", "in/c.png", "in/deep/er/d.png"]),
        (["in/c.png", "in/a.jpg"], ["in/c.png", "in/a.jpg"]),
        (["in/c.png", np.zeros((200, 120, 3), np.uint8)], ["in/c.png", None]),
        (np.zeros((200, 120, 3), np.uint8), [None]),
        (np.zeros((200, 120), np.uint8), [None]),
        (jnp.zeros((200, 120, 3), jnp.uint8), [None]),
        (Image.new("RGB", (120, 200)), [None]),
        (map(pathlib.Path, ("in/b.png", "in/a.jpg")), ["in/b.png", "in/a.jpg"]),
        (iter(()), []),
    ],
    ids=[
        "folder",
        "wildcard",
        "wildcard of folders",
        "list",
        "mixed",
        "array",
        "gray",
        "JAX",
        "Pillow",
        "generator",
        "empty",
    ],  # fmt: skip
)
def test_photos_are_predicted_in_order(seer, folder, given, names):
    (folder / "deep" / "er").mkdir(parents=True)
    Image.new("RGB", (120, 200)).save(folder / "deep" / "er" / "d.png")
    found = list(predict_each(seer, given))
    assert [each.source for each in found] == names
    assert all(each.ids is None and len(each.scores) == 1 for each in found)


def test_frames_of_a_video_and_of_an_iterable_are_tracked(seer, folder):
    make("clip.mp4", frames=3)
    frames = np.zeros((3, 200, 120, 3), np.uint8)
    for given, source in (("clip.mp4", "clip.mp4"), (iter(frames), None), (frames, None)):
        found = list(predict_each(seer, given))
        assert [each.ids.tolist() for each in found] == [[1]] * 3
        assert {each.source for each in found} == {source}
        assert [each.frame for each in found] == [0, 1, 2]


def test_frames_have_their_times_and_every_look_has_the_options(seer, monkeypatch):
    times = []

    def remember(estimator, frame, tracks, time, **options):
        times.append((time, options["smooth"]))
        return follow(estimator, frame, tracks, time, **options)

    monkeypatch.setattr(inputs, "follow", remember)
    frames = iter(np.zeros((3, 200, 120, 3), np.uint8))
    list(predict_each(seer, frames, smooth=2.0, rate=10.0, flip_test=True, num_crops=3))
    assert times == [(0.0, 2.0), (0.1, 2.0), (0.2, 2.0)]
    assert seer.options and all(
        each["flip_test"] is True and each["num_crops"] == 3 for each in seer.options
    )


def test_each_is_predicted_when_it_is_asked_for(seer, folder):
    found = predict_each(seer, ["in/a.jpg", "in/missing.png"])
    assert next(found).source == "in/a.jpg" and len(seer.detections) == 1
    with pytest.raises(JaxposeError, match="no file in/missing.png"):
        next(found)
    with pytest.raises(JaxposeError, match="no file matches"):
        next(predict_each(seer, "in/*.tif"))
