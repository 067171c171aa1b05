"""Boxes of persons out of the files that detectors and people write."""

import csv
import json
import os
import pathlib

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.predict.boxes import check_boxes


class BoxFile:
    """Boxes of persons by picture, as a detector or a person wrote them into a file.

    JSON: COCO's container (``images`` with ``annotations`` that have a ``bbox``; for a video's
    frames each image has a ``frame``, counted from 0), or one object of file names and lists of
    boxes. Anything else is read as lines ``FILE,x,y,width,height`` with or without a heading.
    """

    def __init__(self, path: str | os.PathLike):
        """Reads a file.

        Raises:
          JaxposeError: it cannot be read, or one of its boxes is none.
        """
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise JaxposeError(f"cannot read boxes from {path}: {reason}") from error
        read = _from_json if text.lstrip()[:1] in ("{", "[") else _from_lines
        try:
            entries = read(text)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JaxposeError(
                f"{path} holds no boxes that can be read ({type(error).__name__}: {error}); give "
                "COCO's JSON, or lines FILE,x,y,width,height"
            ) from error
        self._boxes: dict[str, list[tuple[tuple[str, ...], dict]]] = {}
        for name, frames in entries.items():
            parts = pathlib.PurePath(name.replace("\\", "/")).parts
            if not parts:
                raise JaxposeError(f"{path} has boxes without the name of a file")
            try:
                checked = {frame: check_boxes(boxes) for frame, boxes in frames.items()}
            except JaxposeError as error:
                raise JaxposeError(f"{path}, {name}: {error}") from error
            self._boxes.setdefault(parts[-1], []).append((parts, checked))

    def of(self, path: str | os.PathLike) -> dict[int, np.ndarray] | None:
        """Boxes [N, 4] of a picture or video by frame (a picture is frame 0).

        Args:
          path: whose last parts are the file's name for it.

        Returns:
          None if the file does not name it.
        """
        parts = pathlib.PurePath(os.path.abspath(path)).parts
        fitting = [
            (len(named), boxes)
            for named, boxes in self._boxes.get(parts[-1], [])
            if parts[-len(named) :] == named
        ]
        return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def _from_json(text: str) -> dict[str, dict[int, list]]:
    content = json.loads(text)
    if "annotations" not in content:
        return {str(name): {0: boxes} for name, boxes in content.items()}
    images = {image["id"]: image for image in content["images"]}
    found: dict[str, dict[int, list]] = {}
    for image in images.values():
        found.setdefault(image["file_name"], {})[int(image.get("frame", 0))] = []
    for annotation in content["annotations"]:
        image = images[annotation["image_id"]]
        frames = found[image["file_name"]]
        frames[int(image.get("frame", 0))].append(annotation["bbox"])
    return found


def _from_lines(text: str) -> dict[str, dict[int, list]]:
    found: dict[str, dict[int, list]] = {}
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        if not row:
            continue
        if len(row) != 5:
            raise ValueError(f"line {number} has {len(row)} fields, not 5")
        try:
            box = [float(value) for value in row[1:]]
        except ValueError:
            if number == 1:  # a heading
                continue
            raise ValueError(f"line {number} has a box that is no number") from None
        found.setdefault(row[0], {0: []})[0].append(box)
    return found
