"""Scores of a run's validation rows."""

import math
from typing import Any

from jaxpose import geometry
from jaxpose.data import prepared
from jaxpose.evaluation import inference, scoring
from jaxpose.evaluation.scoring import total_of_protocol
from jaxpose.training.run import Run


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
        answers = inference.predict_split(
            run.net,
            variables,
            split,
            joints=run.joints,
            image_size=config.image_size,
            batch_size=config.eval.batch_size,
            rule=geometry.crop_rule(crop),
            workers=config.workers,
        )
        found = scoring.score_answers(
            answers,
            prepared.annotations(split),
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
            total = total_of_protocol(found, config.score, split)
            scores.append(weight * (math.nan if total is None else total))
            weights.append(weight)
    return rows, sum(scores) / sum(weights) if weights else math.nan
