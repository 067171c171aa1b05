"""The training state: everything that a run resumes from, as one pytree."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxpose.training.optimizer import initial_plateau


class Losses(NamedTuple):
    """The losses of a step, by their names in the log.

    Attributes:
      loss: weighted sum of the others, which is differentiated.
      coordinate_loss: eq. 7.
      probability_loss: eq. 8.
      context_loss: eq. 7 for the positions of the context maps; 0 if disabled.
      heatmap_loss: divergence of the part maps from a Gaussian; 0 if disabled.
    """

    loss: jax.Array
    coordinate_loss: jax.Array
    probability_loss: jax.Array
    context_loss: jax.Array
    heatmap_loss: jax.Array


class TrainState(NamedTuple):
    """Everything a run resumes from, as one pytree.

    Attributes:
      step: int32, number of completed steps.
      params, batch_stats: the network's variables.
      opt_state: Optax's optimizer state.
      plateau: Optax's plateau state; its ``scale`` multiplies every update.
      ema: averaged {"params", "batch_stats"}, or None.
      sums: ``Losses`` summed since the last line of the log, with the number of steps. They are
        only used for logging, so checkpoints with other keys can be resumed.
      bad_step: int32, the first step whose loss, gradient or update was not finite, otherwise -1.
      best_score: float32, score of the best checkpoint.
      unreadable: int32, number of training images so far that could not be decoded.
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
    """Make the state before the first step from the network's initial variables."""
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
    """Return zero sums for a new logging window."""
    return {name: jnp.float32(0) for name in ("steps", "gradient_norm", *Losses._fields)}


def evaluation_variables(state: TrainState) -> dict:
    """Return the variables for validation, best checkpoint and export: averaged if EMA is on."""
    if state.ema is not None:
        return state.ema
    return {"params": state.params, "batch_stats": state.batch_stats}
