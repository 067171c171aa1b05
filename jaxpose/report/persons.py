"""Sections of a report that show test persons with their predictions and heat maps."""

from typing import NamedTuple

import numpy as np

from jaxpose import geometry
from jaxpose.checkpoints.store import Network
from jaxpose.data.images import decode as decode_image
from jaxpose.evaluation import evaluate, protocol_results
from jaxpose.evaluation.evaluation_set import joints_in_crops
from jaxpose.evaluation.labeled_predictions import LabeledPredictions, select_persons
from jaxpose.evaluation.protocols import Protocol
from jaxpose.predict import PoseEstimator, panels
from jaxpose.predict.boxes import MIN_CONFIDENCE
from jaxpose.report import overlay
from jaxpose.report.page import Panel, PanelImage, Section
from jaxpose.skeleton import joint_index

PERSONS_PER_GROUP = 3  # worst, median and best predictions
BEST = "Best predictions"  # title of the last group
SIZE = panels.SIZE  # side of an image of heat maps, in pixels
PHOTO_SIZE = 400  # side of a crop with a skeleton, in pixels
NORMALIZERS = {
    "head_size": "the head size",
    "torso_diagonal": "the distance from left shoulder to right hip",
    "box_diagonal": "the diagonal of the person's box",
}


class Correctness(NamedTuple):
    """Correctness of the predictions for N persons.

    Attributes:
      correct: int [N], number of joints or sticks that are correct by the protocol.
      counted: int [N], number of joints or sticks that are counted.
      error: float64 [N], mean distance to the truth, divided by the longer side of the true pose.
    """

    correct: np.ndarray
    counted: np.ndarray
    error: np.ndarray


class ShownPerson(NamedTuple):
    """One test person with its prediction; points are in pixels of the crop.

    Attributes:
      name: name of the image.
      photo: uint8 [PHOTO_SIZE, PHOTO_SIZE, 3], the crop.
      view: crop and heat maps.
      prediction: [J, 2], the prediction that was evaluated.
      truth: [J, 2], NaN where not labeled.
      compared: bool [J], joints that the protocol compares with the truth.
      radius: largest distance to the true position at which a joint is correct; None if the
        protocol has no such distance.
      correct, counted: as in ``Correctness``.
    """

    name: str
    photo: np.ndarray
    view: panels.Person
    prediction: np.ndarray
    truth: np.ndarray
    compared: np.ndarray
    radius: float | None
    correct: int
    counted: int


def person_sections(
    network: Network, row: evaluate.RowEvaluation
) -> tuple[list[Section], list[Section]]:
    """Make the sections that show some persons of a test row.

    Args:
      network: the network that was evaluated.
      row: the test row.

    Returns:
      (sections of the worst, median and best predictions, or of any if fewer than three persons are
      evaluated; sections of the heat maps for the best one).
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
    scored = int((found.counted[row.predictions.readable] > 0).sum())
    is_ordered = BEST in groups
    explanation = _explanation(
        row, protocol if scored else None, ordered=scored if is_ordered else 0
    )
    sections = []
    for title, persons in shown.items():
        shown_panels = [_person_panel(estimator, person, protocol) for person in persons]
        sections.append(Section(title, explanation, shown_panels, width=330, has_main_image=True))
        explanation = ""
    best = list(shown.values())[-1][0]
    maps = [_fig_5(estimator, best, is_best=is_ordered)]
    if network.net.num_context_maps:
        maps.append(_fig_6(estimator, best))
    return sections, maps


def _counting_protocol(row: evaluate.RowEvaluation) -> Protocol | None:
    """Return the row's protocol if it counts single parts, else the first protocol that does."""
    candidates = [row.protocol, *(result.protocol for result in row.results.values())]
    return next((found for found in candidates if found and found.thresholds), None)


def correctness(predictions: LabeledPredictions, protocol: Protocol | None) -> Correctness:
    """Compare the prediction for each person with the truth.

    Args:
      predictions: predictions and ground truth of N persons.
      protocol: protocol that counts joints or sticks; None counts nothing.
    """
    persons = len(predictions.labeled)
    correct, counted = np.zeros(persons, int), np.zeros(persons, int)
    if protocol is not None:
        at = protocol.thresholds.index(protocol.threshold)
        for i in range(persons):
            counts = protocol_results.count(protocol, select_persons(predictions, slice(i, i + 1)))
            correct[i], counted[i] = counts.correct[at].sum(), counts.counted.sum()
    order = joint_index(predictions.prediction_joints, predictions.joints)
    used = predictions.labeled & (order >= 0)
    truth = predictions.ground_truth
    distance = np.linalg.norm(predictions.prediction[:, order] - truth, axis=-1)
    low = np.where(used[..., None], truth, np.inf).min(axis=1)
    high = np.where(used[..., None], truth, -np.inf).max(axis=1)
    extent = np.maximum((high - low).max(axis=-1), 1.0)
    mean = np.where(used, distance, 0.0).sum(axis=1) / np.maximum(used.sum(axis=1), 1)
    return Correctness(correct, counted, mean / extent)


def choose_persons(found: Correctness, readable: np.ndarray) -> dict[str, list[int]]:
    """Choose the persons to show, by the title of their section.

    Persons are ordered by the fraction of their joints that are correct, then by their mean error.

    Args:
      found: correctness of N persons.
      readable: int [R], indices of the persons whose image could be decoded.

    Returns:
      Indices by title: the worst persons (the worst first), those around the median, and the best
      (the best first). If fewer than three persons have counted joints, indices of any persons
      under one title.

    Example:
      >>> found = Correctness(np.array([9, 2, 5]), np.array([10, 10, 10]), np.zeros(3))
      >>> choose_persons(found, np.arange(3))
      {'Worst predictions': [1], 'Median predictions': [2], 'Best predictions': [0]}
    """
    scored = readable[found.counted[readable] > 0]
    if len(scored) < 3:
        places = np.linspace(0, len(readable) - 1, min(3 * PERSONS_PER_GROUP, len(readable)))
        return {"Predictions": readable[places.astype(int)].tolist()}
    fraction = found.correct[scored] / found.counted[scored]
    order = scored[np.lexsort((-found.error[scored], fraction))].tolist()
    count = min(PERSONS_PER_GROUP, len(order) // 3)
    middle = (len(order) - count) // 2
    return {
        "Worst predictions": order[:count],
        "Median predictions": order[middle : middle + count],
        BEST: order[: -count - 1 : -1],
    }


def _show_persons(
    estimator: PoseEstimator,
    row: evaluate.RowEvaluation,
    indices: list[int],
    labeled: LabeledPredictions,
    found: Correctness,
    protocol: Protocol | None,
) -> list[ShownPerson]:
    """Collect some persons of a row, in the row's crops, with the evaluated predictions."""
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
                correct=int(found.correct[index]),
                counted=int(found.counted[index]),
            )
        )
    return shown


def _radii(
    labeled: LabeledPredictions, zoom: np.ndarray | None, protocol: Protocol | None
) -> np.ndarray | None:
    """Return the largest distance at which a joint is correct, per person [N], in stored pixels."""
    if protocol is None or protocol.part_kind == "stick":
        return None
    radii = protocol.threshold * protocol_results.normalizers(protocol, labeled)
    return radii if zoom is None else radii * zoom


def _person_panel(
    estimator: PoseEstimator, person: ShownPerson, protocol: Protocol | None
) -> Panel:
    found = "not evaluated"
    if protocol is not None and person.counted:
        found = f"{person.correct} of {person.counted} {protocol.part_kind}s correct"
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


def _explanation(row: evaluate.RowEvaluation, protocol: Protocol | None, *, ordered: int) -> str:
    """Explain what the images show, when a joint is correct, and how many persons are ordered."""
    drawn = (
        f"Joints with a confidence below {MIN_CONFIDENCE} are not drawn. Left limbs have warm "
        "colors, right limbs cool ones. Select an image to enlarge it."
    )
    if protocol is None:
        return drawn
    kind, limit = protocol.part_kind, f"{protocol.threshold:g} times"
    order = ""
    if ordered:
        order = (
            f"The {ordered:,} evaluated persons of {row.split.name}:{row.split.split} are ordered "
            f"by their fraction of correct {kind}s. "
        )
    lines = "Lines connect predictions and true positions. "
    if kind == "stick":
        return (
            f"{order}A stick is correct ({protocol.label}) if the distance of each end to its true "
            f"position is at most {limit} the stick's true length. {lines}{drawn}"
        )
    if isinstance(protocol.normalizer, tuple):
        length = f"the distance from {' to '.join(protocol.normalizer).replace('_', ' ')}"
    else:
        length = NORMALIZERS[protocol.normalizer]
    return (
        f"{order}A joint is correct ({protocol.label}) if its distance to the true position is at "
        f"most {limit} {length}. This limit is the radius of the circles, which are green for "
        f"correct joints and dashed red for wrong ones. {lines}{drawn}"
    )


def _fig_5(estimator: PoseEstimator, person: ShownPerson, *, is_best: bool) -> Section:
    who = ", the person with the best prediction" if is_best else ""
    return Section(
        "Part maps before and after the softmax",
        f"Part maps of {person.name}{who} (the paper's Fig. 5). "
        "The paper's loss supervises only the coordinates and the presence of the joints, not the "
        "maps directly.",
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
    """Make the section of the joints that the context maps moved the furthest."""
    joints = [
        Panel(name, [PanelImage(image, label, f"{name}: {label}") for label, image in images])
        for name, images in panels.moved_by_context(estimator, person.view)
    ]
    alpha = estimator.net.alpha
    return Section(
        "What the context maps change",
        f"The {len(joints)} joints of {person.name} that the context maps moved the furthest (the "
        f"paper's Fig. 6). The prediction is {alpha:g} times the part map's position plus "
        f"{1 - alpha:g} times the weighted mean of the context maps' positions; the weights are "
        "the context maps' probabilities p (eq. 6). Blue: the part map's position; yellow: the "
        "context maps' positions; red: the prediction.",
        joints,
        width=700,
    )
