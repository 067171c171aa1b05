"""Collect the content of a run's report: evaluation, workdir and training data."""

import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxpose import __version__, geometry
from jaxpose.data import prepared
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import baselines, evaluate
from jaxpose.evaluation.evaluate import Evaluation, RowEvaluation
from jaxpose.evaluation.evaluation_set import evaluation_set_of
from jaxpose.evaluation.metrics import ProtocolResult
from jaxpose.report.page import write_report
from jaxpose.report.persons import person_sections
from jaxpose.storage import absolute, open_path
from jaxpose.training.config import DataRow
from jaxpose.training.metric_log import read_records


def report_run(
    workdir: str | pathlib.Path,
    evaluation: Evaluation,
    data: Sequence[DataRow],
    *,
    data_dir: str,
) -> pathlib.Path:
    """Write report.html in ``workdir``: metrics, persons of the first test row, curves, tables.

    In a multi-process run, only one process calls this.

    Args:
      workdir: the run's workdir, or any folder that an evaluation wrote to.
      evaluation: result of ``evaluate.evaluate_checkpoint``.
      data: data sets that the network was trained on.
      data_dir: folder of the prepared data sets; "" for the default one.

    Returns:
      The page's path.

    Raises:
      JaxposeError: the data cannot be read, or the page cannot be written.
    """
    workdir = absolute(open_path(workdir, "workdir"))
    network, rows = evaluation.network, evaluation.rows
    net, metadata = network.net, network.metadata
    history = read_records(workdir / "metrics.jsonl")
    notes = _notes(evaluation, data, history)
    try:
        beside = _constant_baselines(evaluation, data, data_dir)
        notes.append(
            (
                "mean pose, median pose",
                "the same prediction for every image: the mean (median) position of each joint in "
                "the crops of the training persons",
            )
        )
    except JaxposeError as error:  # the training data may not be available
        beside = {}
        notes.append(("mean pose", f"not evaluated: {error}"))
    size = metadata.image_size
    first = next(iter(rows.values()), None)
    persons, maps = person_sections(network, first) if first else ([], [])
    return write_report(
        workdir / "report.html",
        title=f"{workdir.name}: human pose regression",
        description=(
            f"A pose network of {net.num_blocks} prediction "
            f"{'block' if net.num_blocks == 1 else 'blocks'} and width "
            f"{net.width} on crops of {size}x{size} pixels, after {metadata.step} "
            f"steps of training on {', '.join(dict.fromkeys(row.name for row in data))}."
        ),
        rows={name: row.results for name, row in rows.items()},
        blocks={name: row.decodings for name, row in rows.items()},
        beside=beside,
        history=history,
        images=persons,
        maps=maps,
        notes=notes,
    )


def _constant_baselines(
    evaluation: Evaluation, data: Sequence[DataRow], data_dir: str
) -> dict[str, dict[str, dict[str, ProtocolResult]]]:
    """Evaluate baselines that ignore the image; returns results by name, row and protocol.

    They predict the mean or median pose of training persons, in crops by the row's rule. These are
    the training persons of the row's data set if the network was trained on it, otherwise those of
    all training data sets.

    Raises:
      JaxposeError: the training data are not available.
    """
    if not data:
        raise JaxposeError("config.data is empty")
    joints = evaluation.network.metadata.joints
    training = {
        name: evaluation_set_of(prepared.open_split(name, "train", data_dir=data_dir), joints)
        for name in dict.fromkeys(row.name for row in data)
    }
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
    return found


def _notes(
    evaluation: Evaluation, data: Sequence[DataRow], history: Sequence[dict[str, Any]]
) -> list[tuple[str, str]]:
    """Describe the checkpoint, the data and the software."""
    _, variables, metadata, source = evaluation.network
    rows = evaluation.rows
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    averages = sum(leaf.size for leaf in jax.tree.leaves(variables["batch_stats"]))
    network = ", ".join(f"{name} {value}" for name, value in metadata.network.items())
    step = metadata.step
    notes = [
        ("checkpoint", f"{source.parent.name}, step {step}"),
        ("network", f"{network}; {parameters:,} parameters, {averages:,} batch-norm statistics"),
        (
            "training data",
            "; ".join(f"{row.name} (weight {row.weight:g}, crop {row.crop})" for row in data),
        ),
        ("joints", ", ".join(metadata.trained_joints)),
        ("training", f"{metadata.seconds / 60:.1f} minutes until the checkpoint"),
    ]
    rates = [r["images_per_second"] for r in history if r.get("images_per_second")]
    if rates:
        rate = statistics.median(rates)
        notes.append(("speed", f"{rate:.0f} images per second (median of the log lines)"))
    waits = [r["data_wait"] for r in history if "data_wait" in r]
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
    lacking = (~labeled[:, np.asarray(split.annotated)]).any(axis=1)
    return (
        f"{split.name}:{split.split}: {len(labeled):,} persons, {labeled.sum():,} labeled "
        f"joints, {100 * hidden.sum() / max(labeled.sum(), 1):.1f} % of them occluded; "
        f"{100 * lacking.mean():.1f} % of the persons lack at least one label"
    )
