"""``Prediction``: the persons of one image; draws them and writes COCO annotations."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose import coco
from jaxpose.errors import JaxposeError
from jaxpose.paths import local_path
from jaxpose.predict.boxes import MIN_CONFIDENCE
from jaxpose.predict.images import WRITTEN, save_image
from jaxpose.storage import check_folder, write_errors
from jaxpose.visualize import draw_number, draw_skeleton


class Prediction(NamedTuple):
    """Keypoints of N persons in one image.

    Persons that the search or a detector found are sorted by score, the highest first. Persons in
    given boxes are in the order of the boxes, and tracked persons in the order of their ids.

    Attributes:
      keypoints: float64 [N, J, 2], (x, y) in pixels of the upright photo; (0, 0) is its corner.
      confidence: float32 [N, J], estimated probability that the position is within half a head
        size of the truth; equal to ``presence`` if the checkpoint is not calibrated.
      boxes: float64 [N, 4], boxes (x, y, width, height) that the crops were computed from. If a
        pose is the mean of two predictions (see ``PoseEstimator.predict``), this is the box of the
        second prediction.
      joints: names of the J joints.
      presence: float32 [N, J], probability that the joint is in the crop (the paper's joint
        probability).
      scores: float32 [N], the mean confidence of each person's joints.
      limbs: pairs of joint names to connect in drawings.
      image: uint8 [H, W, 3], the image that was predicted.
      ids: int [N], ids of the persons tracked through a video; None for a photo.
      source: path of the photo or video; None if it was given as an array.
      category: name of the category that has the joints, for COCO's files.
      frame: number of a video's frame, from 0; None for a photo.

    Example:
      >>> found = Prediction(
      ...     keypoints=np.array([[[20.0, 10.0], [21.0, 30.0]]]), confidence=np.array([[0.9, 0.7]]),
      ...     boxes=np.array([[15.0, 5.0, 12.0, 30.0]]), joints=("head", "neck"),
      ...     presence=np.array([[1.0, 0.9]]), scores=np.array([0.8]), limbs=(("head", "neck"),),
      ...     image=np.zeros((48, 64, 3), np.uint8),
      ... )
      >>> found.draw().shape
      (48, 64, 3)
      >>> found.to_coco(image_id=7)[0]["keypoints"]  # COCO's pixel indices
      [19.5, 9.5, 2, 20.5, 29.5, 2]
    """

    keypoints: np.ndarray
    confidence: np.ndarray
    boxes: np.ndarray
    joints: tuple[str, ...]
    presence: np.ndarray
    scores: np.ndarray
    limbs: tuple[tuple[str, str], ...]
    image: np.ndarray
    ids: np.ndarray | None = None
    source: str | None = None
    category: str = "person"
    frame: int | None = None

    def select(self, persons: Sequence[int] | np.ndarray) -> "Prediction":
        """Select persons by index, in the given order."""
        places = np.asarray(persons, int)
        return self._replace(
            keypoints=self.keypoints[places],
            confidence=self.confidence[places],
            boxes=self.boxes[places],
            presence=self.presence[places],
            scores=self.scores[places],
            ids=None if self.ids is None else self.ids[places],
        )

    def joined(self, other: "Prediction") -> "Prediction":
        """Concatenate the persons of two predictions for one image; ids are dropped."""
        fields = ("keypoints", "confidence", "boxes", "presence", "scores")
        both: dict[str, Any] = {
            f: np.concatenate([getattr(self, f), getattr(other, f)]) for f in fields
        }
        return self._replace(**both, ids=None)

    def draw(self, *, min_confidence: float = MIN_CONFIDENCE) -> np.ndarray:
        """Draw every person's skeleton on a copy of the image, uint8 [H, W, 3].

        Tracked persons are numbered, and so are the persons of a photo if there are several.

        Args:
          min_confidence: joints below it are not drawn.
        """
        image = self.image.copy()
        for points, confidence in zip(self.keypoints, self.confidence, strict=True):
            image = draw_skeleton(
                image,
                points,
                joints=self.joints,
                limbs=self.limbs,
                confidence=confidence,
                threshold=min_confidence,
            )
        if self.ids is None and len(self.keypoints) < 2:
            return image
        numbers = range(1, len(self.keypoints) + 1) if self.ids is None else self.ids.tolist()
        for number, points, confidence in zip(
            numbers, self.keypoints, self.confidence, strict=True
        ):
            shown = points[confidence >= min_confidence]
            if len(shown):
                image = draw_number(image, number, shown[shown[:, 1].argmin()])
        return image

    def to_coco(
        self,
        *,
        image_id: int | str = 1,
        category_id: int | str = 1,
        min_confidence: float = MIN_CONFIDENCE,
    ) -> list[dict[str, Any]]:
        """Format the persons as COCO results, in their order.

        Args:
          image_id: id of the image in the annotation file.
          category_id: id of the persons' category in the annotation file.
          min_confidence: minimum confidence for v = 2; below it v is 0.

        Returns:
          One dict for each person: ``image_id``, ``category_id``, ``keypoints`` and ``score``, in
          the format of ``jaxpose predict --results``.
        """
        return coco.results_of(
            self.keypoints,
            self.confidence,
            image_id=image_id,
            category_id=category_id,
            threshold=min_confidence,
        )

    def save(self, path: str | os.PathLike, *, min_confidence: float = MIN_CONFIDENCE) -> None:
        """Write the drawing as a .jpg or .png, or the keypoints as COCO's .json.

        Args:
          path: path of the file; an existing file is replaced.
          min_confidence: as in ``draw`` and ``to_coco``.

        Raises:
          JaxposeError: the name has another suffix, the folder does not exist, or the file cannot
            be written.
        """
        file = pathlib.Path(local_path(path))
        suffix = file.suffix.lower()
        if suffix not in WRITTEN | {".json"}:
            raise JaxposeError(f"cannot write {file}; use a name ending in .jpg, .png or .json")
        check_folder(file)
        if suffix != ".json":
            save_image(self.draw(min_confidence=min_confidence), file)
            return
        with write_errors(file):
            writer = coco.CocoWriter(
                file,
                joints=self.joints,
                limbs=self.limbs,
                checkpoint="",
                threshold=min_confidence,
                category=(1, self.category),
            )
            with writer:
                self.add_to(writer, file_name=self.source or file.stem, frame=self.frame)

    def add_to(
        self,
        writer: coco.CocoWriter | coco.ResultWriter,
        *,
        file_name: str,
        image_id: int | str | None = None,
        frame: int | None = None,
        time: float | None = None,
    ) -> None:
        """Append the persons to a ``coco.CocoWriter`` or ``coco.ResultWriter``.

        Args:
          writer: the file.
          file_name: name of the photo or video.
          image_id: id of the image, for example from a data set's annotation file; None for the
            next free id.
          frame: number of a video's frame, from 0.
          time: seconds from the start of the video.
        """
        height, width = self.image.shape[:2]
        image = coco.WrittenImage(file_name, (width, height), image_id, frame, time)
        writer.add(image, self.keypoints, self.confidence, self.boxes, track_ids=self.ids)
