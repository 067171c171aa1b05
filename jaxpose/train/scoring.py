"""Scores of a config's splits: validation in a run, and a checkpoint on the test rows."""

import json
import math
import pathlib
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpose import checkpoint, evaluate, input_pipeline, mpii_server_file
from jaxpose.errors import JaxposeError
from jaxpose.network import make_net
from jaxpose.paths import local_path
from jaxpose.prediction_file import Predictions, write_predictions
from jaxpose.train.run import Run, check_evaluation, open_tests

if TYPE_CHECKING:
    import ml_collections


def validation_table(
    run: Run, variables: dict, *, trained: tuple[str, ...] | None = None
) -> tuple[dict[str, Any], float]:
    """Per validation row the protocols' totals and joints, and the score that steers the run.

    Joints that are not among `trained` (None: all are) are not scored. The score is the mean of the
    rows' `config.score` totals, weighted as the config has it; NaN where no row has a weight.
    """
    config = run.config
    rows, scores, weights = {}, [], []
    for split, crop, weight in run.validation:
        answers = evaluate.predict_split(
            run.net,
            variables,
            split,
            joints=run.joints,
            image_size=config.image_size,
            batch_size=config.eval.batch_size,
            rule=evaluate.crop_rule(crop),
            workers=config.workers,
        )
        found = evaluate.score_answers(
            answers,
            input_pipeline.annotations(split),
            joints=run.joints,
            truth_joints=split.joints,
            trained=trained,
        )
        rows[f"{split.name}:{split.split} ({crop})"] = {
            name: {
                "total": result["total"],
                "columns": result["columns"],
                "joints": {part: x["rate"] for part, x in result["parts"].items()},
            }
            for name, result in found.items()
        }
        if weight:
            total = _total(found, config.score, split)
            scores.append(weight * (math.nan if total is None else total))
            weights.append(weight)
    return rows, sum(scores) / sum(weights) if weights else math.nan


def _total(found: dict[str, Any], score: str, split: input_pipeline.PreparedSplit) -> float | None:
    """The total of the protocol that `config.score` names; None where it counted nobody."""
    if score not in found:
        raise JaxposeError(
            f"{split.name}:{split.split} cannot be scored by {score}, but by "
            f"{', '.join(found) or 'nothing'}; change config.score, or leave the row out"
        )
    return found[score]["total"]


def evaluate_checkpoint(
    config: "ml_collections.ConfigDict", workdir: str | pathlib.Path, *, path: str = ""
) -> dict[str, Any]:
    """Score a checkpoint on the config's test rows; predictions go to `workdir`/predictions.

    Args:
      config: `test` rows of (data set, split, crop); `eval` has flip_test, num_crops, batch_size.
      workdir: of the run, or any folder for the results.
      path: a checkpoint folder or another workdir; by default `workdir`'s best.

    Returns:
      {"checkpoint", "step", "score", "rows": {row: {protocol: result}}, "blocks": {row:
      `evaluate.compare_readings`}, "unreadable": {row: [names of pictures that did not decode]},
      "files": {row: [paths of the predictions]}}. A row without labels has no results.
    """
    check_evaluation(config)
    workdir = pathlib.Path(local_path(workdir, "workdir")).absolute()
    variables, described, folder = checkpoint.load(path or workdir, which=config.eval.checkpoint)
    net = make_net(described["network"], dtype=config.dtype)
    joints, trained = tuple(described["joints"]), tuple(described["trained_joints"])
    size = described["image_size"]
    like = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    checkpoint.check_variables(variables, like, folder)
    report = {"checkpoint": str(folder), "step": described["step"], "score": config.score}
    report |= {"rows": {}, "blocks": {}, "unreadable": {}, "files": {}}
    for split, crop in open_tests(config):
        answers = evaluate.predict_split(
            net,
            variables,
            split,
            joints=joints,
            image_size=size,
            batch_size=config.eval.batch_size,
            rule=evaluate.crop_rule(crop),
            workers=config.workers,
            flip_test=config.eval.flip_test,
            num_crops=config.eval.num_crops,
            readings=True,
        )
        truth = input_pipeline.annotations(split)
        options = {"joints": joints, "truth_joints": split.joints, "trained": trained}
        row = f"{split.name}:{split.split} ({_how(config, crop)})"
        found = evaluate.score_answers(answers, truth, **options)
        report["rows"][row] = found
        report["blocks"][row] = {}
        if truth["labelled"].any():
            _total(found, config.score, split)
            report["blocks"][row] = evaluate.compare_readings(
                answers, truth, config.score, **options
            )
        report["unreadable"][row] = truth["image_name"][~answers.readable].tolist()
        predictions = evaluate.predictions_of(answers, truth, description=row, **options)
        report["files"][row] = []
        if jax.process_index() == 0:
            written = _write(workdir / "predictions", split, crop, truth, predictions)
            report["files"][row] = [str(file) for file in written]
    if jax.process_index() == 0:
        text = json.dumps(report, indent=1)
        (workdir / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    return report


def _how(config: "ml_collections.ConfigDict", crop: str) -> str:
    """How a row's answers came about, for its name."""
    parts = [evaluate.CROP_NAMES[crop]]
    if config.eval.num_crops > 1:
        parts.append(f"{config.eval.num_crops} crops")
    if config.eval.flip_test:
        parts.append("flip test")
    return ", ".join(parts)


def _write(
    folder: pathlib.Path,
    split: input_pipeline.PreparedSplit,
    crop: str,
    truth: dict[str, np.ndarray],
    predictions: Predictions,
) -> list[pathlib.Path]:
    """The files of a row's predictions; of MPII's test persons one for its server too."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{split.name.replace('/', '-')}-{split.split}-{crop}.npz"
    write_predictions(file, predictions)
    if not split.test_images or truth["labelled"].any():
        return [file]
    submission = folder / f"{split.name.replace('/', '-')}-{crop}" / mpii_server_file.NAME
    submission.parent.mkdir(exist_ok=True)
    mpii_server_file.write(submission, split.test_images, truth, predictions)
    return [file, submission]
