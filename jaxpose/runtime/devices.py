"""Run a function on all local devices; the only module that uses ``jax.pmap``."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxpose.runtime.compilation import compiler_options

DEVICES = "devices"  # the pmap axis


def parallel(function: Callable, *, donate: bool = False) -> Callable:
    """Map a function of (state or variables, batch) over all devices.

    Arguments and results have a leading device axis; ``donate`` lets the result reuse the first
    argument's memory. This is the only use of ``jax.pmap``.
    """
    mapped = jax.pmap(function, axis_name=DEVICES, donate_argnums=(0,) if donate else ())
    options = compiler_options()
    # With several processes, pmap assembles their parts into global arrays; a compiled program does
    # not.
    return _Program(mapped, options) if options and jax.process_count() == 1 else mapped


class _Program:
    """A pmapped function compiled with options, once for each shape of the batch."""

    def __init__(self, mapped: Any, options: dict[str, str]):
        self.lower, self._options = mapped.lower, options
        self._compiled: dict[tuple, Callable] = {}

    def __call__(self, *arguments):
        shapes = tuple((x.shape, x.dtype) for x in jax.tree.leaves(arguments[-1]))
        if shapes not in self._compiled:
            lowered = self.lower(*arguments)
            self._compiled[shapes] = lowered.compile(compiler_options=self._options)
        return self._compiled[shapes](*arguments)


def replicate(tree: Any) -> Any:
    """Copy every leaf to each local device, along a new leading axis."""
    devices = jax.local_devices()
    sharding = NamedSharding(Mesh(devices, DEVICES), PartitionSpec(DEVICES))

    def copies(x):
        return jax.device_put(np.broadcast_to(x, (len(devices), *np.shape(x))), sharding)

    return jax.tree.map(copies, tree)


def unreplicate(tree: Any) -> Any:
    """Return the first device's copy of every leaf, on the host."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], tree)


def shard(batch: Any) -> Any:
    """Reshape a process's arrays [B, ...] to [devices, B / devices, ...] (views, no copy)."""
    count = jax.local_device_count()
    return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)
