"""One photo's answer for the page: positions, probabilities and images of the maps, as JSON."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional
from jaxpose.predict import PoseEstimator, as_image, panels
from jaxpose.predict.boxes import MIN_CONFIDENCE
from jaxpose.predict.images import is_heic_data, warnings_of_pillow_ignored
from jaxpose.visualize import heat_map, joint_colors

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # what browsers show; nothing else is decoded
QUALITY = 80  # of WebP


def about(estimator: PoseEstimator) -> dict[str, Any]:
    """What the page says of the network before it saw a photo."""
    return {
        "checkpoint": str(estimator.source or ""),
        "image_size": estimator.image_size,
        "joints": len(estimator.joints),
        "threshold": MIN_CONFIDENCE,
    }


def predict_photo(
    estimator: PoseEstimator, data: bytes, box: Sequence[float] | None = None
) -> dict[str, Any]:
    """Everything that the page shows of one person.

    Args:
      estimator: the network.
      data: the photo's file.
      box: (x, y, width, height) in pixels of the upright photo; None finds the person, as
        `PoseEstimator.predict` does.

    Returns:
      Plain and JSON-serializable: ``size`` of the photo, ``box`` and ``crop`` that were looked at
      (x, y, width, height), ``joints`` (name, x, y in pixels of the photo, confidence, color and
      the image of its part map over the crop), ``limbs`` as pairs of indices, and ``part_maps``,
      the image of all of them.

    Raises:
      JaxposeError: the data are no image, or the box has no area or lies outside of it.
    """
    image = as_image(_opened(data))
    found = estimator.predict(image, None if box is None else [box], max_persons=1, min_score=0.0)
    person = panels.predict_person(estimator, image, found.boxes[0])
    crop = person.maps.crop
    heatmaps, temperature = panels.part_maps_of(estimator, person), estimator.net.temperature
    place = {name: index for index, name in enumerate(estimator.joints)}
    (left, top), side = np.subtract(crop.center, crop.side / 2), crop.side
    return {
        "size": [image.shape[1], image.shape[0]],
        "box": found.boxes[0].tolist(),
        "crop": [float(left), float(top), float(side), float(side)],
        "joints": [
            {
                "name": name.replace("_", " "),
                "x": float(x),
                "y": float(y),
                "confidence": float(confidence),
                "color": "#" + bytes(color).hex(),
                "map": _as_url(
                    heat_map(heatmaps[..., index], temperature=temperature, image=person.crop)
                ),
            }
            for index, (name, (x, y), confidence, color) in enumerate(
                zip(
                    estimator.joints,
                    found.keypoints[0],
                    found.confidence[0],
                    joint_colors(estimator.joints),
                    strict=True,
                )
            )
        ],
        "limbs": [[place[a], place[b]] for a, b in estimator.limbs],
        "part_maps": _as_url(panels.part_maps_on_crop(estimator, person)),
    }


def _opened(data: bytes):
    """The bytes of a photo as a PIL image; no pixel is decoded yet."""
    images = import_optional("PIL.Image", extra="demo")
    if is_heic_data(data):
        raise JaxposeError("that file is a HEIC image; turn it into JPEG or PNG first")
    try:
        with warnings_of_pillow_ignored:
            return images.open(io.BytesIO(data), formats=FORMATS)
    except images.DecompressionBombError:
        raise JaxposeError("that image has too many pixels; reduce it first") from None
    except Exception:  # Pillow's decoders raise many kinds for a corrupt file
        raise JaxposeError("that file is no image; take a JPEG, PNG or WebP") from None


def _as_url(image: np.ndarray) -> str:
    """uint8 [H, W, 3] as a data: address."""
    images = import_optional("PIL.Image", extra="demo")
    file = io.BytesIO()
    images.fromarray(image).save(file, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
