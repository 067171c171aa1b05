"""Collect the content of a run's report: evaluation, training run and baselines."""

import json
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jaxpose import __version__, geometry
from jaxpose.checkpoints import KINDS
from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.data import prepared
from jaxpose.data.batches import annotated_joints
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import baselines, evaluate
from jaxpose.evaluation.evaluate import Evaluation, RowEvaluation
from jaxpose.evaluation.evaluation_set import evaluation_set_of
from jaxpose.evaluation.protocol_results import ProtocolResult
from jaxpose.report.page import write_report
from jaxpose.report.persons import person_sections
from jaxpose.storage import absolute, open_path
from jaxpose.training.config import DataRow
from jaxpose.training.metric_log import read_records


class TrainingRun(NamedTuple):
    """What is known about the run that trained a checkpoint.

    Attributes:
      data: the data sets that it trained on; () if they are not known.
      history: records of its metrics.jsonl.
    """

    data: Sequence[DataRow] = ()
    history: Sequence[dict[str, Any]] = ()


def training_run_of(checkpoint: pathlib.Path) -> TrainingRun:
    """Read about the run that trained a checkpoint from the workdir that contains it.

    Nothing is known about other checkpoints, such as packed and converted ones. The config of the
    evaluation may differ from that of the run.
    """
    kind = absolute(checkpoint).parent
    if kind.name not in KINDS or kind.parent.name != "checkpoints":
        return TrainingRun()
    workdir = kind.parent.parent
    try:
        config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
        rows = [(*row, config["crop"])[:3] for row in config["data"]]
        data = [DataRow(name, float(weight), crop) for name, weight, crop in rows]
    except (OSError, ValueError, KeyError, TypeError):
        data = []
    return TrainingRun(data, read_records(workdir / "metrics.jsonl"))


def report_run(
    workdir: str | pathlib.Path,
    evaluation: Evaluation,
    data: Sequence[DataRow],
    *,
    data_dir: str,
) -> pathlib.Path:
    """Write report.html in ``workdir``: metrics, persons of the first test row, curves, tables.

    In a multi-process run, only one process calls this. The curves and the training data are those
    of the checkpoint's own workdir, if there is one.

    Args:
      workdir: the run's workdir, or any folder that an evaluation wrote to.
      evaluation: result of ``evaluate.evaluate_checkpoint``.
      data: data sets whose train splits give the mean and the median pose, which are baselines.
      data_dir: folder of the prepared data sets; "" for the default one.

    Returns:
      The page's path.

    Raises:
      JaxposeError: the data cannot be read, or the page cannot be written.
    """
    workdir = absolute(open_path(workdir, "workdir"))
    network, rows = evaluation.network, evaluation.rows
    net, size = network.net, network.metadata.image_size
    run = training_run_of(network.source)
    notes = _notes(evaluation, run, workdir)
    try:
        beside, persons_of = _constant_baselines(evaluation, data, data_dir)
        notes.append(
            (
                "mean pose, median pose",
                "the same prediction for every image: the mean (median) position of each joint in "
                f"the crops of the persons of {persons_of}",
            )
        )
    except JaxposeError as error:  # the data may not be available
        beside = {}
        notes.append(("mean pose", f"not evaluated: {error}"))
    evaluated = [row for row in rows.values() if row.results]
    first = next(iter([*evaluated, *rows.values()]), None)
    persons, maps = person_sections(network, first) if first else ([], [])
    return write_report(
        workdir / "report.html",
        title=f"{workdir.name}: human pose regression",
        description=(
            f"A pose network of {net.num_blocks} prediction "
            f"{'block' if net.num_blocks == 1 else 'blocks'} and width "
            f"{net.width} on crops of {size}x{size} pixels, {_origin(network.metadata, run)}."
        ),
        rows={name: row.results for name, row in rows.items()},
        blocks={name: row.decodings for name, row in rows.items()},
        beside=beside,
        history=run.history,
        images=persons,
        maps=maps,
        notes=notes,
    )


def _origin(metadata: CheckpointMetadata, run: TrainingRun) -> str:
    """Describe how a network was made, as far as it is known."""
    if metadata.source:
        return f"imported from {metadata.source}"
    if not run.data:
        return f"after {metadata.step:,} training steps"
    names = ", ".join(dict.fromkeys(row.name for row in run.data))
    return f"after {metadata.step:,} steps of training on {names}"


def _constant_baselines(
    evaluation: Evaluation, data: Sequence[DataRow], data_dir: str
) -> tuple[dict[str, dict[str, dict[str, ProtocolResult]]], str]:
    """Evaluate baselines that ignore the image.

    They predict the mean or median pose of the persons in the train splits of ``data``, in crops by
    the row's rule. If one of these data sets is that of the row, only its persons are used.

    Returns:
      (results by name, row and protocol; names of the splits that the persons are of).

    Raises:
      JaxposeError: the data are not available, or no person has a label.
    """
    if not data:
        raise JaxposeError("config.data is empty")
    joints = evaluation.network.metadata.joints
    training = {
        name: evaluation_set_of(prepared.open_split(name, "train", data_dir=data_dir), joints)
        for name in dict.fromkeys(row.name for row in data)
    }
    training = {name: found for name, found in training.items() if found.truth.labeled.any()}
    if not training:
        raise JaxposeError("no train split of config.data has labels")
    found: dict[str, dict[str, dict[str, ProtocolResult]]] = {
        "mean pose": {},
        "median pose": {},
    }
    for name, row in evaluation.rows.items():
        rule = geometry.crop_rule(row.crop)
        own = training.get(row.split.name)
        sets = [own] if own is not None else list(training.values())
        poses = baselines.constant_poses(sets, rule=rule)
        for results, pose in zip(found.values(), poses, strict=True):
            predictions = baselines.constant_predictions(row.evaluation_set, pose, rule=rule)
            results[name] = evaluate.evaluate_predictions(predictions, row.evaluation_set)
    splits = ", ".join(f"{name}:train" for name in training)
    if len(training) > 1 and any(row.split.name in training for row in evaluation.rows.values()):
        splits += "; for the test data of one of these data sets, only of its own train split"
    return found, splits


def _notes(
    evaluation: Evaluation, run: TrainingRun, workdir: pathlib.Path
) -> list[tuple[str, str]]:
    """Describe the checkpoint, the data and the software."""
    _, variables, metadata, source = evaluation.network
    rows, source = evaluation.rows, absolute(source)
    place = source.relative_to(workdir) if source.is_relative_to(workdir) else source
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    averages = sum(leaf.size for leaf in jax.tree.leaves(variables["batch_stats"]))
    network = ", ".join(f"{name} {value}" for name, value in metadata.network.items())
    data = "; ".join(f"{row.name} (weight {row.weight:g}, crop {row.crop})" for row in run.data)
    notes = [
        ("checkpoint", f"{place}, step {metadata.step}"),
        ("network", f"{network}; {parameters:,} parameters, {averages:,} batch-norm statistics"),
        ("training data", data or "unknown: only a run's workdir records them"),
        ("joints", ", ".join(metadata.trained_joints)),
    ]
    if metadata.seconds:
        notes.append(("training", f"{metadata.seconds / 60:.1f} minutes until the checkpoint"))
    rates = [r["images_per_second"] for r in run.history if r.get("images_per_second")]
    if rates:
        rate = statistics.median(rates)
        notes.append(("speed", f"{rate:.0f} images per second (median of the log lines)"))
    waits = [r["data_wait"] for r in run.history if "data_wait" in r]
    if waits:
        wait = statistics.median(waits)
        notes.append(("waiting for images", f"{wait:.1%} of the time (median of the log lines)"))
    notes += [("test data", text) for text in dict.fromkeys(map(_people, rows.values()))]
    crops = dict.fromkeys(row.crop for row in rows.values())
    notes += [(f"crop {crop}", geometry.crop_description(crop)) for crop in crops]
    for name, row in rows.items():
        if row.unreadable:
            notes.append((f"unreadable images of {name}", ", ".join(row.unreadable)))
    devices = jax.devices()
    kind = f"{len(devices)} x {devices[0].device_kind}"
    notes.append(("software", f"jaxpose {__version__}, jax {jax.__version__}, {kind}"))
    return notes


def _people(row: RowEvaluation) -> str:
    """Describe the persons of a test row: number, labels, occlusions."""
    split, truth = row.split, row.evaluation_set.truth
    labeled, hidden = truth.labeled, truth.labeled & ~truth.visible
    if not labeled.any():
        return f"{split.name}:{split.split}: {len(labeled):,} examples without labels"
    lacking = (~labeled[:, annotated_joints(split)]).any(axis=1)
    return (
        f"{split.name}:{split.split}: {len(labeled):,} persons, {labeled.sum():,} labeled "
        f"joints, {100 * hidden.sum() / labeled.sum():.1f} % of them marked as occluded; "
        f"{100 * lacking.mean():.1f} % of the persons lack at least one label"
    )
