"""The training state: everything that a run resumes from, as one pytree."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxpose.training.optimizer import initial_plateau

LOSSES = ("loss", "coordinate_loss", "probability_loss", "context_loss", "heatmap_loss")


class TrainState(NamedTuple):
    """Everything a run resumes from, as one pytree.

    Attributes:
      step: int32, steps done.
      params, batch_stats: the network's variables.
      opt_state: Optax's.
      plateau: Optax's plateau state; its `scale` multiplies every update.
      ema: averaged {"params", "batch_stats"}, or None.
      sums: losses summed since the last line of the log, with the number of steps summed.
      bad_step: int32, the first step whose loss or gradient was not finite, else -1.
      best_score: float32, of the best checkpoint.
      unreadable: int32, images of training that did not decode so far.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    plateau: Any
    ema: Any
    sums: dict[str, jax.Array]
    bad_step: jax.Array
    best_score: jax.Array
    unreadable: jax.Array


def create_train_state(
    variables: dict, optimizer: optax.GradientTransformation, *, ema: bool
) -> TrainState:
    """The state before the first step, from the network's initial variables."""
    params, batch_stats = variables["params"], variables["batch_stats"]
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        plateau=initial_plateau(),
        ema={"params": params, "batch_stats": batch_stats} if ema else None,
        sums=empty_sums(),
        bad_step=jnp.int32(-1),
        best_score=jnp.float32(-np.inf),
        unreadable=jnp.int32(0),
    )


def empty_sums() -> dict[str, jax.Array]:
    """Sums of the log's window, before its first step."""
    return {name: jnp.float32(0) for name in ("steps", "gradient_norm", *LOSSES)}


def evaluation_variables(state: TrainState) -> dict:
    """The variables that validation, best checkpoint and export use: averaged where EMA is on."""
    if state.ema is not None:
        return state.ema
    return {"params": state.params, "batch_stats": state.batch_stats}
