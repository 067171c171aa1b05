"""Test persons with what the network says of them, as the sections of a page."""

from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from jaxpose import geometry
from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.data import batches, prepared
from jaxpose.data.images import decode as decode_image
from jaxpose.data.prepared import read_example
from jaxpose.evaluation import inference, protocols
from jaxpose.evaluation.evaluation_set import EvaluationSet
from jaxpose.evaluation.prediction_file import LabeledPredictions, select_persons
from jaxpose.network import PoseNet, normalize
from jaxpose.report.page import Panel, PanelImage, Section
from jaxpose.skeleton import joint_index, skeleton_of
from jaxpose.visualize import (
    JOINTS_OF_FIG_6,
    PRESENCE_THRESHOLD,
    draw_skeleton,
    moved_most,
    part_maps,
    single_maps,
)

if TYPE_CHECKING:
    import ml_collections

PERSONS = 12
SIZE = 256  # pixels of a shown crop's side


class Persons(NamedTuple):
    """N test persons and what the network says of them.

    Attributes:
      names: of their images.
      crops: uint8 [N, S, S, 3].
      truth: [N, J, 2] in pixels of the crops, NaN where not labeled.
      keypoints: [N, J, 2] of the last block, in pixels of the crops.
      confidence: [N, J] probabilities.
      heatmaps: [N, H, W, M] raw, of the last block.
      right, counted: [N], joints that the run's protocol counts as right, and those it counts.
    """

    names: list[str]
    crops: np.ndarray
    truth: np.ndarray
    keypoints: np.ndarray
    confidence: np.ndarray
    heatmaps: np.ndarray
    right: list[int]
    counted: list[int]


def person_sections(
    config: "ml_collections.ConfigDict",
    net: PoseNet,
    variables: dict,
    metadata: CheckpointMetadata,
    split: prepared.PreparedSplit,
    rule: geometry.CropRule,
) -> list[Section]:
    """The page's images, of persons that the config's seed chose."""
    chosen = _choose(split, config.seed)
    if not chosen:
        return []
    persons = _predict_persons(net, variables, metadata, split, rule, chosen, config.score)
    trained = metadata.trained_joints
    kept = joint_index(metadata.joints, trained)
    limbs = dict.fromkeys((*skeleton_of(trained).limbs, *split.limbs))  # an own skeleton's too
    clearest = int(np.argmax(persons.right))
    sections = [
        _person_section(persons, trained, tuple(limbs), kept, protocols.named(config.score)),
        _fig_5(persons, clearest, trained, kept),
    ]
    if net.num_context_maps:
        sections.append(_fig_6(persons, clearest, trained, kept, net))
    return sections


def _choose(split: prepared.PreparedSplit, seed: int) -> list[int]:
    """Persons drawn by the seed, of those whose image decodes."""
    order = np.random.default_rng(seed).permutation(len(split.source)).tolist()
    readable = (i for i in order if decode_image(split.source[i]["image"]) is not None)
    return [index for index, _ in zip(readable, range(PERSONS), strict=False)]


def _predict_persons(
    net: PoseNet,
    variables: dict,
    metadata: CheckpointMetadata,
    split: prepared.PreparedSplit,
    rule: geometry.CropRule,
    chosen: list[int],
    score: str,
) -> Persons:
    """The chosen persons through the network, in one batch of the ordinary way."""
    joints = metadata.joints
    part = split._replace(source=[split.source[i] for i in chosen])
    (batch,) = batches.evaluation_batches(
        part,
        joints=joints,
        image_size=metadata.image_size,
        batch_size=len(chosen),
        rule=rule,
    )
    output = jax.jit(lambda v, x: net.apply(v, normalize(x, net.dtype), heatmaps=True))(
        variables, batch["image"]
    )
    keypoints = np.asarray(output.keypoints, np.float64)
    confidence = np.asarray(jax.nn.sigmoid(output.confidence.astype(np.float32)))
    truth = prepared.annotations(part)
    predictions = inference.Predictions(
        keypoints=geometry.apply_affine(batch["crop_to_image"], keypoints[-1])[None],
        confidence=confidence[-1:],
        in_crop=batch["labeled"],
        readable=batch["readable"],
    )
    evaluation_set = EvaluationSet(joints, metadata.trained_joints, split.joints, truth)
    scored = inference.labeled_predictions(predictions, evaluation_set)
    right, counted = _counts(scored, protocols.named(score))
    order = joint_index(split.joints, joints)
    positions = geometry.apply_affine(
        geometry.invert_affine(batch["crop_to_image"]), truth["keypoints"].astype(np.float64)
    )[:, order]
    labeled = truth["labeled"][:, order] & (order >= 0)
    return Persons(
        names=truth["image_name"].tolist(),
        crops=np.stack([_shown_crop(part, i, rule) for i in range(len(chosen))]),
        truth=SIZE * np.where(labeled[..., None], positions, np.nan),
        keypoints=SIZE * keypoints[-1],
        confidence=confidence[-1],
        heatmaps=np.asarray(output.heatmaps[-1], np.float32),
        right=right,
        counted=counted,
    )


def _counts(
    predictions: LabeledPredictions, protocol: protocols.Protocol
) -> tuple[list[int], list[int]]:
    """Per person how many parts of the protocol are right, and of how many."""
    right, counted = [], []
    at = protocol.thresholds.index(protocol.threshold)
    for i in range(len(predictions.prediction)):
        counts = protocols.score(protocol, select_persons(predictions, slice(i, i + 1)))
        right.append(int(counts.correct[at].sum()))
        counted.append(int(counts.counted.sum()))
    return right, counted


def _shown_crop(split: prepared.PreparedSplit, index: int, rule: geometry.CropRule) -> np.ndarray:
    """A person's crop as the network gets it, at the size that the page shows."""
    example = read_example(split, index)
    image, _ = decode_image(example["image"])
    return geometry.crop_image(image, geometry.example_crop(example, rule), SIZE)


def _person_section(
    persons: Persons,
    trained: tuple[str, ...],
    limbs: tuple[tuple[str, str], ...],
    kept: np.ndarray,
    protocol: protocols.Protocol,
) -> Section:
    panels = []
    drawn = {"joints": trained, "limbs": limbs}
    parts = "parts" if protocol.part_kind == "stick" else "joints"
    for i, name in enumerate(persons.names):
        found = f"{persons.right[i]} of {persons.counted[i]} {parts} right"
        images = (
            PanelImage(
                draw_skeleton(persons.crops[i], persons.truth[i][kept], **drawn),
                "truth",
                f"{name} with its true skeleton",
            ),
            PanelImage(
                draw_skeleton(
                    persons.crops[i],
                    persons.keypoints[i][kept],
                    confidence=persons.confidence[i][kept],
                    threshold=PRESENCE_THRESHOLD,
                    **drawn,
                ),
                "prediction",
                f"{name} with the predicted skeleton, {found}",
            ),
            PanelImage(
                part_maps(persons.heatmaps[i][..., kept], joints=trained, image=persons.crops[i]),
                "part maps",
                f"{name} with the part maps of all joints",
            ),
        )
        panels.append(Panel(f"{name}: {found}", images))
    return Section(
        f"{len(panels)} test persons",
        "Drawn by the run's seed, not chosen. Left limbs are warm, right ones cool, a joint has "
        f"the same color everywhere; right is counted by {protocol.label}. A joint that the "
        f"network gives a probability below {PRESENCE_THRESHOLD} of being in the image is not "
        "drawn.",
        panels,
    )


def _fig_5(persons: Persons, i: int, trained: tuple[str, ...], kept: np.ndarray) -> Section:
    panels = [
        Panel(
            name,
            (
                PanelImage(before, "before", f"raw part map of the {name}"),
                PanelImage(after, "after", f"softmax of the part map of the {name}"),
            ),
        )
        for name, before, after in single_maps(
            persons.heatmaps[i][..., kept], joints=trained, size=SIZE // 2
        )
    ]
    return Section(
        "Part maps before and after the softmax",
        f"Of {persons.names[i]}, of the persons above the one with the most right. Nobody told the "
        "network what a map has to look like: it was trained on the coordinates, and on whether a "
        "joint is there (the paper's Fig. 5).",
        panels,
        width=230,
    )


def _fig_6(
    persons: Persons, i: int, trained: tuple[str, ...], kept: np.ndarray, net: PoseNet
) -> Section:
    """The joints whose answer the context maps moved the furthest."""
    found = moved_most(
        persons.crops[i],
        persons.heatmaps[i],
        persons.keypoints[i][kept] / SIZE,
        joints=trained,
        channels=kept,
        num_joints=net.num_joints,
        most=JOINTS_OF_FIG_6,
        grid=net.grid,
        temperature=net.temperature,
    )
    panels = [
        Panel(name, [PanelImage(image, label, f"{name}: {label}") for label, image in images])
        for name, images in found
    ]
    return Section(
        "What the context maps change",
        f"The {len(panels)} joints of {persons.names[i]} that they moved the furthest. The answer "
        f"is {net.alpha:g} times the part map's position plus {1 - net.alpha:g} times the mean of "
        "the context maps' positions, weighted by their probabilities p (eq. 6, the paper's Fig. "
        "6). Blue: by the part map alone; yellow: by the context maps; red: the answer.",
        panels,
        width=700,
    )
