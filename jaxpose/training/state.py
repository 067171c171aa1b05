"""The training state: everything that a run resumes from, as one pytree."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxpose.training.optimizer import initial_plateau


class Losses(NamedTuple):
    """The losses of a step, by the names that the log has for them.

    Attributes:
      loss: weighted sum of the others, which the gradient is of.
      coordinate_loss: eq. 7.
      probability_loss: eq. 8.
      context_loss: eq. 7 of the context maps' own position; 0 where it is off.
      heatmap_loss: divergence of the part maps from a Gaussian; 0 where it is off.
    """

    loss: jax.Array
    coordinate_loss: jax.Array
    probability_loss: jax.Array
    context_loss: jax.Array
    heatmap_loss: jax.Array


class TrainState(NamedTuple):
    """Everything a run resumes from, as one pytree.

    Attributes:
      step: int32, steps done.
      params, batch_stats: the network's variables.
      opt_state: Optax's.
      plateau: Optax's plateau state; its `scale` multiplies every update.
      ema: averaged {"params", "batch_stats"}, or None.
      sums: `Losses` summed since the last line of the log, with the number of steps summed. Only
        the log reads them, so a checkpoint with other names in it is resumed too.
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
    return {name: jnp.float32(0) for name in ("steps", "gradient_norm", *Losses._fields)}


def evaluation_variables(state: TrainState) -> dict:
    """The variables that validation, best checkpoint and export use: averaged where EMA is on."""
    if state.ema is not None:
        return state.ema
    return {"params": state.params, "batch_stats": state.batch_stats}
