"""Read boxes of persons from files of detectors and labeling tools, or written by hand."""

import csv
import itertools
import os
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxpose import coco
from jaxpose.errors import JaxposeError
from jaxpose.predict.boxes import check_boxes
from jaxpose.predict.images import exif_orientation

MAX_INPUTS_SHOWN = 5  # in a message


class _Listed(NamedTuple):
    """A box in the file, and the size (width, height) that the file gives for its image, if any."""

    box: Sequence[float] | np.ndarray
    size: tuple[int, int] | None


class _Entry(NamedTuple):
    """Boxes of one input and its COCO image entries, both by frame."""

    boxes: dict[int, list[_Listed]]
    images: dict[int, coco.Image]

    def of(self, frame: int) -> list[_Listed]:
        """Return the boxes of a frame."""
        return self.boxes.get(frame, [])


class BoxFile:
    """Boxes of persons by image, read from a file.

    The file has one of four formats: COCO's JSON, a list of COCO results, a JSON object that maps
    file names to lists of boxes, or lines ``FILE,x,y,width,height`` with or without a header.
    COCO's JSON is read by ``jaxpose.coco``; its unusable entries are skipped and listed in
    ``dropped``. If it contains frames of a video, each of its images has a ``frame``, counted from
    0.

    Attributes:
      category: (id, name) of the persons; the name is "" if the file gives none.
      image_ids: ids of all images in the file; empty for formats other than COCO's.
      dropped: entries that are not used, as ``{reason: entries}``.
      changed: entries whose box was computed from their keypoints.
    """

    def __init__(self, path: str | os.PathLike, inputs: Sequence[str | os.PathLike] = ()):
        """Read a file.

        Args:
          path: path of the file.
          inputs: images and videos to look up. If a name in the file matches several inputs, it is
            assigned to the closest match.

        Raises:
          JaxposeError: the file cannot be read, or (for formats other than COCO's) one of its boxes
            is invalid.
        """
        self._path = path
        self.category: tuple[int | str, str] = (1, "")
        self.image_ids: tuple[int | str, ...] = ()
        self.dropped: coco.Dropped = {}
        self.changed: coco.Dropped = {}
        self._by_id: dict[str, str] = {}  # for results without file names: entry by image id
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
        """Return the boxes of an image or video.

        Args:
          path: path of the input; its last components are matched to the names in the file.

        Returns:
          {frame: boxes [N, 4]}, with frame 0 for an image; None if the file does not list the
          input.
        """
        entries = self._of(path)
        if not entries:
            return None
        frames = dict.fromkeys(frame for entry in entries for frame in entry.boxes)
        return {
            frame: check_boxes([found.box for entry in entries for found in entry.of(frame)])
            for frame in frames
        }

    def of_photo(self, path: str | os.PathLike, size: tuple[int, int]) -> np.ndarray:
        """Return the boxes of a photo. Frame numbers in the file are ignored.

        Args:
          path: path of the photo; its last components are matched to the names in the file.
          size: (width, height) of the upright photo.

        Returns:
          boxes [N, 4] in the upright photo; N may be 0.

        Raises:
          JaxposeError: the file gives another size for the photo, which is not its size before the
            EXIF orientation is applied, either.
        """
        boxes = []
        of_frames = [found for entry in self._of(path) for found in entry.boxes.values()]
        for box, listed in itertools.chain(*of_frames):
            orientation = coco.UPRIGHT if listed in (None, size) else exif_orientation(path)
            found = coco.label_orientation(listed, size, orientation)
            if found is None:
                raise self._other_size(path, listed, size)
            boxes.append(box if found == coco.UPRIGHT else coco.upright_box(box, found, listed))
        return check_boxes(boxes)

    def check_frame(self, path: str | os.PathLike, frame: int, size: tuple[int, int]) -> None:
        """Check the size that the file gives for a video's frame with boxes.

        Args:
          path: path of the video.
          frame: number of the frame.
          size: (width, height) of the frame, upright and with square pixels.

        Raises:
          JaxposeError: the file gives another size.
        """
        for entry in self._of(path):
            for _, listed in entry.of(frame):
                if listed not in (None, size):
                    raise self._other_size(f"frame {frame} of {path}", listed, size)

    def _other_size(self, what, listed: tuple[int, int], size: tuple[int, int]) -> JaxposeError:
        return JaxposeError(
            f"{what} has {size[0]}x{size[1]} pixels, but {self._path} gives boxes for "
            f"{listed[0]}x{listed[1]}; give boxes for this size, or correct width and height in "
            "the file"
        )

    def image(self, path: str | os.PathLike, frame: int | None = None) -> coco.Image | None:
        """Return the COCO entry of a photo or of a video's frame, None if the file has none.

        Args:
          path: path of the input; its last components are matched to the names in the file.
          frame: number of the video's frame; None for a photo: a frame number in its entry is
            ignored.
        """
        for entry in self._of(path):
            for number, image in entry.images.items():
                if frame in (None, number):
                    return image
        return None

    def unmatched(self, paths: Sequence[str | os.PathLike]) -> str:
        """Return one line that names inputs without an entry in the file; "" if there are none."""
        lacking = [path for path in paths if not self._of(path)]
        if not lacking:
            return ""
        shown = ", ".join(os.fspath(path) for path in lacking[:MAX_INPUTS_SHOWN])
        more = ", ..." * (len(lacking) > MAX_INPUTS_SHOWN)
        line = f"{self._path} has no boxes for {len(lacking)} of {len(paths)} inputs: {shown}{more}"
        for path in lacking:
            rivals = self._match(path).rivals
            if rivals:
                names = " and ".join(rivals[:2])
                return f"{line} ({os.fspath(path)} matches several names in the file: {names})"
        if self._by_id:
            return f"{line} (COCO results name images by id: 139 is 139.jpg or 000000000139.jpg)"
        return line

    def _match(self, path: str | os.PathLike) -> coco.Match:
        return self._matches.get(os.fspath(path)) or self._index.find(path)

    def _of(self, path: str | os.PathLike) -> list[_Entry]:
        names = self._match(path).names
        if not names and self._by_id:
            stem = _without_zeros(os.path.splitext(os.path.basename(path))[0])
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
            if not name:  # a result that gives only the id of its image
                key = _without_zeros(coco.id_key(image.id))
                name = self._by_id[key] = f"image_id {key}"
            entry = entries.setdefault(name, _Entry({}, {}))
            entry.boxes.setdefault(image.frame, [])
            entry.images.setdefault(image.frame, image)
        for annotation in chosen.annotations:
            image = annotation.image
            name = image.file_name or self._by_id[_without_zeros(coco.id_key(image.id))]
            entries[name].boxes[image.frame].append(_Listed(annotation.box, image.size))
        return entries


def _without_zeros(text: str) -> str:
    """Remove leading zeros from a number: COCO's own file names are zero-padded image ids."""
    return (text.lstrip("0") or "0") if text.isdecimal() else unicodedata.normalize("NFC", text)


def _of_names(found: dict[str, dict[int, list]], path: str | os.PathLike) -> dict[str, _Entry]:
    for name, frames in found.items():
        if not name.strip():
            raise JaxposeError(
                f"{path} has boxes without a file name; name the photo or video of each box"
            )
        try:
            for boxes in frames.values():
                check_boxes(boxes)
        except JaxposeError as error:
            raise JaxposeError(f"{path}, {name}: {error}") from error
    return {
        name: _Entry(
            {frame: [_Listed(box, None) for box in boxes] for frame, boxes in frames.items()}, {}
        )
        for name, frames in found.items()
    }


def _from_lines(text: str, path: str | os.PathLike) -> dict[str, dict[int, list]]:
    found: dict[str, dict[int, list]] = {}
    try:
        for number, row in enumerate(csv.reader(text.splitlines()), 1):
            if not row:
                continue
            if len(row) != 5:
                raise ValueError(f"line {number} has {len(row)} fields, not 5")
            box = [_float(text) for text in row[1:]]
            if number == 1 and box == [None] * 4:  # a header
                continue
            if None in box:
                raise ValueError(f"line {number} has a box that is not four numbers")
            found.setdefault(row[0], {0: []})[0].append(box)
    except (ValueError, csv.Error) as error:
        raise JaxposeError(
            f"{path}: {error}; give COCO's JSON, or lines FILE,x,y,width,height"
        ) from error
    return found


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
