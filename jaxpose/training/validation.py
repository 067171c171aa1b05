"""Scores of a run's validation rows."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxpose import geometry
from jaxpose.evaluation import inference, scoring
from jaxpose.evaluation.evaluation_set import EvaluationSet, evaluation_set_of
from jaxpose.evaluation.protocols import ProtocolResult
from jaxpose.training.run import Run


class Validation(NamedTuple):
    """The scores of a run's validation rows.

    Attributes:
      rows: results by row name and protocol name.
      score: mean of the rows' `config.score` totals, weighted as the config has it: the score that
        steers the run. NaN where no row has a weight.
    """

    rows: Mapping[str, Mapping[str, ProtocolResult]]
    score: float

    def rows_to_json(self) -> dict[str, Any]:
        """What metrics.jsonl records of each row: totals, columns and the rate of each joint."""
        return {
            row: {
                name: {
                    "total": result.total,
                    "columns": dict(result.columns),
                    "joints": {part: found.rate for part, found in result.parts.items()},
                }
                for name, result in results.items()
            }
            for row, results in self.rows.items()
        }


def make_validate(run: Run, *, trained: tuple[str, ...]) -> Callable[[dict], Validation]:
    """The function that scores a run's validation rows; it reads their annotations once.

    Args:
      run: from `open_run`.
      trained: names of the joints to score.

    Returns:
      validate(variables), of the run's network. It raises a JaxposeError where a row with a weight
      cannot be scored by `config.score`.
    """
    config = run.config

    @functools.cache
    def evaluation_sets() -> list[EvaluationSet]:
        return [evaluation_set_of(split, run.joints, trained) for split, _, _ in run.validation]

    def validate(variables: dict) -> Validation:
        rows, scores, weights = {}, [], []
        sets = evaluation_sets()
        for (split, crop, weight), evaluation_set in zip(run.validation, sets, strict=True):
            predictions = inference.predict_split(
                run.net,
                variables,
                split,
                joints=run.joints,
                image_size=config.image_size,
                batch_size=config.eval.batch_size,
                rule=geometry.crop_rule(crop),
                workers=config.workers,
            )
            results = scoring.score_predictions(predictions, evaluation_set)
            rows[scoring.row_name(split, crop)] = results
            if weight:
                total = scoring.total_of_protocol(results, config.score, split)
                scores.append(weight * (math.nan if total is None else total))
                weights.append(weight)
        return Validation(rows, sum(scores) / sum(weights) if weights else math.nan)

    return validate
