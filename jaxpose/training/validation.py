"""Metrics and losses on the data sets of ``config.validation``."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxpose import geometry, losses
from jaxpose.data.batches import annotated_joints
from jaxpose.evaluation import evaluate, inference, metric_choice
from jaxpose.evaluation.evaluation_set import EvaluationSet, evaluation_set_of, joints_in_crops
from jaxpose.evaluation.inference import Predictions
from jaxpose.evaluation.protocol_results import ProtocolResult
from jaxpose.skeleton import joint_index
from jaxpose.training.run import Run

LOSS_POINTS = 100.0  # metric = -100 * loss, so that the plateau's min_delta suits losses, too


class Validation(NamedTuple):
    """The metrics on the data sets of ``config.validation``.

    Attributes:
      rows: results by row name (data set, split, crop) and protocol name.
      losses: by row name, the losses of eqs. 7 and 8 and their weighted sum, "loss"; rows without
        labels are omitted.
      loss: weighted mean of the losses of the rows that count toward the metric; NaN if there are
        none.
      metric: metric that selects the best checkpoint: weighted mean of the rows' totals, or -100
        times the loss; NaN if there is none.
    """

    rows: Mapping[str, Mapping[str, ProtocolResult]]
    losses: Mapping[str, Mapping[str, float]]
    loss: float
    metric: float

    def rows_to_json(self) -> dict[str, Any]:
        """Return the record of each row for metrics.jsonl: totals, columns and joint rates."""
        return {
            row: {name: _to_json(result) for name, result in results.items()}
            for row, results in self.rows.items()
        }


def _to_json(result: ProtocolResult) -> dict[str, Any]:
    record = {
        "total": result.total,
        "columns": dict(result.columns),
        "joints": {part: found.rate for part, found in result.parts.items()},
    }
    return record if result.errors is None else record | {"mean_error": result.mean_error}


class Validator(NamedTuple):
    """The validation of a run.

    Attributes:
      choice: which metric selects the best checkpoint.
      validate: function from variables of the run's network to the metrics of the rows.
    """

    choice: metric_choice.Choice
    validate: Callable[[dict], Validation]


def make_validator(run: Run, *, trained: tuple[str, ...]) -> Validator:
    """Read the annotations of the data sets of ``config.validation`` and choose the metric.

    Args:
      run: from ``open_run``.
      trained: names of the joints to evaluate.

    Raises:
      JaxposeError: a row with a weight above 0 cannot be evaluated by ``config.metric``.
    """
    config = run.config
    names = [evaluate.row_name(split, crop) for split, crop, _ in run.validation]
    weights = {name: row[2] for name, row in zip(names, run.validation, strict=True)}
    sets = [
        evaluation_set_of(split, run.joints, trained, metric=config.metric)
        for split, *_ in run.validation
    ]
    choice = metric_choice.choose(config.metric, dict(zip(names, sets, strict=True)), weights)

    def mean(values: Mapping[str, float]) -> float:
        total = sum(choice.weights.values())
        weighted = (values[name] * weight for name, weight in choice.weights.items())
        return sum(weighted) / total if total else math.nan

    def validate(variables: dict) -> Validation:
        rows, row_losses, totals = {}, {}, {}
        for name, (split, crop, _), evaluation_set in zip(names, run.validation, sets, strict=True):
            rule = geometry.crop_rule(crop)
            predictions = inference.predict_split(
                run.net,
                variables,
                split,
                joints=run.joints,
                image_size=config.image_size,
                batch_size=config.eval.batch_size,
                rule=rule,
                workers=config.workers,
            )
            rows[name] = evaluate.evaluate_predictions(predictions, evaluation_set)
            row_losses[name] = prediction_losses(
                predictions,
                evaluation_set,
                rule,
                annotated=annotated_joints(split),
                probability_weight=config.probability_weight,
            )
            chosen = rows[name].get(choice.metric)
            totals[name] = math.nan if chosen is None or chosen.total is None else chosen.total
        loss = mean({name: found.get("loss", math.nan) for name, found in row_losses.items()})
        metric = -LOSS_POINTS * loss if choice.metric == metric_choice.LOSS else mean(totals)
        return Validation(rows, {k: v for k, v in row_losses.items() if v}, loss, metric)

    return Validator(choice, validate)


def prediction_losses(
    predictions: Predictions,
    evaluation_set: EvaluationSet,
    rule: geometry.CropRule,
    *,
    annotated: np.ndarray,
    probability_weight: float,
) -> dict[str, float]:
    """Compute the losses of eqs. 7 and 8 of predictions over all persons.

    They are the training step's, except that a network with a window predicts within it.

    Args:
      predictions: predictions for all persons of the set, in crops by ``rule``.
      evaluation_set: the ground truth.
      rule: crop rule of the predictions.
      annotated: bool [joints of the ground truth], whether the data set annotates the joint.
      probability_weight: weight of eq. 8 in "loss".

    Returns:
      "coordinate_loss", "probability_loss" and "loss"; empty if no joint in a crop has a label.
    """
    places = joints_in_crops(evaluation_set, rule)
    readable = predictions.readable[:, None]
    labeled = places.inside & readable
    if not labeled.any():
        return {}
    order = joint_index(evaluation_set.truth_joints, evaluation_set.joints)
    known = (order >= 0) & annotated[order] & readable
    found = geometry.apply_affine(geometry.invert_affine(places.to_image), predictions.keypoints)
    distance = losses.coordinate_loss(
        jnp.asarray(found, jnp.float32), jnp.where(labeled[..., None], places.points, 0.0)
    )
    smallest = float(np.finfo(np.float32).eps)  # resolution of float32 probabilities near 1
    sure = np.clip(predictions.presence.astype(np.float64), smallest, 1 - smallest)
    entropy = losses.probability_loss(jnp.asarray(np.log(sure / (1 - sure)), jnp.float32), labeled)
    coordinate = float(losses.masked_mean(distance, jnp.asarray(labeled)))
    probability = float(losses.masked_mean(entropy, jnp.asarray(known)))
    return {
        "coordinate_loss": coordinate,
        "probability_loss": probability,
        "loss": coordinate + probability_weight * probability,
    }
