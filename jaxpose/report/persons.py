"""Test persons with the network's predictions, as the sections of a page."""

from typing import NamedTuple

import numpy as np

from jaxpose import geometry
from jaxpose.checkpoints.store import Network
from jaxpose.data.images import decode as decode_image
from jaxpose.evaluation import evaluate, metrics
from jaxpose.evaluation.evaluation_set import joints_in_crops
from jaxpose.evaluation.labeled_predictions import LabeledPredictions, select_persons
from jaxpose.evaluation.protocols import Protocol
from jaxpose.predict import PoseEstimator, panels
from jaxpose.predict.boxes import MIN_CONFIDENCE
from jaxpose.report import overlay
from jaxpose.report.page import Panel, PanelImage, Section
from jaxpose.skeleton import joint_index

PERSONS_PER_GROUP = 3  # of the worst, the median and the best predictions
SIZE = panels.SIZE  # pixels of the side of an image of maps
PHOTO_SIZE = 400  # pixels of the side of a crop with a skeleton
NORMALIZERS = {
    "head_size": "the head size",
    "torso_diagonal": "the distance from left shoulder to right hip",
    "box_diagonal": "the diagonal of the person's box",
}


class Correctness(NamedTuple):
    """How right the predictions for N persons are.

    Attributes:
      right: int [N], joints or sticks that the protocol counts as right.
      counted: int [N], joints or sticks that it counts.
      error: float64 [N], mean distance to the truth over the longer side of the true pose.
    """

    right: np.ndarray
    counted: np.ndarray
    error: np.ndarray


class ShownPerson(NamedTuple):
    """One test person with its prediction; points are in pixels of the crop.

    Attributes:
      name: of the image.
      photo: uint8 [PHOTO_SIZE, PHOTO_SIZE, 3], the crop.
      view: crop and maps.
      prediction: [J, 2], as it was scored.
      truth: [J, 2], NaN where not labeled.
      compared: bool [J], joints that the protocol compares with the truth.
      radius: within which of its true position a joint is right; None if there is none.
      right, counted: as in `Correctness`.
    """

    name: str
    photo: np.ndarray
    view: panels.Person
    prediction: np.ndarray
    truth: np.ndarray
    compared: np.ndarray
    radius: float | None
    right: int
    counted: int


def person_sections(
    network: Network, row: evaluate.RowEvaluation
) -> tuple[list[Section], list[Section]]:
    """The page's images of some persons of a test row.

    Args:
      network: as it was evaluated.
      row: with the persons.

    Returns:
      (the worst, median and best predictions; the maps of the best one).
    """
    protocol = _counting_protocol(row)
    labeled = evaluate.labeled_predictions(row.predictions, row.evaluation_set)
    found = correctness(labeled, protocol)
    groups = choose_persons(found, np.flatnonzero(row.predictions.readable))
    estimator = PoseEstimator(
        network.variables, network.metadata, dtype=np.dtype(network.net.dtype).name
    )
    shown = {
        title: _show_persons(estimator, row, indices, labeled, found, protocol)
        for title, indices in groups.items()
    }
    if not any(shown.values()):
        return [], []
    explanation = _explanation(row, protocol)
    sections = []
    for title, persons in shown.items():
        shown_panels = [_person_panel(estimator, person, protocol) for person in persons]
        sections.append(Section(title, explanation, shown_panels, width=330, has_main_image=True))
        explanation = ""
    best = list(shown.values())[-1][0]
    maps = [_fig_5(estimator, best)]
    if network.net.num_context_maps:
        maps.append(_fig_6(estimator, best))
    return sections, maps


def _counting_protocol(row: evaluate.RowEvaluation) -> Protocol | None:
    """The row's protocol, or the first by which single joints are right or wrong."""
    candidates = [row.protocol, *(result.protocol for result in row.results.values())]
    return next((found for found in candidates if found and found.thresholds), None)


def correctness(predictions: LabeledPredictions, protocol: Protocol | None) -> Correctness:
    """Compare the prediction for each person with the truth.

    Args:
      predictions: for N persons.
      protocol: counts joints or sticks as right; None counts nothing.
    """
    persons = len(predictions.labeled)
    right, counted = np.zeros(persons, int), np.zeros(persons, int)
    if protocol is not None:
        at = protocol.thresholds.index(protocol.threshold)
        for i in range(persons):
            counts = metrics.count(protocol, select_persons(predictions, slice(i, i + 1)))
            right[i], counted[i] = counts.correct[at].sum(), counts.counted.sum()
    order = joint_index(predictions.prediction_joints, predictions.joints)
    used = predictions.labeled & (order >= 0)
    truth = predictions.ground_truth
    distance = np.linalg.norm(predictions.prediction[:, order] - truth, axis=-1)
    low = np.where(used[..., None], truth, np.inf).min(axis=1)
    high = np.where(used[..., None], truth, -np.inf).max(axis=1)
    extent = np.maximum((high - low).max(axis=-1), 1.0)
    mean = np.where(used, distance, 0.0).sum(axis=1) / np.maximum(used.sum(axis=1), 1)
    return Correctness(right, counted, mean / extent)


def choose_persons(found: Correctness, readable: np.ndarray) -> dict[str, list[int]]:
    """The persons to show, by the title of their section.

    Persons are ordered by the fraction of their joints that are right, then by their mean error.

    Args:
      found: for N persons.
      readable: int [R], places of the persons whose image decodes.

    Returns:
      Places of the worst persons, the very worst first, of those around the median, and of the
      best, the very best first. Where fewer than three persons are scored, places of any persons.

    Example:
      >>> found = Correctness(np.array([9, 2, 5]), np.array([10, 10, 10]), np.zeros(3))
      >>> choose_persons(found, np.arange(3))
      {'Worst predictions': [1], 'Median predictions': [2], 'Best predictions': [0]}
    """
    scored = readable[found.counted[readable] > 0]
    if len(scored) < 3:
        places = np.linspace(0, len(readable) - 1, min(3 * PERSONS_PER_GROUP, len(readable)))
        return {"Predictions": readable[places.astype(int)].tolist()}
    fraction = found.right[scored] / found.counted[scored]
    order = scored[np.lexsort((-found.error[scored], fraction))].tolist()
    count = min(PERSONS_PER_GROUP, len(order) // 3)
    middle = (len(order) - count) // 2
    return {
        "Worst predictions": order[:count],
        "Median predictions": order[middle : middle + count],
        "Best predictions": order[: -count - 1 : -1],
    }


def _show_persons(
    estimator: PoseEstimator,
    row: evaluate.RowEvaluation,
    indices: list[int],
    labeled: LabeledPredictions,
    found: Correctness,
    protocol: Protocol | None,
) -> list[ShownPerson]:
    """Some persons of a row, in the row's own crops, with the predictions that were scored."""
    truth = row.evaluation_set.truth.select(indices)
    chosen = row.evaluation_set._replace(joints=estimator.joints, truth=truth)
    places = joints_in_crops(chosen, geometry.crop_rule(row.crop))
    keypoints = row.predictions.keypoints[-1, indices][:, estimator.channels]
    predictions = geometry.apply_affine(geometry.invert_affine(places.to_image), keypoints)
    radii = _radii(select_persons(labeled, np.array(indices, int)), truth.zoom, protocol)
    compared = places.labeled
    if protocol is not None:
        compared = compared & (joint_index(protocol.joints, estimator.joints) >= 0)
    shown = []
    for i, (index, crop) in enumerate(zip(indices, places.crops, strict=True)):
        decoded = decode_image(row.split.source[index]["image"])
        if decoded is None:
            continue
        shown.append(
            ShownPerson(
                name=str(truth.image_name[i]),
                photo=geometry.crop_image(decoded[0], crop, PHOTO_SIZE),
                view=panels.predict_person(estimator, decoded[0], crop),
                prediction=PHOTO_SIZE * predictions[i],
                truth=PHOTO_SIZE * np.where(places.labeled[i, :, None], places.points[i], np.nan),
                compared=compared[i],
                radius=None if radii is None else PHOTO_SIZE * radii[i] / crop.side,
                right=int(found.right[index]),
                counted=int(found.counted[index]),
            )
        )
    return shown


def _radii(
    labeled: LabeledPredictions, zoom: np.ndarray | None, protocol: Protocol | None
) -> np.ndarray | None:
    """Distance [N] up to which a person's joint is right, in pixels of the stored images."""
    if protocol is None or protocol.part_kind == "stick":
        return None
    radii = protocol.threshold * metrics.normalizers(protocol, labeled)
    return radii if zoom is None else radii * zoom


def _person_panel(
    estimator: PoseEstimator, person: ShownPerson, protocol: Protocol | None
) -> Panel:
    found = "not evaluated"
    if protocol is not None and person.counted:
        found = f"{person.right} of {person.counted} {protocol.part_kind}s right"
    confident = person.view.maps.confidence >= MIN_CONFIDENCE
    drawing = {"joints": estimator.joints, "limbs": estimator.limbs}
    compared = np.where(person.compared[:, None], person.truth, np.nan)
    images = (
        PanelImage(
            person.photo,
            "prediction and errors",
            f"{person.name} with the predicted skeleton and its distances to the truth, {found}",
            overlay.skeleton(person.prediction, drawn=confident, **drawing)
            + overlay.errors(person.prediction, compared, radius=person.radius),
        ),
        PanelImage(
            person.photo,
            "truth",
            f"{person.name} with the true skeleton",
            overlay.skeleton(person.truth, drawn=np.isfinite(person.truth[:, 0]), **drawing),
        ),
        PanelImage(
            panels.part_maps_on_crop(estimator, person.view),
            "part maps",
            f"{person.name} with the part maps of all joints",
        ),
    )
    return Panel(f"{person.name}: {found}", images)


def _explanation(row: evaluate.RowEvaluation, protocol: Protocol | None) -> str:
    """What the images of persons show, and when a joint counts as right."""
    drawn = (
        f"Joints with a confidence below {MIN_CONFIDENCE} have no dot or limb; left limbs are "
        "warm, right ones cool. Select an image to enlarge it."
    )
    if protocol is None:
        return drawn
    kind, limit = protocol.part_kind, f"{protocol.threshold:g} times"
    order = (
        f"The {len(row.predictions.readable):,} persons of {row.split.name}:{row.split.split}, "
        f"ordered by the fraction of {kind}s that are right. "
    )
    lines = "lines lead from the predictions to the true positions. "
    if kind == "stick":
        return (
            f"{order}A stick is right ({protocol.label}) if both of its ends lie within {limit} "
            f"its true length of their true positions; {lines}{drawn}"
        )
    if isinstance(protocol.normalizer, tuple):
        length = f"the distance from {' to '.join(protocol.normalizer).replace('_', ' ')}"
    else:
        length = NORMALIZERS[protocol.normalizer]
    return (
        f"{order}A joint is right ({protocol.label}) if it lies within {limit} {length} of its "
        "true position, the circle's radius. Circles are green where the joint is right, "
        f"dashed red where it is wrong; {lines}{drawn}"
    )


def _fig_5(estimator: PoseEstimator, person: ShownPerson) -> Section:
    return Section(
        "Part maps before and after the softmax",
        f"Of {person.name}, the best prediction. Nobody told the "
        "network what a map has to look like: it was trained on the coordinates, and on whether a "
        "joint is there (the paper's Fig. 5).",
        [
            Panel(
                name,
                (
                    PanelImage(before, "before", f"raw part map of the {name}"),
                    PanelImage(after, "after", f"softmax of the part map of the {name}"),
                ),
            )
            for name, before, after in panels.maps_before_and_after(
                estimator, person.view, size=SIZE // 2
            )
        ],
        width=230,
    )


def _fig_6(estimator: PoseEstimator, person: ShownPerson) -> Section:
    """The joints whose prediction the context maps moved the furthest."""
    joints = [
        Panel(name, [PanelImage(image, label, f"{name}: {label}") for label, image in images])
        for name, images in panels.moved_by_context(estimator, person.view)
    ]
    alpha = estimator.net.alpha
    return Section(
        "What the context maps change",
        f"The {len(joints)} joints of {person.name} that they moved the furthest. The prediction "
        f"is {alpha:g} times the part map's position plus {1 - alpha:g} times the mean of the "
        "context maps' positions, weighted by their probabilities p (eq. 6, the paper's Fig. 6). "
        "Blue: by the part map alone; yellow: by the context maps; red: the prediction.",
        joints,
        width=700,
    )
