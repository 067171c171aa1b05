"""Programs on several devices: what each is given, compiled once, with the compiler's options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose.runtime import devices as module
from jaxpose.runtime.devices import DEVICES, parallel, replicate, shard, unreplicate
from tests.support.some_devices import on_devices


def test_replicate_and_shard_follow_the_devices():
    with on_devices(2) as devices:
        tree = replicate({"x": np.arange(3.0)})
        np.testing.assert_array_equal(shard({"x": np.arange(4)})["x"], [[0, 1], [2, 3]])
    assert tree["x"].shape == (2, 3)
    assert {piece.device for piece in tree["x"].addressable_shards} == set(devices)
    np.testing.assert_array_equal(unreplicate(tree)["x"], np.arange(3.0))
    assert shard({"x": np.arange(8)})["x"].shape == (jax.local_device_count(), 2)


def test_parallel_compiles_once_for_each_shape_of_the_batch():
    traced = []

    def product(matrix, batch):
        traced.append(batch["x"].shape)
        return batch["x"] @ matrix

    with on_devices(1):
        program = parallel(product)
    matrix = np.random.default_rng(0).normal(size=(1, 64, 64)).astype(np.float32)
    for rows in (8, 4, 8, 4):
        batch = {"x": np.random.default_rng(rows).normal(size=(1, rows, 64)).astype(np.float32)}
        np.testing.assert_allclose(program(matrix, batch), batch["x"] @ matrix, atol=1e-4)
    assert traced == [(8, 64), (4, 64)]


def test_parallel_compiles_with_the_options(monkeypatch):
    monkeypatch.setattr(module, "compiler_options", lambda: {"xla_no_such_option": "1"})
    with pytest.raises((RuntimeError, ValueError), match="xla_no_such_option"), on_devices(1):
        parallel(lambda x: x)(jnp.zeros((1, 2)))


def test_parallel_names_the_axis():
    with on_devices(2):
        total = parallel(lambda x: jax.lax.psum(x, DEVICES))
    np.testing.assert_array_equal(total(jnp.array([1, 2])), [3, 3])
