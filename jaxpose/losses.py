"""Thin first version (the lead's); the owner of this module replaces it."""

import jax
import jax.numpy as jnp


def coordinate_loss(prediction, target):
    """Eq. 7 unreduced: [..., J, 2] -> [..., J], |d|_1 + |d|_2^2."""
    d = prediction - target
    return jnp.sum(jnp.abs(d) + d * d, axis=-1)


def probability_loss(logit, labelled):
    """Eq. 8 unreduced: binary cross entropy of logits."""
    y = labelled.astype(logit.dtype)
    return jnp.maximum(logit, 0) - logit * y + jnp.log1p(jnp.exp(-jnp.abs(logit)))
