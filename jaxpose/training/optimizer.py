"""RMSProp with a learning rate that is reduced when validation stops improving (section 4.1)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxpose.errors import JaxposeError

MUON_UPDATE = 0.2  # RMS of Muon's updates before the learning rate, about that of Adam's
SMALLEST_DELTA = 1e-12  # Optax rejects rtol = atol = 0


def make_schedule(
    name: str, learning_rate: float, *, num_steps: int, warmup_steps: int = 0
) -> optax.Schedule:
    """Make a learning-rate schedule: "constant", or "cosine", which reaches 0 at ``num_steps``.

    Both rise linearly from 0 over ``warmup_steps``. Training multiplies the learning rate by the
    scale of the plateau rule (``make_plateau``).
    """
    if name == "constant":
        main = optax.constant_schedule(learning_rate)
    elif name == "cosine":
        main = optax.cosine_decay_schedule(learning_rate, max(num_steps - warmup_steps, 1))
    else:
        raise JaxposeError(
            f"unknown learning-rate schedule {name!r}; choose 'constant' or 'cosine'"
        )
    if not warmup_steps:
        return main
    rise = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([rise, main], [warmup_steps])


def make_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """Make the optimizer.

    "rmsprop" follows Keras 2: rho 0.9, epsilon 1e-7 outside the root, accumulator initialized to 0.

    Args:
      name: "rmsprop" (the paper's), "adam" (AdamW if ``weight_decay`` is not 0), "muon"
        (``scale_by_muon_or_adam``) or "sgd".
      schedule: learning rate as a function of the step.
      weight_decay: decoupled weight decay, of kernels only (not of batch norm's shifts).
      clip_norm: maximum global norm of the gradient; 0 disables clipping.
    """
    if name == "rmsprop":
        scale = optax.scale_by_rms(decay=0.9, eps=1e-7, eps_in_sqrt=False, initial_scale=0.0)
    elif name == "adam":
        scale = optax.scale_by_adam()
    elif name == "muon":
        scale = scale_by_muon_or_adam()
    elif name == "sgd":
        scale = optax.identity()
    else:
        raise JaxposeError(f"unknown optimizer {name!r}; choose 'rmsprop', 'adam', 'muon' or 'sgd'")
    parts = [scale, optax.scale_by_learning_rate(schedule)]
    if weight_decay:
        kernels = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)  # noqa: E731
        parts.insert(1, optax.add_decayed_weights(weight_decay, mask=kernels))
    if clip_norm:
        parts.insert(0, optax.clip_by_global_norm(clip_norm))
    return optax.chain(*parts)


def scale_by_muon_or_adam() -> optax.GradientTransformation:
    """Scale by Muon (Jordan et al., 2024) for full and 1x1 convolutions, by Adam for the rest.

    Muon's update is the momentum of a kernel, as a matrix [window * C_in, C_out], with all singular
    values made about equal. It is scaled to a root mean square of 0.2, so that a learning rate for
    Adam suits both. Adam scales the depthwise kernels, the kernels of the image and of the heat
    maps, and the shifts of batch norm.
    """

    def optimizer_of(path, x):
        # The names are those of ``jaxpose.network``.
        matrix = path[-1].key == "pointwise" or (path[-1].key == "kernel" and x.shape[-2] > 3)
        return "muon" if matrix else "adam"

    def axes_of(params):
        last = lambda x: x.ndim - 1  # noqa: E731
        return jax.tree.map(
            lambda x: optax.contrib.MuonDimensionNumbers(tuple(range(last(x))), last(x)), params
        )

    def fixed_size(updates, params=None):
        size = lambda x: jnp.sqrt(jnp.mean(jnp.square(x)))  # noqa: E731
        tiny = jnp.finfo(jnp.float32).tiny  # a gradient of 0 gives an update of 0
        return jax.tree.map(lambda x: MUON_UPDATE * x / jnp.maximum(size(x), tiny), updates)

    return optax.partition(
        {
            "muon": optax.chain(
                optax.contrib.scale_by_muon(weight_dimension_numbers=axes_of),
                optax.stateless(fixed_size),
            ),
            "adam": optax.scale_by_adam(),
        },
        lambda params: jax.tree_util.tree_map_with_path(optimizer_of, params),
    )


def make_plateau(
    *, factor: float, patience: int, min_delta: float, min_scale: float
) -> Callable[[optax.OptState, float], optax.OptState]:
    """Make Keras's ReduceLROnPlateau(mode="max", cooldown=0) as a function.

    A metric counts as an improvement if it exceeds the best one by more than ``min_delta``; after
    ``patience`` validations in a row without improvement, the scale is multiplied by ``factor``,
    down to ``min_scale``. NaN does not count as an improvement.

    Returns:
      ``update(state, metric)``: call it once after each validation, first with
      ``initial_plateau()``; it returns the next state, whose ``scale`` multiplies every update of
      the parameters.
    """
    if patience < 1:
        raise JaxposeError(f"plateau.patience is {patience}; it must be 1 or more")
    if not 0.0 < factor < 1.0:
        raise JaxposeError(f"plateau.factor is {factor}; it must be above 0 and below 1")
    # Optax minimizes; with negated metrics a relative tolerance would have the wrong sign.
    transform = optax.contrib.reduce_on_plateau(
        factor=factor,
        patience=patience,
        rtol=0.0,
        atol=max(min_delta, SMALLEST_DELTA),
        min_scale=min_scale,
    )

    def update(state: optax.OptState, metric: float) -> optax.OptState:
        return transform.update(jnp.zeros(()), state, value=-jnp.float32(metric))[1]

    return update


def initial_plateau() -> optax.OptState:
    """Return Optax's plateau state before the first metric (scale 1), valid for any settings."""
    return optax.contrib.reduce_on_plateau().init(jnp.zeros(()))
