"""Predict many inputs in one call: lists, folders, glob patterns, videos, and frames."""

import glob
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.paths import local_path
from jaxpose.predict.estimator import PoseEstimator
from jaxpose.predict.jobs import find_inputs, is_video
from jaxpose.predict.prediction import Prediction
from jaxpose.predict.tracking import follow, tracks_of
from jaxpose.predict.video import VideoReader


def predict_each(
    estimator: PoseEstimator,
    inputs: str | os.PathLike | Iterable[Any],
    *,
    smooth: float | None = None,
    rate: float = 30.0,
    **options: Any,
) -> Iterator[Prediction]:
    """Predict photos, and videos frame by frame; predictions are computed lazily.

    Args:
      estimator: the estimator.
      inputs: a photo (as in ``PoseEstimator.predict``); the path of a photo, video or folder; a
        glob pattern; a list or tuple of these; or an iterable whose first item is a path, such as
        the result of ``pathlib.Path.glob``. Any other iterable of images, or an array [N, H, W, 3],
        is treated as the frames of one video.
      smooth: for videos, cutoff frequency in Hz of the filter that smooths the keypoints; None for
        no filter.
      rate: frame rate of an iterable of frames, in Hz.
      options: options of ``PoseEstimator.predict``: ``detector``, ``max_persons``, ``min_score``,
        ``flip_test``, ``num_crops``.

    Yields:
      One ``Prediction`` for each photo and for each frame; those of a video have ``ids`` and
      ``frame``. ``source`` is the path.

    Raises:
      JaxposeError: an input cannot be found or read.

    Example:
      >>> estimator = PoseEstimator.from_pretrained("small")
      >>> photos = [np.zeros((64, 48, 3), np.uint8), np.zeros((48, 64, 3), np.uint8)]
      >>> [found.image.shape for found in predict_each(estimator, photos)]
      [(64, 48, 3), (48, 64, 3)]
    """
    if _is_path(inputs) or _is_image(inputs):
        inputs = [inputs]
    elif not isinstance(inputs, list | tuple):
        items: Iterator[Any] = iter(cast("Iterable[Any]", inputs))
        first = list(itertools.islice(items, 1))
        inputs = itertools.chain(first, items)
        if not any(map(_is_path, first)):
            timed = ((frame, number / rate) for number, frame in enumerate(inputs))
            yield from _track(estimator, timed, None, smooth, options)
            return
    for item in inputs:
        if not _is_path(item):
            yield estimator.predict(item, **options)
            continue
        for path in _paths(local_path(item)):
            if not is_video(path):
                yield estimator.predict(path, **options)
                continue
            with VideoReader(path) as reader:
                timed = ((frame.image, float(frame.time)) for frame in reader.frames())
                yield from _track(estimator, timed, str(path), smooth, options)


def _is_path(item: Any) -> bool:
    return isinstance(item, str | os.PathLike)


def _is_image(item: Any) -> bool:
    """Whether the item is one image: a PIL image, or any library's array with up to three axes."""
    return hasattr(item, "getexif") or (hasattr(item, "__array__") and np.ndim(item) <= 3)


def _paths(text: str) -> list[pathlib.Path]:
    """Find the photos and videos of a path or glob pattern."""
    names = [text]
    if glob.has_magic(text) and not os.path.exists(text):
        names = sorted(glob.glob(text, recursive=True))
        if not names:
            raise JaxposeError(f"no file matches {text}; give a photo, a video or a folder of them")
    return find_inputs(names)[0]


def _track(
    estimator: PoseEstimator,
    frames: Iterable[tuple[np.ndarray, float]],
    source: str | None,
    smooth: float | None,
    options: dict[str, Any],
) -> Iterator[Prediction]:
    tracks = tracks_of(None)
    for number, (image, time) in enumerate(frames):
        tracks, found = follow(estimator, image, tracks, time, smooth=smooth, **options)
        yield found._replace(source=source, frame=number)
