"""Test persons with the network's predictions, as the sections of a page."""

from typing import NamedTuple

import numpy as np

from jaxpose import geometry
from jaxpose.checkpoints.store import Network
from jaxpose.data.images import decode as decode_image
from jaxpose.data.prepared import PreparedSplit
from jaxpose.evaluation import evaluate, inference, metrics, protocols
from jaxpose.evaluation.evaluation_set import joints_in_crops
from jaxpose.evaluation.labeled_predictions import LabeledPredictions, select_persons
from jaxpose.predict import PoseEstimator, panels
from jaxpose.predict.boxes import MIN_CONFIDENCE
from jaxpose.report.page import Panel, PanelImage, Section
from jaxpose.visualize import draw_skeleton

PERSONS = 12
SIZE = panels.SIZE  # pixels of a shown crop's side


class ShownPerson(NamedTuple):
    """One test person with its prediction.

    Attributes:
      name: of the image.
      view: crop and maps.
      truth: [J, 2] in pixels of the crop, NaN where not labeled.
      right, counted: joints that the run's protocol counts as right, and those it counts.
    """

    name: str
    view: panels.Person
    truth: np.ndarray
    right: int
    counted: int


def person_sections(network: Network, row: evaluate.RowEvaluation, *, seed: int) -> list[Section]:
    """The page's images of some persons of a test row.

    Args:
      network: as it was evaluated.
      row: with the persons.
      seed: draws the persons.
    """
    images = _choose(row.split, seed)
    if not images:
        return []
    estimator = PoseEstimator(
        network.variables, network.metadata, dtype=np.dtype(network.net.dtype).name
    )
    protocol = _counting_protocol(row)
    persons = _predict_persons(estimator, row, images, protocol)
    clearest = max(persons, key=lambda person: person.right)
    sections = [_person_section(estimator, persons, protocol), _fig_5(estimator, clearest)]
    if network.net.num_context_maps:
        sections.append(_fig_6(estimator, clearest))
    return sections


def _counting_protocol(row: evaluate.RowEvaluation) -> protocols.Protocol | None:
    """The row's protocol, or the first by which single joints are right or wrong."""
    candidates = [row.protocol, *(result.protocol for result in row.results.values())]
    return next((found for found in candidates if found and found.thresholds), None)


def _choose(split: PreparedSplit, seed: int) -> dict[int, np.ndarray]:
    """Images of persons drawn by the seed, of those whose image decodes, by the person's index."""
    images = {}
    for index in np.random.default_rng(seed).permutation(len(split.source)).tolist():
        decoded = decode_image(split.source[index]["image"])
        if decoded is not None:
            images[index] = decoded[0]
        if len(images) == PERSONS:
            break
    return images


def _predict_persons(
    estimator: PoseEstimator,
    row: evaluate.RowEvaluation,
    images: dict[int, np.ndarray],
    protocol: protocols.Protocol | None,
) -> list[ShownPerson]:
    """The chosen persons with their predictions, in the row's own crops."""
    truth = row.evaluation_set.truth.select(list(images))
    chosen = row.evaluation_set._replace(joints=estimator.joints, truth=truth)
    places = joints_in_crops(chosen, geometry.crop_rule(row.crop))
    views = [
        panels.predict_person(estimator, image, crop)
        for image, crop in zip(images.values(), places.crops, strict=True)
    ]
    found = np.stack([view.maps.keypoints for view in views])
    predictions = inference.Predictions(
        keypoints=geometry.apply_affine(places.to_image, found)[None],
        confidence=np.stack([view.maps.confidence for view in views])[None],
        in_crop=places.inside,
        readable=np.ones(len(views), bool),
    )
    counts = _counts(evaluate.labeled_predictions(predictions, chosen), protocol)
    points = SIZE * np.where(places.labeled[..., None], places.points, np.nan)
    names = truth.image_name.tolist()
    return [
        ShownPerson(*shown, *count)
        for *shown, count in zip(names, views, points, counts, strict=True)
    ]


def _counts(
    predictions: LabeledPredictions, protocol: protocols.Protocol | None
) -> list[tuple[int, int]]:
    """Per person how many parts of the protocol are right, and of how many."""
    if protocol is None:
        return [(0, 0)] * len(predictions.prediction)
    at = protocol.thresholds.index(protocol.threshold)
    found = []
    for i in range(len(predictions.prediction)):
        counts = metrics.count(protocol, select_persons(predictions, slice(i, i + 1)))
        found.append((int(counts.correct[at].sum()), int(counts.counted.sum())))
    return found


def _person_section(
    estimator: PoseEstimator, persons: list[ShownPerson], protocol: protocols.Protocol | None
) -> Section:
    panels_of_persons = []
    for name, view, truth, right, counted in persons:
        found = "not evaluated"
        if protocol is not None:
            found = f"{right} of {counted} {protocol.part_kind}s right"
        images = (
            PanelImage(
                draw_skeleton(view.crop, truth, joints=estimator.joints, limbs=estimator.limbs),
                "truth",
                f"{name} with its true skeleton",
            ),
            PanelImage(
                panels.skeleton_on_crop(estimator, view),
                "prediction",
                f"{name} with the predicted skeleton, {found}",
            ),
            PanelImage(
                panels.part_maps_on_crop(estimator, view),
                "part maps",
                f"{name} with the part maps of all joints",
            ),
        )
        panels_of_persons.append(Panel(f"{name}: {found}", images))
    counted_by = "" if protocol is None else f"; right is counted by {protocol.label}"
    return Section(
        f"{len(persons)} test persons",
        "Drawn by the run's seed, not chosen. Left limbs are warm, right ones cool, a joint has "
        f"the same color everywhere{counted_by}. A joint that the "
        f"network gives a confidence below {MIN_CONFIDENCE} is not "
        "drawn.",
        panels_of_persons,
    )


def _fig_5(estimator: PoseEstimator, person: ShownPerson) -> Section:
    return Section(
        "Part maps before and after the softmax",
        f"Of {person.name}, of the persons above the one with the most right. Nobody told the "
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
