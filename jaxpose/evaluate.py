"""A whole split through a network: keypoints of every person, and the protocols' tables of them."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpose import cluster, geometry, input_pipeline, protocols, tables
from jaxpose.errors import JaxposeError
from jaxpose.network import PoseNet, normalise
from jaxpose.prediction_file import Predictions
from jaxpose.skeleton import flip_permutation, joint_index
from jaxpose.train_step import parallel, replicate, shard

RULES = {
    "scale": geometry.MPII_RULE,
    "joints": geometry.LSP_RULE,
    "picture": geometry.PICTURE_RULE,
}
CROP_NAMES = {
    "scale": "crop by the release's scale and centre",
    "joints": "crop by the true joints' box",
    "picture": "whole picture, no ground truth used",
}
NAMED = 5  # unreadable pictures, in a table
MOST_CROPS = 9  # from 0.6 to 1.4 of the plain crop
CROP_STEP = 0.1  # several crops differ in size by this share of the plain one


class Answers(NamedTuple):
    """What a network says of every person of a split, in the split's order.

    Attributes:
      keypoints: float64 [K, N, J, 2], (x, y) in pixels of the stored picture.
      confidence: float32 [K, N, J], probability.
      in_crop: bool [N, J], labelled and inside the (first) crop.
      readable: bool [N], the picture decoded.
    """

    keypoints: np.ndarray
    confidence: np.ndarray
    in_crop: np.ndarray
    readable: np.ndarray


def crop_rule(name: str) -> geometry.CropRule:
    """The rule of that name; a JaxposeError lists the names where there is none."""
    if name not in RULES:
        raise JaxposeError(f"unknown crop {name!r}; choose one of {', '.join(RULES)}")
    return RULES[name]


def answer_crops(
    net: PoseNet, variables: dict, images: jax.Array, *, flipped: Sequence[int] | None = None
) -> tuple[jax.Array, jax.Array]:
    """The network's answers for crops.

    Args:
      net, variables: the network.
      images: uint8 [B, S, S, 3].
      flipped: the order of joints in a mirror (`flip_permutation`); with it the answer is averaged
        with the mirrored answer for the mirrored crops.

    Returns:
      keypoints [K, B, J, 2] in [0, 1] and probabilities [K, B, J], both at least float32.
    """
    output = net.apply(variables, normalise(images, net.dtype), train=False)
    keypoints, logits = output.keypoints, output.confidence
    if flipped is not None:
        mirrored = net.apply(variables, normalise(images[:, :, ::-1], net.dtype), train=False)
        order = np.asarray(flipped)
        back = mirrored.keypoints[:, :, order] * jnp.array([-1.0, 1.0]) + jnp.array([1.0, 0.0])
        keypoints = (keypoints + back) / 2
        logits = (logits + mirrored.confidence[:, :, order]) / 2
    return keypoints, jax.nn.sigmoid(logits.astype(jnp.float32))


@functools.lru_cache(maxsize=16)
def make_forward(net: PoseNet, *, flipped: tuple[int, ...] | None = None):
    """`answer_crops` on all local devices, compiled once for a network."""
    return parallel(functools.partial(answer_crops, net, flipped=flipped))


def predict_split(
    net: PoseNet,
    variables: dict,
    split: input_pipeline.PreparedSplit,
    *,
    joints: tuple[str, ...],
    image_size: int,
    batch_size: int,
    rule: geometry.CropRule,
    workers: int = 0,
    flip_test: bool = False,
    num_crops: int = 1,
) -> Answers:
    """Run every person of a split, each once, over all devices of all processes.

    Args:
      net, variables: the network; variables without a device axis.
      split: from `input_pipeline.open_split`.
      joints: the network's joint names.
      image_size: side of the crops in pixels.
      batch_size: global; rounded up to a multiple of the devices, which changes no answer.
      rule: how a crop is cut.
      workers: processes that decode; 0 decodes in threads.
      flip_test: average with the mirrored answer of the mirrored crop.
      num_crops: crops of different size, averaged in the picture's pixels.
    """
    flipped = tuple(flip_permutation(joints).tolist()) if flip_test else None
    forward = make_forward(net, flipped=flipped)
    variables = replicate(variables)
    batch_size = -(-batch_size // jax.device_count()) * jax.device_count()
    blocks, persons = net.num_blocks, len(split.source)
    keypoints = np.zeros((blocks, persons, len(joints), 2))
    confidence = np.zeros((blocks, persons, len(joints)), np.float32)
    in_crop = np.zeros((persons, len(joints)), np.int32)
    readable = np.zeros(persons, np.int32)
    for number, size in enumerate(crop_sizes(num_crops)):
        batches = input_pipeline.evaluation_batches(
            split,
            joints=joints,
            image_size=image_size,
            batch_size=batch_size,
            rule=rule._replace(enlargement=rule.enlargement * size),
            workers=workers,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        for batch in batches:
            found, probability = forward(variables, shard({"image": batch["image"]})["image"])
            # [devices, K, B, J, ...] -> [K, devices * B, J, ...]
            found = np.concatenate(np.asarray(found, np.float64), axis=1)
            probability = np.concatenate(np.asarray(probability), axis=1)
            kept = batch["index"] >= 0
            index = batch["index"][kept]
            matrix = np.broadcast_to(batch["crop_to_image"][kept], (blocks, len(index), 2, 3))
            pixels = geometry.apply_affine(matrix, found[:, kept])
            keypoints[:, index] += pixels / num_crops
            confidence[:, index] += probability[:, kept] / num_crops
            if number == 0:
                in_crop[index] = batch["labelled"][kept]
                readable[index] = batch["readable"][kept]
    gathered = [cluster.sum_over_processes(x) for x in (keypoints, confidence, in_crop, readable)]
    return Answers(gathered[0], gathered[1], gathered[2] > 0, gathered[3] > 0)


def crop_sizes(num_crops: int) -> list[float]:
    """Sizes of several crops as shares of the plain one, which comes first: 1, 0.9, 1.1, ..."""
    if not 1 <= num_crops <= MOST_CROPS:
        raise JaxposeError(f"num_crops is {num_crops}; it must be 1 to {MOST_CROPS}")
    steps = [0] + [s for i in range(1, num_crops) for s in (-i, i)]
    return [1.0 + CROP_STEP * step for step in steps[:num_crops]]


def score_answers(
    answers: Answers,
    truth: dict[str, np.ndarray],
    *,
    joints: tuple[str, ...],
    truth_joints: tuple[str, ...],
    trained: tuple[str, ...] | None = None,
    block: int = -1,
) -> dict[str, Any]:
    """Results of every protocol that the truth allows, by protocol name.

    Args:
      answers: of the whole split.
      truth: `input_pipeline.annotations` of it, in stored pixels and `truth_joints`' order.
      joints: the network's.
      truth_joints: of the truth.
      trained: joints that the network ever saw a label for; the others are not scored.
      block: which prediction block; the last is the prediction.
    """
    predictions = predictions_of(
        answers, truth, joints=joints, truth_joints=truth_joints, trained=trained, block=block
    )
    names = []
    if {"left_shoulder", "right_hip"} <= set(truth_joints):  # PCK's normaliser
        names += ["lsp-pck", "lsp-pcp"]
    if (truth["head_size"] > 0).any():
        names.append("mpii-pckh")
    chosen = {name: protocols.PROTOCOLS[name] for name in names}
    return {
        name: protocols.result(protocol, protocols.score(protocol, predictions))
        for name, protocol in chosen.items()
    }


def predictions_of(
    answers: Answers,
    truth: dict[str, np.ndarray],
    *,
    joints: tuple[str, ...],
    truth_joints: tuple[str, ...],
    trained: tuple[str, ...] | None = None,
    block: int = -1,
    description: str = "",
) -> Predictions:
    """One block's answers beside the truth, in pixels of the release's pictures.

    Arguments as `score_answers` has them.
    """
    trained = joints if trained is None else trained
    kept = joint_index(joints, trained)
    head_size = truth["head_size"]
    if "zoom" in truth:
        head_size = head_size / truth["zoom"]
    positions = _to_release(truth, truth["keypoints"].astype(np.float64))
    return Predictions(
        prediction=_to_release(truth, answers.keypoints[block][:, kept]),
        ground_truth=np.where(truth["labelled"][..., None], positions, 0.0),
        labelled=truth["labelled"],
        joints=tuple(truth_joints),
        prediction_joints=tuple(trained),
        head_size=head_size,
        description=description,
    )


def _to_release(truth: dict[str, np.ndarray], points: np.ndarray) -> np.ndarray:
    """Pixels of the stored pictures [N, J, 2] to pixels of the release's."""
    if "zoom" not in truth:
        return points
    return truth["origin"][:, None] + points / truth["zoom"][:, None, None]


def mean_pose_answers(
    split: input_pipeline.PreparedSplit, pose: np.ndarray, *, rule: geometry.CropRule
) -> Answers:
    """Answers of a network that always says the same normalised pose [J, 2] in its crop."""
    truth = input_pipeline.annotations(split)
    persons = len(split.source)
    crops = [
        geometry.example_crop({name: values[i] for name, values in truth.items()}, rule)
        for i in range(persons)
    ]
    matrices = np.stack([geometry.crop_to_image(crop) for crop in crops])
    points = geometry.apply_affine(matrices, np.broadcast_to(pose, (persons, *pose.shape)))
    shape = (persons, len(pose))
    return Answers(
        keypoints=points[None],
        confidence=np.ones((1, *shape), np.float32),
        in_crop=np.ones(shape, bool),
        readable=np.ones(persons, bool),
    )


def report_text(report: dict[str, Any], *, paper: bool = False) -> str:
    """The tables of `train.evaluate_checkpoint`'s report, as the command prints them."""
    parts = [f"checkpoint {report['checkpoint']} (step {report['step']})"]
    for row, found in report["rows"].items():
        for result in found.values():
            parts.append(
                tables.columns_text([("", result)], description=row, paper=paper)
                + "\n\n"
                + tables.beside_text(result)
            )
        totals = ", ".join(
            "-" if total is None else f"{total:.2f}" for total in report["blocks"][row]
        )
        parts.append(f"{report['score']} by prediction block: {totals}")
        unreadable = report["unreadable"][row]
        if unreadable:
            more = ", ..." if len(unreadable) > NAMED else ""
            parts.append(
                f"{len(unreadable)} pictures did not decode and were answered as black: "
                f"{', '.join(unreadable[:NAMED])}{more}"
            )
    return "\n\n".join(parts)
