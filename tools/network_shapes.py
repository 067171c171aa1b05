"""Shapes of a network's parameters and of what its modules return, read off the network itself."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from jaxpose.network import PoseNet


class Shapes(NamedTuple):
    """Shapes by path, such as "stem/conv1/kernel".

    Attributes:
      parameters: of every parameter.
      outputs: [H, W, C] of what each module returns or sows for one image; of the first result if
        a module returns several.
    """

    parameters: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]


@functools.cache
def shapes(net: PoseNet, size: int = 256) -> Shapes:
    """Return the shapes of a network for images of ``size`` x ``size`` pixels."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(net.init, jax.random.key(0), images)
    forward = functools.partial(net.apply, capture_intermediates=True, mutable="intermediates")
    _, found = jax.eval_shape(forward, variables, images)
    parameters = flatten_dict(variables["params"], sep="/")
    outputs = flatten_dict(found["intermediates"], sep="/")
    return Shapes(
        {path: x.shape for path, x in parameters.items()},
        {
            path.removesuffix("/__call__"): jax.tree.leaves(returned)[0].shape[1:]
            for path, returned in outputs.items()
        },
    )
