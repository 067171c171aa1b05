"""The training state, and one step as a pure function of a state and a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxpose import losses
from jaxpose.data.batches import Batch
from jaxpose.network import PoseNet, normalize
from jaxpose.runtime.devices import DEVICES
from jaxpose.training.optimizer import initial_plateau


class Losses(NamedTuple):
    """The losses of a step, by their names in the log.

    Attributes:
      loss: weighted sum of the other losses; training minimizes this sum.
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
        only used for logging, so a checkpoint whose ``sums`` have other keys can be resumed.
      bad_step: int32, the first step whose loss, gradient or update was not finite; -1 if there is
        none.
      best_metric: float32, the validation metric of the best checkpoint.
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
    best_metric: jax.Array
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
        best_metric=jnp.float32(-np.inf),
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


def make_train_step(
    net: PoseNet,
    optimizer: optax.GradientTransformation,
    *,
    probability_weight: float,
    context_weight: float = 0.0,
    heatmap_weight: float = 0.0,
    ema_decay: float = 0.0,
    accumulation_steps: int = 1,
    frozen_norm: bool = False,
    axis_name: str | None = DEVICES,
) -> Callable[[TrainState, Batch], TrainState]:
    """Make the training step: loss of eqs. 7 and 8 on every block, gradients, update.

    Each device splits its batch into ``accumulation_steps`` parts. Losses are summed over devices
    and parts and divided by the global mask count, so they do not depend on the number of devices
    or parts. Batch-norm statistics are computed for each part, over all devices.

    Args:
      net: the network, with ``axis_name`` set to the same axis.
      optimizer: from ``make_optimizer``.
      probability_weight: weight of eq. 8 relative to eq. 7.
      context_weight: weight of eq. 7 for the positions of the context maps, which keeps them at the
        joint.
      heatmap_weight: weight of the part maps' Jensen-Shannon divergence from a Gaussian at the
        joint.
      ema_decay: decay of the averaged parameters and statistics; after step n, at most n / (n + 10)
        is used. Unused if the state has no EMA.
      accumulation_steps: number of parts into which each device's batch is split.
      frozen_norm: use batch norm's running statistics and do not update them.
      axis_name: mapped axis of the devices; None if the step is not mapped over devices (plain
        ``jax.jit``).

    Returns:
      ``step(state, batch) -> state``. The batch must have ``index`` and ``crop_to_image`` set to
      None.
    """
    net = net.clone(window=0)  # with frozen_norm, the network is called as in prediction

    def total(x):
        # A psum over a single device would copy every gradient and synchronize needlessly.
        alone = axis_name is None or jax.lax.psum(1, axis_name) == 1
        return x if alone else jax.lax.psum(x, axis_name)

    def loss_of(params, batch_stats, batch, counts):
        """Compute one part's contribution to the global loss, with (losses, new statistics)."""
        variables = {"params": params, "batch_stats": batch_stats}
        images = normalize(batch.image, net.dtype)
        options = {"train": not frozen_norm, "heatmaps": heatmap_weight > 0}
        if frozen_norm:
            output = net.apply(variables, images, **options)
        else:
            output, updated = net.apply(variables, images, **options, mutable=["batch_stats"])
            batch_stats = updated["batch_stats"]
        distance = losses.coordinate_loss(output.keypoints, batch.keypoints)
        entropy = losses.probability_loss(output.presence_logits, batch.labeled)
        labeled, known = masks(batch)
        coordinate = losses.masked_mean(distance, labeled, count=counts[0])
        probability = losses.masked_mean(entropy, known, count=counts[1])
        context = heatmap = jnp.float32(0)
        if context_weight and output.context_keypoints is not None:
            distance = losses.coordinate_loss(output.context_keypoints, batch.keypoints)
            context = losses.masked_mean(distance, labeled, count=counts[0])
        if heatmap_weight:
            divergence = losses.heatmap_divergence(
                jnp.moveaxis(output.heatmaps[..., : net.num_joints], -1, -3),
                batch.keypoints,
                temperature=net.temperature,
                grid=net.grid,
            )
            heatmap = losses.masked_mean(divergence, labeled, count=counts[0])
        loss = (
            coordinate
            + probability_weight * probability
            + context_weight * context
            + heatmap_weight * heatmap
        )
        named = Losses(
            loss=loss,
            coordinate_loss=coordinate,
            probability_loss=probability,
            context_loss=context,
            heatmap_loss=heatmap,
        )
        return loss, (named, batch_stats)

    gradient_of = jax.grad(loss_of, has_aux=True)

    def share_gradients(params, batch_stats, batch, counts):
        """Compute gradients, losses and new statistics of a device's part of the batch."""
        if accumulation_steps == 1:
            gradients, (named, batch_stats) = gradient_of(params, batch_stats, batch, counts)
            return gradients, named, batch_stats

        def add_part(carry, part):
            gradients, named, batch_stats = carry
            more, (also, batch_stats) = gradient_of(params, batch_stats, part, counts)
            added = jax.tree.map(jnp.add, (gradients, named), (more, also))
            return (*added, batch_stats), None

        parts = jax.tree.map(lambda x: x.reshape(accumulation_steps, -1, *x.shape[1:]), batch)
        nothing = (
            jax.tree.map(jnp.zeros_like, params),
            Losses(*[jnp.float32(0)] * len(Losses._fields)),
        )
        return jax.lax.scan(add_part, (*nothing, batch_stats), parts)[0]

    def step(state: TrainState, batch: Batch) -> TrainState:
        counts = [losses.masked_count(mask, axis_name=axis_name) for mask in masks(batch)]
        gradients, named, batch_stats = share_gradients(
            state.params, state.batch_stats, batch, counts
        )
        gradients, named = total((gradients, named))
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        updates = jax.tree.map(lambda u: u * state.plateau.scale, updates)
        params = optax.apply_updates(state.params, updates)

        number = state.step + 1
        norm = optax.tree.norm(gradients)
        # Check an update as well: a learning rate of 1e30 would corrupt the parameters that are
        # saved next. One leaf is enough, since the rate multiplies all leaves; checking all of them
        # takes 1.7 s to compile.
        finite = jnp.isfinite(named.loss + norm + optax.tree.norm(jax.tree.leaves(updates)[0]))
        first_bad = jnp.where(finite, -1, number).astype(jnp.int32)
        ema = state.ema
        if ema is not None:
            # Use a smaller decay at the start, so that the average forgets the random
            # initialization.
            decay = jnp.minimum(ema_decay, number / (number + 10.0))
            current = {"params": params, "batch_stats": batch_stats}
            ema = optax.incremental_update(current, ema, 1 - decay)
        found = {"steps": 1.0, "gradient_norm": norm, **named._asdict()}
        return state._replace(
            step=number,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=ema,
            sums={name: state.sums[name] + found[name] for name in state.sums},
            bad_step=jnp.where(state.bad_step >= 0, state.bad_step, first_bad),
            unreadable=state.unreadable + total(jnp.sum(~batch.readable, dtype=jnp.int32)),
        )

    return step


def masks(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Return the masks [B, J] of eq. 7 (labeled) and eq. 8 (known); rows of padding are False."""
    present = batch.weight[:, None] > 0
    return batch.labeled & present, batch.known & present
