"""Scores of a network: a split by the protocols, a checkpoint on a config's test rows."""

import json
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpose import geometry
from jaxpose.checkpoints import store
from jaxpose.data import prepared
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import inference, mpii_submission, protocols, tables
from jaxpose.evaluation.inference import PARTS_ALONE, Answers, predictions_of
from jaxpose.evaluation.prediction_file import Predictions, write_predictions
from jaxpose.evaluation.protocols import allowed_protocols
from jaxpose.network import make_net
from jaxpose.paths import local_path

if TYPE_CHECKING:
    import ml_collections

NAMED = 5  # unreadable pictures, in a table

# Rows of a config: how to write one, and the types of its columns.
ROWS = {
    "data": ("(name, weight) or (name, weight, crop)", [(str, float), (str, float, str)]),
    "validation": ("(name, split, crop, weight)", [(str, str, str, float)]),
    "test": ("(name, split, crop)", [(str, str, str)]),
}


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
      `compare_readings`}, "unreadable": {row: [names of pictures that did not decode]},
      "files": {row: [paths of the predictions]}}. A row without labels has no results.
    """
    check_evaluation(config)
    workdir = pathlib.Path(local_path(workdir, "workdir")).absolute()
    variables, described, folder = store.load(path or workdir, which=config.eval.checkpoint)
    net = make_net(described["network"], dtype=config.dtype)
    joints, trained = tuple(described["joints"]), tuple(described["trained_joints"])
    size = described["image_size"]
    like = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    store.check_variables(variables, like, folder)
    report = {"checkpoint": str(folder), "step": described["step"], "score": config.score}
    report |= {"rows": {}, "blocks": {}, "unreadable": {}, "files": {}}
    for split, crop in open_tests(config):
        answers = inference.predict_split(
            net,
            variables,
            split,
            joints=joints,
            image_size=size,
            batch_size=config.eval.batch_size,
            rule=geometry.crop_rule(crop),
            workers=config.workers,
            flip_test=config.eval.flip_test,
            num_crops=config.eval.num_crops,
            readings=True,
        )
        truth = prepared.annotations(split)
        options = {"joints": joints, "truth_joints": split.joints, "trained": trained}
        row = f"{split.name}:{split.split} ({_how(config, crop)})"
        found = score_answers(answers, truth, **options)
        report["rows"][row] = found
        report["blocks"][row] = {}
        if truth["labelled"].any():
            total_of_protocol(found, config.score, split)
            report["blocks"][row] = compare_readings(answers, truth, config.score, **options)
        report["unreadable"][row] = truth["image_name"][~answers.readable].tolist()
        predictions = inference.predictions_of(answers, truth, description=row, **options)
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
    parts = [geometry.CROP_NAMES[crop]]
    if config.eval.num_crops > 1:
        parts.append(f"{config.eval.num_crops} crops")
    if config.eval.flip_test:
        parts.append("flip test")
    return ", ".join(parts)


def _write(
    folder: pathlib.Path,
    split: prepared.PreparedSplit,
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
    submission = folder / f"{split.name.replace('/', '-')}-{crop}" / mpii_submission.NAME
    submission.parent.mkdir(exist_ok=True)
    mpii_submission.write(submission, split.test_images, truth, predictions)
    return [file, submission]


def open_tests(
    config: "ml_collections.ConfigDict",
) -> list[tuple[prepared.PreparedSplit, str]]:
    """The splits of `config.test`, each with its crop's name."""
    return [
        (prepared.open_split(name, split, data_dir=config.data_dir), crop)
        for name, split, crop in config.test
    ]


def check_evaluation(config: "ml_collections.ConfigDict") -> None:
    """Raise a JaxposeError for values with which nothing can be scored."""
    check_rows(config)
    if config.dtype not in ("float32", "bfloat16"):
        raise JaxposeError(f"dtype is {config.dtype!r}; choose 'float32' or 'bfloat16'")
    if config.score not in protocols.PROTOCOLS:
        raise JaxposeError(
            f"score is {config.score!r}; choose one of {', '.join(protocols.PROTOCOLS)}"
        )
    if config.eval.batch_size < 1:
        raise JaxposeError(f"eval.batch_size is {config.eval.batch_size}; it must be 1 or more")
    if config.eval.checkpoint not in store.KINDS:
        raise JaxposeError(
            f"eval.checkpoint is {config.eval.checkpoint!r}; choose one of {', '.join(store.KINDS)}"
        )
    inference.crop_sizes(config.eval.num_crops)
    for *_, crop in config.test:
        geometry.crop_rule(crop)


def check_rows(config: "ml_collections.ConfigDict") -> None:
    """Raise a JaxposeError for a row of data, validation or test that is none."""
    for field, (form, kinds) in ROWS.items():
        for row in config[field]:
            columns = row if isinstance(row, tuple | list) else (row,)
            found = tuple(float if type(value) is int else type(value) for value in columns)
            if found not in kinds:
                raise JaxposeError(f"config.{field} has {row!r}; write rows of {form}")


def score_answers(
    answers: Answers,
    truth: dict[str, np.ndarray],
    *,
    joints: tuple[str, ...],
    truth_joints: tuple[str, ...],
    trained: tuple[str, ...] | None = None,
    block: int = -1,
    names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Results of the protocols, by name.

    Args:
      answers: of the whole split.
      truth: `prepared.annotations` of it, in stored pixels and `truth_joints`' order.
      joints: the network's.
      truth_joints: of the truth.
      trained: joints that the network ever saw a label for; the others are not scored.
      block: which prediction block; the last is the prediction.
      names: of the protocols; by default all that the truth allows.
    """
    predictions = predictions_of(
        answers, truth, joints=joints, truth_joints=truth_joints, trained=trained, block=block
    )
    names = allowed_protocols(truth, truth_joints) if names is None else names
    chosen = {name: protocols.PROTOCOLS[name] for name in names}
    return {
        name: protocols.result(protocol, protocols.score(protocol, predictions))
        for name, protocol in chosen.items()
    }


def compare_readings(
    answers: Answers, truth: dict[str, np.ndarray], protocol: str, **options: Any
) -> dict[str, dict[str, Any]]:
    """Results of one protocol by prediction block, and of the last block's other readings.

    Args:
      answers: of the whole split.
      truth: as in `score_answers`.
      protocol: its name; the truth allows it.
      **options: further arguments of `score_answers`.

    Returns:
      {"block 1": result, ..., "block K", and the answers' `readings` by name}.
    """
    blocks = len(answers.keypoints)
    ways = {f"block {k + 1}": (answers.keypoints, k) for k in range(blocks)}
    ways |= {name: (keypoints, -1) for name, keypoints in answers.readings.items()}
    return {
        name: score_answers(
            answers._replace(keypoints=keypoints), truth, names=(protocol,), block=block, **options
        )[protocol]
        for name, (keypoints, block) in ways.items()
    }


def total_of_protocol(
    found: dict[str, Any], score: str, split: prepared.PreparedSplit
) -> float | None:
    """The total of the protocol that `config.score` names; None where it counted nobody."""
    if score not in found:
        raise JaxposeError(
            f"{split.name}:{split.split} cannot be scored by {score}, but by "
            f"{', '.join(found) or 'nothing'}; change config.score, or leave the row out"
        )
    return found[score]["total"]


def report_text(report: dict[str, Any], *, paper: bool = False) -> str:
    """The tables of `evaluate_checkpoint`'s report, as the command prints them."""
    parts = [f"checkpoint {report['checkpoint']} (step {report['step']})"]
    for row, found in report["rows"].items():
        for result in found.values():
            parts.append(
                tables.columns_text([("", result)], description=row, paper=paper)
                + "\n\n"
                + tables.beside_text(result)
            )
        if found:
            parts.append(_comparison_text(report["blocks"][row]))
        else:
            parts.append(f"{row}: no joint has a label, so nothing is scored")
        parts += [f"predictions: {file}" for file in report["files"][row]]
        unreadable = report["unreadable"][row]
        if unreadable:
            more = ", ..." if len(unreadable) > NAMED else ""
            parts.append(
                f"{len(unreadable)} pictures did not decode and were answered as black: "
                f"{', '.join(unreadable[:NAMED])}{more}"
            )
    return "\n\n".join(parts)


def _comparison_text(blocks: dict[str, dict[str, Any]]) -> str:
    """What each prediction block adds, and what the context maps do."""
    text = tables.columns_text(list(blocks.items()), description="by prediction block")
    last = [result for name, result in blocks.items() if name.startswith("block ")][-1]
    alone = blocks.get(PARTS_ALONE)
    if alone is None or None in (last["total"], alone["total"]):
        return text
    added = last["total"] - alone["total"]
    return f"{text}\n\ncontext maps add {added:+.2f} to the last block, which was trained with them"
