"""OKS-AP, COCO's keypoint metric, computed by pycocotools.

The object keypoint similarity of a prediction is the mean of exp(-d^2 / (2 s^2 k^2)) over the
labeled joints: d is the distance in pixels, s^2 the area of the person, and k twice the joint's
sigma. AP is the mean average precision at the similarities 0.5, 0.55, ..., 0.95. The predictions
here are for given boxes, one per person, so no person is missed by a detector, and all predictions
of an image count. (By default, pycocotools leaves out all but the 20 with the highest scores.)
"""

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose.coco import HALF_PIXEL
from jaxpose.errors import JaxposeError
from jaxpose.evaluation.evaluation_set import EvaluationSet
from jaxpose.evaluation.protocol_results import ProtocolResult
from jaxpose.evaluation.protocols import Protocol
from jaxpose.optional import import_optional
from jaxpose.skeleton import joint_index

# Key, header and index in the statistics of pycocotools.
COLUMNS = (
    ("ap50", "AP.5", 1),
    ("ap75", "AP.75", 2),
    ("medium", "AP M", 3),
    ("large", "AP L", 4),
    ("recall", "AR", 5),
)

# Similarity (None: mean over all) and area range of each statistic of pycocotools: first average
# precisions, then average recalls.
_SUMMARIES = ((None, "all"), (0.5, "all"), (0.75, "all"), (None, "medium"), (None, "large"))

# Coordinate that replaces NaN, with which pycocotools matches every person, and infinity. It is far
# from every image, but boxes that contain it are still within pycocotools' largest area (1e10).
FAR = -1e4

OKS_AP = Protocol(
    name="oks-ap",
    metric="OKS-AP",
    parts=(),
    joints=(),
    columns=tuple((key, header, ()) for key, header, _ in COLUMNS),
    total="AP",
    normalizer="area",
    pooled=False,
    threshold=0.5,
    thresholds=(),
    reported=(),
)


class Entries(NamedTuple):
    """Truth and predictions in the format of pycocotools.

    Attributes:
      data_set: the truth, with the ignored persons as crowds.
      results: one prediction per person.
    """

    data_set: dict[str, Any]
    results: list[dict[str, Any]]


def lacks(evaluation_set: EvaluationSet) -> str:
    """Describe what the truth lacks for OKS-AP; "" if nothing."""
    missing = [name for name in ("area", "image_id") if getattr(evaluation_set.truth, name) is None]
    missing += ["sigmas"] * (not evaluation_set.sigmas)
    return " and ".join(missing)


def installed() -> bool:
    """Whether pycocotools can be imported."""
    return importlib.util.find_spec("pycocotools") is not None


def oks_ap(
    keypoints: np.ndarray, presence: np.ndarray, evaluation_set: EvaluationSet
) -> ProtocolResult:
    """Evaluate the predictions for a split by OKS-AP.

    Joints that the network was not trained on are ignored. Without any other joint, or without
    persons, the figures of the result are None.

    Args:
      keypoints: [N, J, 2] (x, y) of the network's joints, in pixels of the stored images;
        non-finite predictions count as wrong.
      presence: [N, J]; a prediction's score is the mean over the trained joints, with 0 for a
        presence that is not finite.
      evaluation_set: the N persons, with ``area`` and ``image_id``, and the sigmas of their joints.

    Returns:
      The result of ``OKS_AP``, in percent.

    Raises:
      JaxposeError: the truth lacks what OKS needs, or pycocotools is not installed.
    """
    missing = lacks(evaluation_set)
    if missing:
        raise JaxposeError(
            f"oks-ap needs {missing}, which the data set does not have; choose another metric"
        )
    kept, sigmas = _trained(evaluation_set)
    stats = np.full(len(COLUMNS) + 1, -1.0)
    if len(keypoints) and len(kept):  # pycocotools fails without persons or without joints
        stats = _stats(coco_entries(keypoints, presence, evaluation_set), sigmas)
    figures = [None if value < 0 else 100 * float(value) for value in stats]
    labeled = evaluation_set.truth.labeled
    return ProtocolResult(
        protocol=OKS_AP,
        persons=len(keypoints),
        persons_left_out=0,
        not_labeled=int((~labeled).sum()),
        not_predicted=int(np.delete(labeled, kept, axis=1).sum()),
        columns={key: figures[place] for key, _, place in COLUMNS},
        total=figures[0],
        pooled=None,
        mean_of_rates=None,
        at_threshold={},
        parts={},
        area_under_curve=None,
        extras={},
    )


def coco_entries(
    keypoints: np.ndarray, presence: np.ndarray, evaluation_set: EvaluationSet
) -> Entries:
    """Convert truth and predictions to COCO's format; ids of images and persons start at 1.

    Args:
      keypoints: [N, J, 2], (x, y) in pixels of the stored images, continuous.
      presence: [N, J]; the score of a person is the mean.
      evaluation_set: set of the N persons.
    """
    kept, _ = _trained(evaluation_set)
    truth = evaluation_set.truth
    assert truth.area is not None and truth.image_id is not None  # checked by `lacks`
    in_network = joint_index(evaluation_set.joints, evaluation_set.truth_joints)[kept]
    names = [*truth.image_id.tolist(), *(entry["image_id"] for entry in evaluation_set.ignored)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names), 1)}
    scores = np.where(np.isfinite(presence), presence, 0)
    annotations, results = [], []
    for person in range(len(keypoints)):
        image = {"image_id": numbers[truth.image_id[person]], "category_id": 1}
        visibility = np.where(truth.labeled[person], 2, 0)
        triples = np.column_stack([truth.keypoints[person] - HALF_PIXEL, visibility])[kept]
        annotations.append(
            image | _annotation(triples, truth.box[person].tolist(), float(truth.area[person]))
        )
        points = keypoints[person, in_network] - HALF_PIXEL
        points = np.where(np.isfinite(points), points, FAR)
        found = np.column_stack([points, np.full(len(in_network), 2)])
        score = float(scores[person, in_network].mean())
        results.append({**image, "keypoints": found.ravel().tolist(), "score": score})
    for entry in evaluation_set.ignored:
        without = [0.0] * (3 * len(evaluation_set.truth_joints))
        triples = np.reshape(entry["keypoints"] or without, (-1, 3))[kept]
        image = {"image_id": numbers[entry["image_id"]], "category_id": 1}
        annotations.append(
            image | _annotation(triples, list(entry["box"]), entry["area"], crowd=True)
        )
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    data_set = {
        "info": {},
        "images": [{"id": number} for number in numbers.values()],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": annotations,
    }
    return Entries(data_set, results)


def _annotation(
    triples: np.ndarray, box: Sequence[float], area: float, *, crowd: bool = False
) -> dict[str, Any]:
    return {
        "keypoints": triples.ravel().tolist(),
        "num_keypoints": int((triples[:, 2] > 0).sum()),
        "bbox": list(box),
        "area": area,
        "iscrowd": int(crowd),
    }


def _trained(evaluation_set: EvaluationSet) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the truth's joints that were trained, and their sigmas."""
    kept = joint_index(evaluation_set.trained_joints, evaluation_set.truth_joints) >= 0
    return np.flatnonzero(kept), np.asarray(evaluation_set.sigmas, float)[kept]


def _stats(entries: Entries, sigmas: np.ndarray) -> np.ndarray:
    """Return the ten statistics of pycocotools, -1 where undefined.

    They are defined as in ``COCOeval.summarize``, which only supports a maximum of 20 predictions
    per image.
    """
    pycocotools = import_optional("pycocotools.coco", extra="coco")
    cocoeval = import_optional("pycocotools.cocoeval", extra="coco")
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = pycocotools.COCO()
        truth.dataset = entries.data_set
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(entries.results), "keypoints")
        evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.params.maxDets = [len(entries.results)]  # per image
        evaluation.evaluate()
        evaluation.accumulate()
    stats = []
    for values in (evaluation.eval["precision"], evaluation.eval["recall"]):
        for threshold, area in _SUMMARIES:
            chosen = values[..., evaluation.params.areaRngLbl.index(area), 0]
            if threshold is not None:
                chosen = chosen[evaluation.params.iouThrs == threshold]
            defined = chosen[chosen > -1]
            stats.append(defined.mean() if defined.size else -1.0)
    return np.asarray(stats)
