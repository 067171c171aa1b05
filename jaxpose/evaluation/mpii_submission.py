"""Write predictions for MPII's test server (the paper's Table 5).

The layout is that of "Evaluation on MPII Human Pose Dataset", single persons, and of
``evaluatePCKh.m`` in its toolkit (human-pose.mpi-inf.mpg.de, evalMPII.zip). The file is named
``pred_keypoints_mpii.mat`` and contains a struct array ``pred``. The array has one element per test
image, in the order of ``RELEASE.annolist(img_train == 0)``.
``pred(i).annorect(r).annopoints.point`` contains x, y (pixels, counted from 1) and id (counted from
0) of each joint. The toolkit reads the rectangles that have an ``objpos``. Every rectangle that has
one in the release therefore has one in this file, with or without a prediction. The format has not
been verified with the test server.
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
ONE_BASED = 0.5  # offset to the release's coordinates, where the first pixel's center is 1
NOTHING = np.zeros((0, 0))


def write(
    path: str | os.PathLike,
    images: Sequence[tuple[str, Sequence[tuple[float, float] | None]]],
    truth: Annotations,
    predictions: LabeledPredictions,
) -> None:
    """Write the file.

    Args:
      path: path of the file; the toolkit expects the name ``NAME``.
      images: test images in the order of the release: name, and the position (x, y) of each
        rectangle in release pixels (our convention), or None if it has no position.
      truth: annotations of the N persons; ``image_name`` and ``person`` (index of the rectangle in
        its image) are used.
      predictions: predictions for the N persons, in release pixels. Joints other than MPII's are
        ignored.

    Raises:
      JaxposeError: a person is not in the list of images.
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
            f"{name} person {number} is not in the data set's list of test images; prepare the "
            "data set again"
        )
    scipy.io.savemat(path, {"pred": _structs(elements)}, do_compression=True)


def _position(position: Sequence[float]) -> np.ndarray:
    x, y = position
    return _structs([{"x": x + ONE_BASED, "y": y + ONE_BASED}])


def _structs(elements: Sequence[Mapping]) -> np.ndarray:
    """Make a MATLAB struct array, 1 x n, from elements with the same fields; 0 x 0 if n = 0."""
    if not elements:
        return NOTHING
    array = np.empty((1, len(elements)), [(name, object) for name in elements[0]])
    for index, element in enumerate(elements):
        array[0, index] = tuple(element.values())
    return array
