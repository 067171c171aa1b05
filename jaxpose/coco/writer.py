"""Write predictions as JSON: in COCO's annotation format, or as a list of COCO results.

Files are written incrementally, so memory use does not depend on the length of a video.
"""

import contextlib
import itertools
import json
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self, TextIO

import numpy as np

from jaxpose import __version__
from jaxpose.coco.entries import id_key
from jaxpose.coco.reader import HALF_PIXEL
from jaxpose.storage import temporary_path

COORDINATES = (
    "keypoints are COCO's pixel indices (x, y) in the upright image: (0, 0) is the center of the "
    "first pixel. Add 0.5 for positions measured from the image's upper left corner. bbox is "
    "(x, y, width, height), with x and y measured from that corner"
)


class _ImageIds:
    """Assigns image ids: the given id, otherwise the next free number."""

    def __init__(self, taken: Iterable[int | str]):
        self._taken = {id_key(value) for value in taken}
        self._written: set[str | None] = set()
        self._last = 0

    def next(self, given: int | str | None) -> int | str:
        """Return the id of the next image; a given id that is in use is replaced."""
        if given is None or id_key(given) in self._written:
            self._last += 1
            while str(self._last) in self._taken or str(self._last) in self._written:
                self._last += 1
            given = self._last
        self._written.add(id_key(given))
        return given


class WrittenImage(NamedTuple):
    """An image to write, or one frame of a video.

    Attributes:
      file_name: name of the image or video.
      size: (width, height) in pixels.
      id: id of the image, for example from a data set's annotation file; None or an id that was
        already written is replaced by the next free id.
      frame: number of a video's frame, counted from 0; None for an image.
      time: seconds from the start of the video; None for an image.
    """

    file_name: str
    size: tuple[int, int]
    id: int | str | None = None
    frame: int | None = None
    time: float | None = None


def results_of(
    keypoints: np.ndarray,
    confidence: np.ndarray,
    *,
    image_id: int | str,
    category_id: int | str,
    threshold: float,
) -> list[dict[str, Any]]:
    """Format the N persons of one image as COCO results, in their order.

    Args:
      keypoints: [N, J, 2], (x, y) in pixels, continuous.
      confidence: [N, J], confidence of the joints.
      image_id: id of the image in the annotation file.
      category_id: id of the category in the annotation file.
      threshold: minimum confidence for v = 2, as in ``result_entry``.
    """
    ids: dict[str, Any] = {"image_id": image_id, "category_id": category_id}
    return [
        result_entry(points, values, threshold=threshold, **ids)
        for points, values in zip(keypoints, confidence, strict=True)
    ]


def result_entry(
    keypoints: np.ndarray,
    confidence: np.ndarray,
    *,
    image_id: int | str,
    category_id: int | str,
    threshold: float,
) -> dict[str, Any]:
    """Format one person as an entry of a COCO result file.

    Args:
      keypoints: [J, 2], (x, y) in pixels, continuous.
      confidence: [J], confidence of the joints; the mean is the score.
      image_id: id of the image in the annotation file.
      category_id: id of the category in the annotation file.
      threshold: minimum confidence for v = 2. Below it, v is 0. The position is kept even then,
        because OKS uses positions regardless of v.

    A joint whose position or confidence is not finite is written as 0, 0, 0, with confidence 0.

    Example:
      >>> result_entry(
      ...     np.array([[10.5, 20.5]]), np.array([0.75]),
      ...     image_id=7, category_id=1, threshold=0.5,
      ... )
      {'image_id': 7, 'category_id': 1, 'keypoints': [10, 20, 2], 'score': 0.75}
    """
    keypoints, confidence, finite = _replace_non_finite(keypoints, confidence)
    present = finite & (confidence >= threshold)
    triples = np.column_stack([(keypoints - HALF_PIXEL).round(3), np.where(present, 2.0, 0.0)])
    return {
        "image_id": image_id,
        "category_id": category_id,
        "keypoints": _short(triples),
        "score": round(float(confidence.mean()), 6),
    }


def _replace_non_finite(
    keypoints: np.ndarray, confidence: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Move joints with non-finite values to the center of the first pixel, with confidence 0.

    Returns the positions, the confidences, and which joints are finite.
    """
    finite = np.isfinite(keypoints).all(axis=-1) & np.isfinite(confidence)
    keypoints = np.where(finite[:, None], keypoints, HALF_PIXEL)
    return keypoints, np.where(finite, confidence, 0), finite


def _short(triples: np.ndarray) -> list[int | float]:
    """Flatten the values row by row, with integral values as int."""
    return [int(value) if value.is_integer() else value for value in triples.ravel().tolist()]


class _Writer:
    """Base of the writers: writes a temporary file and moves it into place on exit.

    After an error, or Ctrl-C before the first image, an existing file is left unchanged. After a
    later Ctrl-C, the images so far are kept.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        threshold: float,
        category: tuple[int | str, str] = (1, "person"),
        taken: Iterable[int | str] = (),
    ):
        """Open the file; arguments as in ``CocoWriter``."""
        self._path = pathlib.Path(path)
        self._part = temporary_path(self._path)
        self._file = open(self._part, "w", encoding="utf-8")
        self._threshold = threshold
        self._category_id, self._category_name = category
        self._ids = _ImageIds(taken)
        self._num_images = self._num_persons = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            if kind is None or (issubclass(kind, KeyboardInterrupt) and self._num_images):
                self._file.writelines(self._closing_text())
                self._file.close()
                os.replace(self._part, self._path)
        finally:
            self._file.close()
            self._part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Context that removes the images added inside it if an error is raised."""
        ends = [(file, file.tell()) for file in self._files()]
        counts = self._num_images, self._num_persons
        try:
            yield
        except Exception:
            for file, end in ends:
                file.seek(end)
                file.truncate()
            self._num_images, self._num_persons = counts
            raise

    def _files(self) -> list[TextIO]:
        """Files that are written incrementally."""
        return [self._file]

    def _closing_text(self) -> Iterable[str]:
        """Text after the last entry."""
        raise NotImplementedError


class ResultWriter(_Writer):
    """Writer for a COCO result file; the file is created when the context exits.

    ``add`` has the same arguments as ``CocoWriter.add`` and assigns the same image ids.
    """

    def _closing_text(self) -> Iterable[str]:
        return ["\n]\n" if self._num_persons else "[\n]\n"]

    def add(
        self,
        image: WrittenImage,
        keypoints: np.ndarray,
        confidence: np.ndarray,
        boxes: np.ndarray,
        *,
        track_ids: np.ndarray | None = None,
    ) -> None:
        """Append the N persons of one image.

        Args:
          image: the image; results contain only its id.
          keypoints: [N, J, 2], (x, y) in pixels, continuous.
          confidence: [N, J], confidence of the joints.
          boxes: [N, 4]; not part of results.
          track_ids: int [N] or None; not part of results.
        """
        self._num_images += 1
        for entry in results_of(
            keypoints,
            confidence,
            image_id=self._ids.next(image.id),
            category_id=self._category_id,
            threshold=self._threshold,
        ):
            separator = ",\n " if self._num_persons else "[\n "
            self._num_persons += 1
            self._file.write(separator + json.dumps(entry, allow_nan=False))


class CocoWriter(_Writer):
    """Writer for a file of predictions in COCO's format.

    The complete file is created when the context exits. After an error it is discarded; after
    Ctrl-C the images so far are kept.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        joints: Sequence[str],
        limbs: Sequence[Sequence[str]],
        checkpoint: str,
        threshold: float,
        category: tuple[int | str, str] = (1, "person"),
        taken: Iterable[int | str] = (),
    ):
        """Open the file.

        Args:
          path: path of the file; an existing file is replaced at the end.
          joints: J names.
          limbs: pairs of these names to connect in drawings.
          checkpoint: path of the checkpoint, recorded in the file.
          threshold: minimum confidence for v = 2.
          category: id and name of the category.
          taken: image ids that must not be given to images without an id.
        """
        super().__init__(path, threshold=threshold, category=category, taken=taken)
        self._images = tempfile.TemporaryFile("w+", encoding="utf-8")
        place = {name: index for index, name in enumerate(joints, 1)}  # COCO counts from 1
        info = {
            "description": f"keypoints by jaxpose {__version__}",
            "checkpoint": checkpoint,
            "coordinates": COORDINATES,
            "visibility": (
                f"v is 2 if the joint's confidence is at least {threshold:g}; otherwise v, x and y "
                "are 0"
            ),
        }
        entry = {
            "id": self._category_id,
            "name": self._category_name,
            "supercategory": self._category_name,
            "keypoints": list(joints),
            "skeleton": [[place[a], place[b]] for a, b in limbs],
        }
        self._file.write(
            f'{{\n "info": {json.dumps(info)},\n "categories": [\n  {json.dumps(entry)}\n ],\n'
            ' "annotations": ['
        )

    def __exit__(self, *exception) -> None:
        with self._images:
            super().__exit__(*exception)

    def _files(self) -> list[TextIO]:
        return [self._file, self._images]

    def _closing_text(self) -> Iterable[str]:
        self._images.seek(0)
        return itertools.chain(['\n ],\n "images": ['], self._images, ["\n ]\n}\n"])

    def add(
        self,
        image: WrittenImage,
        keypoints: np.ndarray,
        confidence: np.ndarray,
        boxes: np.ndarray,
        *,
        track_ids: np.ndarray | None = None,
    ) -> None:
        """Append one image with N persons.

        Args:
          image: the image's entry.
          keypoints: [N, J, 2], (x, y) in pixels, continuous.
          confidence: [N, J], confidence of the joints.
          boxes: [N, 4] (x, y, width, height) in pixels.
          track_ids: int [N], ids of persons tracked through a video; or None.
        """
        image_id = self._ids.next(image.id)
        separator = ",\n  " if self._num_images else "\n  "
        self._num_images += 1
        width, height = image.size
        entry: dict[str, int | float | str]
        entry = {"id": image_id, "file_name": image.file_name, "width": width, "height": height}
        of_frame = {"frame": image.frame, "time": image.time}
        entry |= {name: value for name, value in of_frame.items() if value is not None}
        self._images.write(separator + json.dumps(entry))
        ids = [None] * len(boxes) if track_ids is None else track_ids.tolist()
        for points, values, box, track_id in zip(keypoints, confidence, boxes, ids, strict=True):
            points, values, finite = _replace_non_finite(points, values)
            present = finite & (values >= self._threshold)
            indices = np.where(present[:, None], points - HALF_PIXEL, 0.0).round(3)
            triples = np.concatenate([indices, 2.0 * present[:, None]], axis=1)
            self._num_persons += 1
            annotation = {
                "id": self._num_persons,
                "image_id": image_id,
                "category_id": self._category_id,
                "keypoints": _short(triples),
                "num_keypoints": int(present.sum()),
                "confidence": values.astype(float).round(4).tolist(),
                "score": round(float(values.mean()), 4),
                "bbox": box.round(3).tolist(),
                "area": round(float(box[2] * box[3]), 3),
                "iscrowd": 0,
                **({} if track_id is None else {"track_id": track_id}),
            }
            separator = ",\n  " if self._num_persons > 1 else "\n  "
            self._file.write(separator + json.dumps(annotation, allow_nan=False))
