"""What a run's page shows, gathered from its workdir, its checkpoint and its data."""

import pathlib
import statistics
from typing import Any

import jax
import ml_collections
import numpy as np

from jaxpose import __version__, checkpoint, evaluate, geometry, input_pipeline, metrics
from jaxpose.errors import JaxposeError
from jaxpose.network import make_net
from jaxpose.report.page import write_report
from jaxpose.report.persons import person_sections
from jaxpose.run_log import read_records
from jaxpose.skeleton import joint_index
from jaxpose.train.run import open_training


def report_run(
    config: ml_collections.ConfigDict, workdir: str | pathlib.Path, evaluation: dict[str, Any]
) -> pathlib.Path:
    """Write `workdir`/report.html: scores, curves, and 12 persons of the first test row.

    The persons follow from the config's seed. In a run of several processes one of them calls this.

    Args:
      config: of the run.
      workdir: of the run, or any folder that an evaluation wrote to.
      evaluation: what `train.evaluate_checkpoint` returned.

    Returns:
      The page's path.

    Raises:
      JaxposeError: data, checkpoint or page cannot be read or written.
    """
    workdir = pathlib.Path(workdir).expanduser().absolute()
    variables, described, folder = checkpoint.load(evaluation["checkpoint"])
    net = make_net(described["network"], dtype=config.dtype)
    history = read_records(workdir / "metrics.jsonl")
    tests = [
        (input_pipeline.open_split(name, part, data_dir=config.data_dir), evaluate.crop_rule(crop))
        for name, part, crop in config.test
    ]
    notes = _notes(config, described, evaluation, history, variables)
    try:
        pose = training_mean_pose(config, tuple(described["joints"]))
        mean_pose = {
            row: _mean_pose_results(split, rule, pose, described)
            for row, (split, rule) in zip(evaluation["rows"], tests, strict=True)
        }
    except JaxposeError as error:  # a checkpoint is scored where its training data are not
        mean_pose = {}
        notes.append(("mean pose", f"not scored: {error}"))
    network = described["network"]
    size = described["image_size"]
    return write_report(
        workdir / "report.html",
        title=f"{workdir.name}: human pose regression",
        description=(
            f"A pose network of {network['num_blocks']} prediction blocks and width "
            f"{network['width']} on crops of {size}x{size} pixels, after {described['step']} "
            f"steps of training on {', '.join(dict.fromkeys(entry[0] for entry in config.data))}."
        ),
        rows=evaluation["rows"],
        mean_pose=mean_pose,
        history=history,
        pictures=person_sections(config, net, variables, described, *tests[0]) if tests else [],
        notes=notes,
    )


def training_mean_pose(config: ml_collections.ConfigDict, joints: tuple[str, ...]) -> np.ndarray:
    """Where a joint lies on average in the training crops: the best answer without a picture.

    Splits count by their weight and have their own crop rules, both as in training.

    Returns:
      float64 [J, 2] in [0, 1] of a crop; NaN for joints that nobody has.
    """
    opened, rules = open_training(config)
    poses, counts = [], []
    for (split, weight), rule in zip(opened, rules, strict=True):
        truth = input_pipeline.annotations(split)
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
        labelled = truth["labelled"][:, order] & (order >= 0)
        poses.append(np.nan_to_num(metrics.mean_pose(points[:, order], labelled)))
        counts.append(weight * labelled.sum(axis=0))
    count = np.stack(counts)[..., None]
    total = (count * np.stack(poses)).sum(axis=0)
    return np.where(count.sum(axis=0) > 0, total / np.maximum(count.sum(axis=0), 1e-9), np.nan)


def _mean_pose_results(
    split: input_pipeline.PreparedSplit,
    rule: geometry.CropRule,
    pose: np.ndarray,
    described: dict[str, Any],
) -> dict[str, Any]:
    return evaluate.score_answers(
        evaluate.mean_pose_answers(split, pose, rule=rule),
        input_pipeline.annotations(split),
        joints=tuple(described["joints"]),
        truth_joints=split.joints,
        trained=tuple(described["trained_joints"]),
    )


def _notes(config, described, evaluation, history, variables) -> list[tuple[str, str]]:
    """Where the numbers come from."""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    statistics_ = sum(leaf.size for leaf in jax.tree.leaves(variables["batch_stats"]))
    network = ", ".join(f"{name} {value}" for name, value in described["network"].items())
    notes = [
        ("checkpoint", f"{pathlib.Path(evaluation['checkpoint']).name}, step {described['step']}"),
        ("network", f"{network}; {parameters:,} parameters, {statistics_:,} statistics"),
        ("training data", "; ".join(" ".join(map(str, entry)) for entry in config.data)),
        ("joints", ", ".join(described["trained_joints"])),
        ("training", f"{described['seconds'] / 60:.1f} minutes to the checkpoint"),
    ]
    rates = [r["images_per_second"] for r in history if r.get("images_per_second")]
    if rates:
        notes.append(("speed", f"{statistics.median(rates):.0f} pictures a second, median"))
    for row, totals in evaluation["blocks"].items():
        said = ", ".join("–" if total is None else f"{total:.2f}" for total in totals)
        notes.append((f"{evaluation['score']} by prediction block", f"{said} ({row})"))
    for row, names in evaluation["unreadable"].items():
        if names:
            notes.append((f"pictures of {row} that do not decode", ", ".join(names)))
    devices = jax.local_devices()
    notes.append(
        ("software", f"jaxpose {__version__}, jax {jax.__version__}, {len(devices)} devices of "
         f"kind {devices[0].device_kind}")
    )  # fmt: skip
    return notes
