"""Boxes of persons out of the files that detectors, labeling tools and people write."""

import csv
import os
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxpose import coco
from jaxpose.errors import JaxposeError
from jaxpose.predict.boxes import check_boxes

MAX_INPUTS_SHOWN = 5  # in a message


class _Entry(NamedTuple):
    """Boxes of one file by frame, and the COCO images that they come from."""

    boxes: dict[int, list]
    images: dict[int, coco.Image]


class BoxFile:
    """Boxes of persons by image, as a detector or a person wrote them into a file.

    The file is COCO's JSON (`jaxpose.coco` says what is tolerated; for a video's frames each image
    has a ``frame``, counted from 0), a list of COCO results, one JSON object of file names and
    lists of boxes, or lines ``FILE,x,y,width,height`` with or without a heading. In COCO's JSON an
    entry that cannot be used is left out and listed in `dropped`.

    Attributes:
      category: (id, name) of the persons; the name is "" where the file gives none.
      image_ids: of all images in the file; none where it is not COCO's.
      dropped: entries that are not used, by reason.
      changed: entries whose box is that of their keypoints.
    """

    def __init__(self, path: str | os.PathLike, inputs: Sequence[str | os.PathLike] = ()):
        """Read a file.

        Args:
          path: of it.
          inputs: images and videos that boxes are wanted for. A name that fits several of them by
            its last parts belongs to the closest.

        Raises:
          JaxposeError: it cannot be read, or it is not COCO's and one of its boxes is none.
        """
        self._path = path
        self.category: tuple[int | str, str] = (1, "")
        self.image_ids: tuple[int | str, ...] = ()
        self.dropped: coco.Dropped = {}
        self.changed: coco.Dropped = {}
        self._by_id: dict[str, str] = {}  # of results without file names: an id's entry
        text = coco.read_text(path)
        content = coco.decode_json(text, path) if text.lstrip()[:1] in ("{", "[") else None
        if content is None:
            entries = _of_names(_from_lines(text, path), path)
        elif coco.is_coco(content):
            entries = self._from_coco(coco.parse_coco(content, path))
        else:
            entries = _of_names({name: {0: boxes} for name, boxes in content.items()}, path)
        self._entries = entries
        ids = set(self._by_id.values())
        self._index = coco.NameIndex(name for name in entries if name not in ids)
        self._matches = self._index.match(inputs)

    def of(self, path: str | os.PathLike) -> dict[int, np.ndarray] | None:
        """Boxes [N, 4] of an image or video by frame (an image is frame 0).

        Args:
          path: whose last parts are the file's name for it.

        Returns:
          None if the file does not name it.
        """
        entries = self._of(path)
        if not entries:
            return None
        frames = dict.fromkeys(frame for entry in entries for frame in entry.boxes)
        return {
            frame: check_boxes([box for entry in entries for box in entry.boxes.get(frame, [])])
            for frame in frames
        }

    def of_photo(self, path: str | os.PathLike) -> np.ndarray:
        """Boxes [N, 4] of a photo, whatever frame its entry gives; none if the file omits it."""
        return np.concatenate([np.zeros((0, 4)), *(self.of(path) or {}).values()])

    def image(self, path: str | os.PathLike, frame: int | None = None) -> coco.Image | None:
        """COCO's entry of a photo or of one frame of a video, None if the file has none.

        Args:
          path: whose last parts are the file's name for it.
          frame: of a video; None for a photo, whose entry may give any.
        """
        for entry in self._of(path):
            for number, image in entry.images.items():
                if frame in (None, number):
                    return image
        return None

    def unmatched(self, paths: Sequence[str | os.PathLike]) -> str:
        """One line that names the inputs without an entry in the file, "" if there are none."""
        lacking = [path for path in paths if not self._of(path)]
        if not lacking:
            return ""
        shown = ", ".join(os.fspath(path) for path in lacking[:MAX_INPUTS_SHOWN])
        more = ", ..." * (len(lacking) > MAX_INPUTS_SHOWN)
        line = f"{self._path} has no boxes for {len(lacking)} of {len(paths)} inputs: {shown}{more}"
        for path in lacking:
            rivals = self._match(path).rivals
            if rivals:
                return f"{line} ({os.fspath(path)} may be {' or '.join(rivals[:2])})"
        if self._by_id:
            return f"{line} (COCO results name images by id: 139 is 139.jpg or 000000000139.jpg)"
        return line

    def _match(self, path: str | os.PathLike) -> coco.Match:
        return self._matches.get(os.fspath(path)) or self._index.find(path)

    def _of(self, path: str | os.PathLike) -> list[_Entry]:
        names = self._match(path).names
        if not names and self._by_id:
            stem = _number(os.path.splitext(os.path.basename(path))[0])
            names = [self._by_id[stem]] if stem in self._by_id else []
        return [self._entries[name] for name in names]

    def _from_coco(self, file: coco.CocoFile) -> dict[str, _Entry]:
        chosen = coco.select(file)
        if chosen.category:
            self.category = (chosen.category.id, chosen.category.name)
        elif chosen.annotations and chosen.annotations[0].category_id is not None:
            self.category = (chosen.annotations[0].category_id, "")
        self.dropped = chosen.dropped
        self.changed = {
            reason: names for reason, names in file.changed.items() if reason == coco.KEYPOINT_BOX
        }
        self.image_ids = tuple(image.id for image in file.images)
        entries: dict[str, _Entry] = {}
        for image in file.images:
            name = image.file_name
            if not name:  # a result that knows its image's id alone
                key = _number(coco.id_key(image.id))
                name = self._by_id[key] = f"image_id {key}"
            entry = entries.setdefault(name, _Entry({}, {}))
            entry.boxes.setdefault(image.frame, [])
            entry.images.setdefault(image.frame, image)
        for annotation in chosen.annotations:
            image = annotation.image
            name = image.file_name or self._by_id[_number(coco.id_key(image.id))]
            entries[name].boxes[image.frame].append(annotation.box)
        return entries


def _number(text: str) -> str:
    """A number without its leading zeros, by which COCO's own file names are its image ids."""
    return (text.lstrip("0") or "0") if text.isdecimal() else unicodedata.normalize("NFC", text)


def _of_names(found: dict[str, dict[int, list]], path: str | os.PathLike) -> dict[str, _Entry]:
    for name, frames in found.items():
        if not name.strip():
            raise JaxposeError(f"{path} has boxes without the name of a file")
        try:
            for boxes in frames.values():
                check_boxes(boxes)
        except JaxposeError as error:
            raise JaxposeError(f"{path}, {name}: {error}") from error
    return {name: _Entry(frames, {}) for name, frames in found.items()}


def _from_lines(text: str, path: str | os.PathLike) -> dict[str, dict[int, list]]:
    found: dict[str, dict[int, list]] = {}
    try:
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
                raise ValueError(f"line {number} has a box that is not four numbers") from None
            found.setdefault(row[0], {0: []})[0].append(box)
    except (ValueError, csv.Error) as error:
        raise JaxposeError(
            f"{path}: {error}; give COCO's JSON, or lines FILE,x,y,width,height"
        ) from error
    return found
