"""Predictions for MPII's test server: what the release's own evaluation reads (Table 5's).

The layout is that of "Evaluation on MPII Human Pose Dataset", single persons, and of
``evaluatePCKh.m`` in its toolkit (human-pose.mpi-inf.mpg.de, evalMPII.zip): a file of this name
with a struct array ``pred``, an element per test image in the release's order, as
``RELEASE.annolist(img_train == 0)`` has them. ``pred(i).annorect(r).annopoints.point`` holds x, y
(pixels, the first one is 1) and id (from 0) of each joint. The toolkit takes the rectangles that
have an ``objpos``, so every one of the release's does here, with a prediction or without. No server
has accepted such a file yet.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.io

from jaxpose.data.prepared import Annotations
from jaxpose.errors import JaxposeError
from jaxpose.evaluation.labeled_predictions import LabeledPredictions
from jaxpose.skeleton import MPII, joint_index

NAME = "pred_keypoints_mpii.mat"
ONE_BASED = 0.5  # from our convention to the release's: the first pixel's center is 1
NOTHING = np.zeros((0, 0))


def write(
    path: str | os.PathLike,
    images: Sequence[tuple[str, Sequence[tuple[float, float] | None]]],
    truth: Annotations,
    predictions: LabeledPredictions,
) -> None:
    """Write the file.

    Args:
      path: of the file; the toolkit wants it to be called `NAME`.
      images: of the release's test part, in its order: name, and of each rectangle its position
        (x, y) in release pixels by our convention, None where it has none.
      truth: of the N persons; ``image_name`` and ``person`` (the rectangle's place in its image)
        are read.
      predictions: of them, in release pixels. Joints that are not MPII's are left out.

    Raises:
      JaxposeError: a person whom the list of images does not have.
    """
    ids = joint_index(MPII.joints, predictions.prediction_joints)
    found = {}
    persons = zip(truth.image_name.tolist(), truth.person.tolist(), strict=True)
    for (name, number), points in zip(persons, predictions.prediction, strict=True):
        found[name, number] = _structs(
            [
                {"x": x + ONE_BASED, "y": y + ONE_BASED, "id": float(joint)}
                for joint, (x, y) in sorted(zip(ids.tolist(), points.tolist(), strict=True))
                if joint >= 0
            ]
        )
    elements = []
    for name, positions in images:
        rectangles = []
        for number, position in enumerate(positions):
            point = found.pop((name, number), None)
            rectangles.append(
                {
                    "annopoints": NOTHING if point is None else _structs([{"point": point}]),
                    "objpos": NOTHING if position is None else _position(position),
                }
            )
        image = _structs([{"name": name}])
        elements.append({"image": image, "annorect": _structs(rectangles)})
    if found:
        name, number = next(iter(found))
        raise JaxposeError(
            f"{name} person {number} is not in the data set's list of test images; prepare it again"
        )
    scipy.io.savemat(path, {"pred": _structs(elements)}, do_compression=True)


def _position(position: Sequence[float]) -> np.ndarray:
    x, y = position
    return _structs([{"x": x + ONE_BASED, "y": y + ONE_BASED}])


def _structs(elements: Sequence[Mapping]) -> np.ndarray:
    """A 1 x n struct array of MATLAB, of elements with the same fields; 0 x 0 if there are none."""
    if not elements:
        return NOTHING
    array = np.empty((1, len(elements)), [(name, object) for name in elements[0]])
    for index, element in enumerate(elements):
        array[0, index] = tuple(element.values())
    return array
