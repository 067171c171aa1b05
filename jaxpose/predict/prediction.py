"""`Prediction`: the persons of one image, drawn, as COCO's annotations, or written to files."""

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
from jaxpose.visualize import draw_number, draw_skeleton


class Prediction(NamedTuple):
    """Keypoints of N persons in one image.

    Persons that were found have the order of their scores, the highest first; those in given boxes
    have the boxes' order, and those that are tracked through a video that of their ids.

    Attributes:
      keypoints: float64 [N, J, 2], (x, y) in pixels of the upright photo; (0, 0) is its corner.
      confidence: float32 [N, J], estimated probability that the position is within half a head
        size of the truth; where the checkpoint has no calibration, `presence`.
      boxes: float64 [N, 4], the boxes (x, y, width, height) that the last pass looked at.
      joints: names of the J joints.
      presence: float32 [N, J], the paper's joint probability: that the joint is in the crop.
      scores: float32 [N], the mean confidence of each person's joints.
      limbs: pairs of joint names that a drawing connects.
      image: uint8 [H, W, 3], what was looked at.
      ids: int [N], of persons that are tracked through a video; None for a photo.
      source: path of the photo or video; None where it was given as an array.
      category: name of what has the joints, for COCO's files.
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
        """The persons at these places, in this order."""
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
        """The persons of both, of one image; without ids."""
        fields = ("keypoints", "confidence", "boxes", "presence", "scores")
        both: dict[str, Any] = {
            f: np.concatenate([getattr(self, f), getattr(other, f)]) for f in fields
        }
        return self._replace(**both, ids=None)

    def draw(self, *, min_confidence: float = MIN_CONFIDENCE) -> np.ndarray:
        """A copy of the image with every person's skeleton, uint8 [H, W, 3].

        Persons who are tracked, and several persons of a photo, are numbered.

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
        """The persons as COCO's results, in their order.

        Args:
          image_id: of the image, as the annotation file has it.
          category_id: likewise, of what has the joints.
          min_confidence: v is 2 from there, else 0.

        Returns:
          One dict for each person: ``image_id``, ``category_id``, ``keypoints`` and ``score``, as
          `jaxpose predict --results` writes them.
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
          path: of the file; one that is there is replaced.
          min_confidence: as in `draw` and `to_coco`.

        Raises:
          JaxposeError: the name has another suffix, or the folder is not there.
        """
        file = pathlib.Path(local_path(path))
        suffix = file.suffix.lower()
        if suffix not in WRITTEN | {".json"}:
            raise JaxposeError(f"{file} is not written; give a name in .jpg, .png or .json")
        if not file.parent.is_dir():
            raise JaxposeError(f"no folder {file.parent}; create it first")
        if suffix != ".json":
            save_image(self.draw(min_confidence=min_confidence), file)
            return
        with coco.CocoWriter(
            file,
            joints=self.joints,
            limbs=self.limbs,
            checkpoint="",
            threshold=min_confidence,
            category=(1, self.category),
        ) as writer:
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
        """Append the persons to a `coco.CocoWriter` or `coco.ResultWriter`.

        Args:
          writer: the file.
          file_name: of the photo or video.
          image_id: of the image, as another file has it; None for the next free one.
          frame: number of a video's frame, from 0.
          time: seconds from the start of the video.
        """
        height, width = self.image.shape[:2]
        image = coco.WrittenImage(file_name, (width, height), image_id, frame, time)
        writer.add(image, self.keypoints, self.confidence, self.boxes, track_ids=self.ids)
