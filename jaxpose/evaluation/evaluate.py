"""Evaluate a checkpoint on a config's test rows, or predictions for one split."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxpose import coco, geometry
from jaxpose.checkpoints import store
from jaxpose.data import prepared
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import (
    inference,
    metric_choice,
    mpii_submission,
    oks,
    protocol_results,
    tables,
)
from jaxpose.evaluation.config import check_evaluation, open_tests
from jaxpose.evaluation.evaluation_set import EvaluationSet, evaluation_set_of
from jaxpose.evaluation.inference import Predictions
from jaxpose.evaluation.labeled_predictions import LabeledPredictions, write_predictions
from jaxpose.evaluation.protocol_results import ProtocolResult
from jaxpose.evaluation.protocols import Protocol
from jaxpose.skeleton import joint_index
from jaxpose.storage import absolute, open_path, replace_file, written_file

if TYPE_CHECKING:
    import ml_collections

PRESENCE_THRESHOLD = 0.5  # minimum presence for v = 2 in COCO results
MAX_NAMES_SHOWN = 5  # names of unreadable images in a table


class RowEvaluation(NamedTuple):
    """The results of one test row.

    Attributes:
      split: the row's persons.
      crop: name of the crop rule.
      description: text for the title of a table or a file.
      evaluation_set: the persons' truth.
      predictions: predictions for all of these persons.
      results: results by protocol name; empty if the truth supports no protocol
        (``metric_choice.why_no_protocol``).
      protocol: the protocol of the row's tables (``metric_choice.protocol_for``); None without
        results.
      decodings: results of this protocol for each prediction block, and for other ways to decode
        the last block's maps, by name (``compare_decodings``); empty without results.
      unreadable: names of the images that could not be decoded, each once.
      files: prediction files written by this process.
    """

    split: prepared.PreparedSplit
    crop: str
    description: str
    evaluation_set: EvaluationSet
    predictions: Predictions
    results: dict[str, ProtocolResult]
    protocol: Protocol | None
    decodings: dict[str, ProtocolResult]
    unreadable: list[str]
    files: list[pathlib.Path]


class Evaluation(NamedTuple):
    """The results of a checkpoint on a config's test rows.

    Attributes:
      network: the checkpoint's network.
      metric: the config's metric.
      rows: results by ``row_name``, in the config's order.
    """

    network: store.Network
    metric: str
    rows: dict[str, RowEvaluation]

    def to_json(self) -> dict[str, Any]:
        """Return the content of evaluation.json as plain JSON values."""
        rows = self.rows.items()
        return {
            "checkpoint": str(self.network.source),
            "step": self.network.metadata.step,
            "metric": self.metric,
            "rows": {name: results_to_json(row.results) for name, row in rows},
            "decodings": {name: results_to_json(row.decodings) for name, row in rows},
            "unreadable": {name: list(row.unreadable) for name, row in rows},
            "files": {name: [str(file) for file in row.files] for name, row in rows},
        }


def results_to_json(results: Mapping[str, ProtocolResult]) -> dict[str, Any]:
    """Convert results by name to plain JSON values."""
    return {name: result.to_json() for name, result in results.items()}


def evaluate_checkpoint(
    config: "ml_collections.ConfigDict", workdir: str | pathlib.Path, *, path: str = ""
) -> Evaluation:
    """Evaluate a checkpoint on the config's test rows.

    Writes the results to evaluation.json in ``workdir`` and the predictions to its folder
    ``predictions``.

    Args:
      config: config with ``test`` rows (data set, split, crop) and the section ``eval``: flip_test,
        num_crops, batch_size, and which checkpoint of the workdir to evaluate.
      workdir: the run's workdir, or any folder for the results.
      path: a checkpoint folder or another workdir; by default ``workdir``.

    Returns:
      The results by row; rows whose truth supports no protocol have no metrics.

    Raises:
      JaxposeError: config, checkpoint or data cannot be used.
    """
    check_evaluation(config)
    if not config.test:
        raise JaxposeError(
            "config.test is empty, so there is nothing to evaluate; add rows (name, split, crop), "
            "for example --config.test=\"(('mpii/crops', 'validation', 'scale'),)\""
        )
    workdir = absolute(open_path(workdir, "workdir"))
    network = store.load_network(path or workdir, which=config.eval.checkpoint, dtype=config.dtype)
    metadata = network.metadata
    options = {"num_crops": config.eval.num_crops, "flip_test": config.eval.flip_test}
    rows = {}
    opened = open_test_rows(config, metadata.joints, metadata.trained_joints)
    if jax.process_index() == 0:
        _create(workdir)
    for split, crop, evaluation_set in opened:
        predictions = inference.predict_split(
            network.net,
            network.variables,
            split,
            joints=metadata.joints,
            image_size=metadata.image_size,
            batch_size=config.eval.batch_size,
            rule=geometry.crop_rule(crop),
            workers=config.workers,
            decodings=True,
            flip_pairs=metadata.flip_pairs,
            **options,
        )
        name = row_name(split, crop, **options)
        rows[name] = _evaluate_row(
            predictions,
            evaluation_set,
            split=split,
            crop=crop,
            description=f"{name}, {geometry.crop_description(crop)}",
            folder=workdir / "predictions",
        )
    evaluation = Evaluation(network, config.metric, rows)
    if jax.process_index() == 0:
        text = json.dumps(evaluation.to_json(), indent=1)
        replace_file(workdir / "evaluation.json", text + "\n")
    return evaluation


def open_test_rows(
    config: "ml_collections.ConfigDict",
    joints: Sequence[str],
    trained_joints: Sequence[str] | None = None,
) -> list[tuple[prepared.PreparedSplit, str, EvaluationSet]]:
    """Open the config's test rows, and check that ``config.metric`` can evaluate them.

    Args:
      config: as in ``evaluate_checkpoint``.
      joints: the network's joint names, in channel order.
      trained_joints: those of ``joints`` to evaluate; all by default.

    Returns:
      The split, the name of the crop rule and the truth of each row.

    Raises:
      JaxposeError: a split cannot be read, or a row does not support the metric.
    """
    rows = []
    for split, crop in open_tests(config):
        evaluation_set = evaluation_set_of(split, joints, trained_joints, metric=config.metric)
        metric_choice.protocol_for(evaluation_set, row_name(split, crop))
        rows.append((split, crop, evaluation_set))
    return rows


def _create(workdir: pathlib.Path) -> None:
    """Create the folder for the results; an unusable one fails before the predictions are made."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JaxposeError(
            f"workdir {workdir} cannot be written ({error.strerror or error}); choose another "
            "--workdir"
        ) from error


def _evaluate_row(
    predictions: Predictions,
    evaluation_set: EvaluationSet,
    *,
    split: prepared.PreparedSplit,
    crop: str,
    description: str,
    folder: pathlib.Path,
) -> RowEvaluation:
    """Evaluate one row's predictions and write them to their files."""
    truth = evaluation_set.truth
    results = evaluate_predictions(predictions, evaluation_set)
    protocol = metric_choice.protocol_for(evaluation_set, row_name(split, crop))
    decodings = {}
    if protocol is not None:
        decodings = compare_decodings(predictions, evaluation_set, protocol)
    files = []
    if jax.process_index() == 0:
        labeled = labeled_predictions(predictions, evaluation_set, description=description)
        files = _write(folder, split, crop, truth, labeled)
        if truth.image_id is not None:
            files.append(files[0].with_suffix(".json"))
            entries = coco_results(predictions, evaluation_set, category_id=split.category[0])
            replace_file(files[-1], json.dumps(entries, allow_nan=False) + "\n")
    unreadable = list(dict.fromkeys(truth.image_name[~predictions.readable].tolist()))
    return RowEvaluation(
        split,
        crop,
        description,
        evaluation_set,
        predictions,
        results,
        protocol,
        decodings,
        unreadable,
        files,
    )


def coco_results(
    predictions: Predictions, evaluation_set: EvaluationSet, *, category_id: int | str
) -> list[dict[str, Any]]:
    """Format the predictions as COCO results, joints in the truth's order.

    Joints that the network does not predict, and those whose position or presence is not finite,
    get coordinates 0. The score of a person is the mean presence of the joints that the network
    predicts, with 0 for a presence that is not finite.

    Args:
      predictions: predictions for all persons of the set.
      evaluation_set: their truth, with ``image_id``.
      category_id: category id of the annotation file.
    """
    joints, trained, truth_joints, truth, *_ = evaluation_set
    assert truth.image_id is not None
    order = joint_index(joints, truth_joints)
    known = joint_index(trained, truth_joints) >= 0
    keypoints = predictions.keypoints[-1][:, order]
    presence = predictions.presence[-1][:, order]
    scores = np.where(np.isfinite(presence), presence, 0)
    entries = []
    for person, image_id in enumerate(truth.image_id.tolist()):
        entry = coco.result_entry(
            np.where(known[:, None], keypoints[person], coco.HALF_PIXEL),
            np.where(known, presence[person], 0),
            image_id=coco.id_from_text(str(image_id)),
            category_id=category_id,
            threshold=PRESENCE_THRESHOLD,
        )
        entry["score"] = round(float(scores[person, known].mean()), 6) if known.any() else 0.0
        entries.append(entry)
    return entries


def row_name(
    split: prepared.PreparedSplit, crop: str, *, num_crops: int = 1, flip_test: bool = False
) -> str:
    """Name a validation or test row, such as ``lsp:test (image, flip test)``."""
    how = [crop]
    if num_crops > 1:
        how.append(f"{num_crops} crops")
    if flip_test:
        how.append("flip test")
    return f"{split.name}:{split.split} ({', '.join(how)})"


def _write(
    folder: pathlib.Path,
    split: prepared.PreparedSplit,
    crop: str,
    truth: prepared.Annotations,
    predictions: LabeledPredictions,
) -> list[pathlib.Path]:
    """Write the prediction files of a row; for MPII's test split, also the file for its server."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{split.name.replace('/', '-')}-{split.split}-{crop}.npz"
    with written_file(file) as local:
        write_predictions(local, predictions)
    if not split.test_images or truth.labeled.any():
        return [file]
    submission = folder / f"{split.name.replace('/', '-')}-{crop}" / mpii_submission.NAME
    submission.parent.mkdir(exist_ok=True)
    with written_file(submission) as local:
        mpii_submission.write(local, split.test_images, truth, predictions)
    return [file, submission]


def evaluate_predictions(
    predictions: Predictions,
    evaluation_set: EvaluationSet,
    *,
    block: int = -1,
    chosen: Sequence[Protocol] | None = None,
) -> dict[str, ProtocolResult]:
    """Evaluate the predictions for a split by the protocols.

    Args:
      predictions: predictions for all persons of the set.
      evaluation_set: their truth.
      block: index of the prediction block; by default the last one, the final prediction.
      chosen: the protocols; by default those that the truth supports
        (``metric_choice.protocols_of``).

    Returns:
      Results by protocol name.
    """
    if chosen is None:
        chosen = list(metric_choice.protocols_of(evaluation_set).values())
    labeled = labeled_predictions(predictions, evaluation_set, block=block)
    results = {}
    for protocol in chosen:
        if protocol is oks.OKS_AP:
            keypoints, presence = predictions.keypoints[block], predictions.presence[block]
            results[protocol.name] = oks.oks_ap(keypoints, presence, evaluation_set)
        else:
            results[protocol.name] = protocol_results.evaluate(protocol, labeled)
    return results


def labeled_predictions(
    predictions: Predictions,
    evaluation_set: EvaluationSet,
    *,
    block: int = -1,
    description: str = "",
) -> LabeledPredictions:
    """Combine one block's predictions of the trained joints with the truth, in release pixels.

    Args:
      predictions: predictions for all persons of the set.
      evaluation_set: their truth.
      block: index of the prediction block; by default the last one, the final prediction.
      description: text for the table's title.
    """
    joints, trained_joints, truth_joints, truth, *_ = evaluation_set
    head_size, box = truth.head_size, truth.box.astype(np.float64)
    if truth.zoom is not None:
        head_size = head_size / truth.zoom
        size = box[:, 2:] / truth.zoom[:, None]
        box = np.concatenate([_to_release(truth, box[:, None, :2])[:, 0], size], axis=1)
    positions = _to_release(truth, truth.keypoints.astype(np.float64))
    kept = joint_index(joints, trained_joints)
    return LabeledPredictions(
        prediction=_to_release(truth, predictions.keypoints[block][:, kept]),
        ground_truth=np.where(truth.labeled[..., None], positions, 0.0),
        labeled=truth.labeled,
        joints=truth_joints,
        prediction_joints=trained_joints,
        head_size=head_size,
        description=description,
        separated=truth.separated,
        box=box,
    )


def _to_release(truth: prepared.Annotations, points: np.ndarray) -> np.ndarray:
    """Convert pixels of the stored images [N, J, 2] to pixels of the release's images."""
    if truth.zoom is None or truth.origin is None:
        return points
    return truth.origin[:, None] + points / truth.zoom[:, None, None]


def compare_decodings(
    predictions: Predictions, evaluation_set: EvaluationSet, protocol: Protocol
) -> dict[str, ProtocolResult]:
    """Evaluate each prediction block, and the last block's maps decoded in other ways.

    Args:
      predictions: predictions for all persons of the set.
      evaluation_set: their truth.
      protocol: a protocol that the truth supports.

    Returns:
      Results by name: "block 1" to "block K", then the names of ``predictions.decodings``.
    """
    blocks = len(predictions.keypoints)
    ways = {f"block {k + 1}": (predictions.keypoints, k) for k in range(blocks)}
    ways |= {name: (keypoints, -1) for name, keypoints in predictions.decodings.items()}
    return {
        name: evaluate_predictions(
            predictions._replace(keypoints=keypoints),
            evaluation_set,
            chosen=(protocol,),
            block=block,
        )[protocol.name]
        for name, (keypoints, block) in ways.items()
    }


def _checkpoint_text(network: store.Network) -> str:
    """Describe the checkpoint's network, which can differ from the config's."""
    metadata, window = network.metadata, network.net.window
    return (
        f"checkpoint {network.source} (step {metadata.step}): K = {network.net.num_blocks}, crops "
        f"of {metadata.image_size}x{metadata.image_size}, decoding "
        + (f"within windows of {window}x{window} cells" if window else "of whole heat maps")
    )


def report_text(evaluation: Evaluation) -> str:
    """Format the tables of an evaluation, for printing."""
    parts = [_checkpoint_text(evaluation.network)]
    for name, row in evaluation.rows.items():
        for result in row.results.values():
            parts.append(tables.columns_text([("", result)], description=row.description))
            if result.parts and not result.protocol.columns:  # too many joints for columns
                parts.append(tables.parts_text(result))
            parts.append(tables.beside_text(result))
        if row.results:
            decodings = list(row.decodings.items())
            parts.append(tables.columns_text(decodings, description="by prediction block"))
        else:
            why = metric_choice.why_no_protocol(row.evaluation_set)
            parts.append(f"{name} is not evaluated: {why}")
        parts += [f"predictions: {file}" for file in row.files]
        if row.unreadable:
            more = ", ..." if len(row.unreadable) > MAX_NAMES_SHOWN else ""
            parts.append(
                "images that could not be decoded, replaced by black images: "
                f"{len(row.unreadable)} ({', '.join(row.unreadable[:MAX_NAMES_SHOWN])}{more})"
            )
    return "\n\n".join(parts)
