"""What a run's page shows, gathered from its workdir, its checkpoint and its data."""

import pathlib
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxpose import __version__, geometry
from jaxpose.checkpoints import store
from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.data import prepared
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import inference, metrics, scoring
from jaxpose.evaluation.evaluation_set import evaluation_set_of
from jaxpose.evaluation.protocols import ProtocolResult
from jaxpose.evaluation.scoring import Evaluation
from jaxpose.network import make_net
from jaxpose.report.page import write_report
from jaxpose.report.persons import person_sections
from jaxpose.skeleton import joint_index
from jaxpose.storage import absolute, open_path
from jaxpose.training.metric_log import read_records
from jaxpose.training.run import open_training

if TYPE_CHECKING:
    import ml_collections


def report_run(
    config: "ml_collections.ConfigDict", workdir: str | pathlib.Path, evaluation: Evaluation
) -> pathlib.Path:
    """Write `workdir`/report.html: scores, curves, and 12 persons of the first test row.

    The persons follow from the config's seed. In a run of several processes one of them calls this.

    Args:
      config: of the run.
      workdir: of the run, or any folder that an evaluation wrote to.
      evaluation: what `scoring.evaluate_checkpoint` returned.

    Returns:
      The page's path.

    Raises:
      JaxposeError: data, checkpoint or page cannot be read or written.
    """
    workdir = absolute(open_path(workdir, "workdir"))
    variables, metadata, _ = store.load(evaluation.checkpoint)
    net = make_net(metadata.network, dtype=config.dtype)
    history = read_records(workdir / "metrics.jsonl")
    tests = [
        (prepared.open_split(name, part, data_dir=config.data_dir), geometry.crop_rule(crop))
        for name, part, crop in config.test
    ]
    notes = _notes(config, metadata, evaluation, history, variables, [s for s, _ in tests])
    try:
        beside = _constant_baselines(config, tests, list(evaluation.rows), metadata)
        notes.append(
            (
                "mean pose, median pose",
                "the same prediction for every image: each joint's mean (median) place in the "
                "crops of the training persons",
            )
        )
    except JaxposeError as error:  # a checkpoint is scored where its training data are not
        beside = {}
        notes.append(("mean pose", f"not scored: {error}"))
    size = metadata.image_size
    return write_report(
        workdir / "report.html",
        title=f"{workdir.name}: human pose regression",
        description=(
            f"A pose network of {net.num_blocks} prediction "
            f"{'block' if net.num_blocks == 1 else 'blocks'} and width "
            f"{net.width} on crops of {size}x{size} pixels, after {metadata.step} "
            f"steps of training on {', '.join(dict.fromkeys(entry[0] for entry in config.data))}."
        ),
        rows={name: row.results for name, row in evaluation.rows.items()},
        blocks={name: row.decodings for name, row in evaluation.rows.items()},
        beside=beside,
        history=history,
        images=person_sections(config, net, variables, metadata, *tests[0]) if tests else [],
        notes=notes,
    )


def _constant_baselines(
    config: "ml_collections.ConfigDict",
    tests: Sequence[tuple[prepared.PreparedSplit, geometry.CropRule]],
    rows: Sequence[str],
    metadata: CheckpointMetadata,
) -> dict[str, dict[str, dict[str, ProtocolResult]]]:
    """Results of predictions that look at no image, by their name, row and protocol.

    They are the mean and the median pose of the training persons in crops of the row's own rule;
    of those of its data set, where the network was trained on it, else of all.
    """
    training = {split.name: split for split, _ in open_training(config)[0]}
    found: dict[str, dict[str, dict[str, ProtocolResult]]] = {
        "mean pose alone": {},
        "median pose alone": {},
    }
    joints = metadata.joints
    for (split, rule), row in zip(tests, rows, strict=True):
        splits = [training[split.name]] if split.name in training else list(training.values())
        evaluation_set = evaluation_set_of(split, joints, metadata.trained_joints)
        for results, pose in zip(
            found.values(), constant_poses(splits, rule=rule, joints=joints), strict=True
        ):
            predictions = inference.constant_predictions(split, pose, rule=rule)
            results[row] = scoring.score_predictions(predictions, evaluation_set)
    return found


def constant_poses(
    splits: Sequence[prepared.PreparedSplit],
    *,
    rule: geometry.CropRule,
    joints: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and median over the persons of some splits of where their joints lie in their crops.

    Args:
      splits: of training.
      rule: of the crops.
      joints: J names.

    Returns:
      Two float64 [J, 2] in [0, 1] of a crop; NaN for joints that nobody has.
    """
    everywhere = []
    for split in splits:
        truth = prepared.annotations(split)
        matrices = [
            geometry.crop_to_image(
                geometry.example_crop({name: values[i] for name, values in truth.items()}, rule)
            )
            for i in range(len(split.source))
        ]
        points = geometry.apply_affine(
            geometry.invert_affine(np.stack(matrices)), truth["keypoints"].astype(np.float64)
        )
        order = joint_index(split.joints, joints)
        labeled = truth["labeled"][:, order] & (order >= 0)
        everywhere.append(np.where(labeled[..., None], points[:, order], np.nan))
    points = np.concatenate(everywhere)
    labeled = np.isfinite(points).all(axis=-1)
    median = np.full(points.shape[1:], np.nan)
    for joint in np.flatnonzero(labeled.any(axis=0)):
        median[joint] = np.median(points[labeled[:, joint], joint], axis=0)
    return metrics.mean_pose(points, labeled), median


def _notes(config, metadata, evaluation, history, variables, tests) -> list[tuple[str, str]]:
    """Where the numbers come from."""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    averages = sum(leaf.size for leaf in jax.tree.leaves(variables["batch_stats"]))
    network = ", ".join(f"{name} {value}" for name, value in metadata.network.items())
    step = metadata.step
    notes = [
        ("checkpoint", f"{evaluation.checkpoint.parent.name}, step {step}"),
        ("network", f"{network}; {parameters:,} parameters, {averages:,} statistics of batch norm"),
        ("training data", "; ".join(" ".join(map(str, entry)) for entry in config.data)),
        ("joints", ", ".join(metadata.trained_joints)),
        ("training", f"{metadata.seconds / 60:.1f} minutes to the checkpoint"),
    ]
    rates = [r["images_per_second"] for r in history if r.get("images_per_second")]
    if rates:
        notes.append(("speed", f"{statistics.median(rates):.0f} images a second, median"))
    waits = [r["data_wait"] for r in history if "data_wait" in r]
    if waits:
        share = statistics.median(waits)
        notes.append(("waiting for images", f"{share:.1%} of the time, median"))
    notes += [("test data", text) for text in dict.fromkeys(map(_people, tests))]
    for name, row in evaluation.rows.items():
        if row.unreadable:
            notes.append((f"images of {name} that do not decode", ", ".join(row.unreadable)))
    devices = jax.devices()
    kind = f"{len(devices)} x {devices[0].device_kind}"
    notes.append(("software", f"jaxpose {__version__}, jax {jax.__version__}, {kind}"))
    return notes


def _people(split: prepared.PreparedSplit) -> str:
    """How many persons a test split has, and how hard they are to see."""
    truth = prepared.annotations(split)
    labeled, hidden = truth["labeled"], truth["labeled"] & ~truth["visible"]
    lacking = (~labeled[:, np.asarray(split.annotated)]).any(axis=1)
    return (
        f"{split.name}:{split.split}: {len(labeled):,} persons, {labeled.sum():,} labeled "
        f"joints, {100 * hidden.sum() / max(labeled.sum(), 1):.1f} % of them occluded; "
        f"{100 * lacking.mean():.1f} % of the persons lack a joint's label"
    )
