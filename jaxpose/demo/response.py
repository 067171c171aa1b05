"""Responses to the page for a photo: persons with heat maps, or a file of keypoints."""

import base64
import io
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxpose import coco
from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional
from jaxpose.predict import PoseEstimator, Prediction, as_image, panels
from jaxpose.predict.boxes import MIN_CONFIDENCE
from jaxpose.predict.images import is_heic_data, warnings_of_pillow_ignored
from jaxpose.visualize import heat_map, joint_colors

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # formats that browsers show; others are rejected
QUALITY = 80  # of WebP
MAX_PERSONS = 10  # the page's initial maximum


def about(estimator: PoseEstimator) -> dict[str, Any]:
    """Describe the network for the page, before there is a photo."""
    return {
        "checkpoint": str(estimator.source or ""),
        "image_size": estimator.image_size,
        "joints": len(estimator.joints),
        "threshold": MIN_CONFIDENCE,
        "max_persons": MAX_PERSONS,
    }


def predict_photo(
    estimator: PoseEstimator,
    data: bytes,
    boxes: Sequence[Sequence[float]] | None = None,
    *,
    max_persons: int | None = None,
) -> dict[str, Any]:
    """Predict everything that the page shows for a photo.

    Args:
      estimator: the network.
      data: content of the photo's file.
      boxes: (x, y, width, height) in pixels of the upright photo, one per person; None to find the
        persons, as in ``PoseEstimator.predict``.
      max_persons: maximum number of persons to find.

    Returns:
      Plain JSON values: ``size`` of the photo, ``limbs`` as pairs of indices into the joints, and
      ``persons``. Each person has ``score``; the ``box`` and ``crop`` (x, y, width, height) that
      the person was predicted in; ``joints``, each with name, x and y in pixels of the photo,
      confidence, color, and an image of the part map over the crop; and ``part_maps``, an image of
      all part maps.

    Raises:
      JaxposeError: the data are not an image, or a box has no area or lies outside the image.
    """
    found = _found(estimator, data, boxes, max_persons)
    place = {name: index for index, name in enumerate(estimator.joints)}
    return {
        "size": [found.image.shape[1], found.image.shape[0]],
        "limbs": [[place[a], place[b]] for a, b in estimator.limbs],
        "persons": [_person(estimator, found, index) for index in range(len(found.boxes))],
    }


def keypoints_file(
    estimator: PoseEstimator,
    data: bytes,
    boxes: Sequence[Sequence[float]] | None = None,
    *,
    found: Sequence[int] | None = None,
    max_persons: int | None = None,
    min_confidence: float = MIN_CONFIDENCE,
    file_name: str = "photo",
) -> bytes:
    """Predict the persons in a photo, in the format of ``jaxpose predict --json``.

    Args:
      estimator: the network.
      data: content of the photo's file.
      boxes: as in ``predict_photo``.
      found: indices (from 0) of persons that ``predict_photo`` finds without boxes. The file
        contains these persons, followed by those in ``boxes``. None selects all found persons if
        there are no boxes, and none of them otherwise.
      max_persons: as in ``predict_photo``.
      min_confidence: minimum confidence for v = 2.
      file_name: name of the photo in the JSON.

    Raises:
      JaxposeError: for the same reasons as ``predict_photo``, or ``found`` has an index without a
        person.
    """
    if found is None:
        prediction = _found(estimator, data, boxes, max_persons)
    else:
        prediction = _found(estimator, data, None, max_persons)
        count = len(prediction.boxes)
        for index in found:
            if not 0 <= index < count:
                raise JaxposeError(
                    f"there is no person {index}; {count} were found, and indices start at 0"
                )
        prediction = prediction.select(found)
        if boxes:
            prediction = prediction.joined(_found(estimator, data, boxes, None))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "keypoints.json"
        with coco.CocoWriter(
            path,
            joints=estimator.joints,
            limbs=estimator.limbs,
            checkpoint=str(estimator.source or ""),
            threshold=min_confidence,
            category=(1, estimator.category),
        ) as writer:
            prediction.add_to(writer, file_name=file_name)
        return path.read_bytes()


def _found(
    estimator: PoseEstimator,
    data: bytes,
    boxes: Sequence[Sequence[float]] | None,
    max_persons: int | None,
) -> Prediction:
    return estimator.predict(as_image(_opened(data)), boxes, max_persons=max_persons)


def _person(estimator: PoseEstimator, found: Prediction, index: int) -> dict[str, Any]:
    """Describe one person, as in ``predict_photo``."""
    person = panels.predict_person(estimator, found.image, found.boxes[index])
    crop = person.maps.crop
    heatmaps, temperature = panels.part_maps_of(estimator, person), estimator.net.temperature
    (left, top), side = np.subtract(crop.center, crop.side / 2), crop.side
    return {
        "score": float(found.scores[index]),
        "box": found.boxes[index].tolist(),
        "crop": [float(left), float(top), float(side), float(side)],
        "joints": [
            {
                "name": name.replace("_", " "),
                "x": float(x),
                "y": float(y),
                "confidence": float(confidence),
                "color": "#" + bytes(color).hex(),
                "map": _as_url(
                    heat_map(heatmaps[..., joint], temperature=temperature, image=person.crop)
                ),
            }
            for joint, (name, (x, y), confidence, color) in enumerate(
                zip(
                    estimator.joints,
                    found.keypoints[index],
                    found.confidence[index],
                    joint_colors(estimator.joints),
                    strict=True,
                )
            )
        ],
        "part_maps": _as_url(panels.part_maps_on_crop(estimator, person)),
    }


def _opened(data: bytes):
    """Open a photo as a PIL image, without decoding its pixels."""
    images = import_optional("PIL.Image", extra="demo")
    if is_heic_data(data):
        raise JaxposeError("the file is a HEIC image; convert it to JPEG or PNG first")
    try:
        with warnings_of_pillow_ignored:
            return images.open(io.BytesIO(data), formats=FORMATS)
    except images.DecompressionBombError:
        most = 2 * images.MAX_IMAGE_PIXELS
        raise JaxposeError(f"the image has more than {most:,} pixels; resize it first") from None
    except Exception:  # Pillow's decoders raise many kinds for a corrupt file
        raise JaxposeError("the file is not an image; use a JPEG, PNG or WebP image") from None


def _as_url(image: np.ndarray) -> str:
    """Encode an image uint8 [H, W, 3] as a data URL."""
    images = import_optional("PIL.Image", extra="demo")
    file = io.BytesIO()
    images.fromarray(image).save(file, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
