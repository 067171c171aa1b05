"""Predictions as JSON in COCO's container.

The file is written while the predictions come, so that an hour of video needs no more memory than
a photo.
"""

import json
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

from jaxpose import __version__
from jaxpose.predict.estimator import Prediction

PRESENT = 0.5  # probability from which a joint counts as there: drawn, and COCO's v = 2
COORDINATES = (
    "(x, y) in pixels of the upright picture, continuous: (0, 0) is the picture's upper left "
    "corner, the centre of its first pixel is (0.5, 0.5)"
)
VISIBILITY = (
    f"v is 2 where the joint is in the picture with a probability of at least {PRESENT}, else 0; "
    "confidence holds the probabilities"
)


class CocoWriter:
    """A file of predictions that appears, whole, when its context is left without an error."""

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        joints: Sequence[str],
        limbs: Sequence[Sequence[str]],
        checkpoint: str,
    ):
        """Opens the file; `joints` and `limbs` are an estimator's."""
        self._path = pathlib.Path(path)
        self._part = self._path.with_name(f".{self._path.name}.part")
        self._images = tempfile.TemporaryFile("w+", encoding="utf-8")
        self._file = open(self._part, "w", encoding="utf-8")
        self._counts = {"image": 0, "person": 0}
        place = {name: index for index, name in enumerate(joints, 1)}  # COCO counts from 1
        info = {
            "description": f"keypoints by jaxpose {__version__}",
            "checkpoint": checkpoint,
            "coordinates": COORDINATES,
            "visibility": VISIBILITY,
        }
        person = {
            "id": 1,
            "name": "person",
            "supercategory": "person",
            "keypoints": list(joints),
            "skeleton": [[place[a], place[b]] for a, b in limbs],
        }
        self._file.write(
            f'{{\n "info": {json.dumps(info)},\n "categories": [\n  {json.dumps(person)}\n ],\n'
            ' "annotations": ['
        )

    def __enter__(self) -> "CocoWriter":
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            if kind is None or issubclass(kind, KeyboardInterrupt):
                self._file.write('\n ],\n "images": [')
                self._images.seek(0)
                for line in self._images:
                    self._file.write(line)
                self._file.write("\n ]\n}\n")
                self._file.close()
                os.replace(self._part, self._path)
        finally:
            self._images.close()
            self._file.close()
            self._part.unlink(missing_ok=True)

    def add(
        self,
        prediction: Prediction,
        *,
        file_name: str,
        size: tuple[int, int],
        **more: Any,
    ) -> None:
        """Append one picture and its persons.

        Args:
          prediction: of the picture.
          file_name: of the picture or video.
          size: (width, height).
          more: what else the picture's entry says, such as a frame's number and time.
        """
        number = self._next("image", self._images)
        entry = {"id": number, "file_name": file_name, "width": size[0], "height": size[1], **more}
        self._images.write(json.dumps(entry))
        for points, confidence, box in zip(*prediction[:3], strict=True):
            there = confidence >= PRESENT
            triples = [
                value
                for (x, y), seen in zip(points.round(3).tolist(), there.tolist(), strict=True)
                for value in (x, y, 2 if seen else 0)
            ]
            annotation = {
                "id": self._next("person", self._file),
                "image_id": number,
                "category_id": 1,
                "keypoints": triples,
                "num_keypoints": int(there.sum()),
                "confidence": confidence.astype(float).round(4).tolist(),
                "score": round(float(confidence.mean()), 4),
                "bbox": box.round(3).tolist(),
                "area": round(float(box[2] * box[3]), 3),
                "iscrowd": 0,
            }
            self._file.write(json.dumps(annotation))

    def _next(self, kind: str, file: Any) -> int:
        file.write(",\n  " if self._counts[kind] else "\n  ")
        self._counts[kind] += 1
        return self._counts[kind]
