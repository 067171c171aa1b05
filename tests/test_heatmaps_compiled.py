"""What XLA makes of the soft-argmax: one exponential over all maps, no loop, no communication."""

import itertools
import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxpose.heatmaps import (
    aggregate_context,
    joint_logit,
    soft_argmax,
    soft_argmax_with_covariance,
)

SHAPE = (4, 6, 5, 8)  # batch, rows, columns, maps
COMMUNICATION = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|send|recv"


def compiled(function, shape=SHAPE, **options):
    maps = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.jit(function, **options).lower(maps).compile().as_text()


def operations(program, names):
    """Shapes of the results of these operations, wherever in the program they stand."""
    one, several = r"(\w+\[[\d,]*\])\S*", r"\(.*\)"
    found = re.finditer(rf"= (?:{one}|{several}) (?:{names})(?:-start)?\(", program)
    return [match[1] or "several" for match in found]


def cells(shape):
    """Numbers in an array of XLA's notation, such as f32[4,6,5,8]."""
    return math.prod(int(size) for size in re.fullmatch(r"f32\[(.*)\]", shape)[1].split(","))


def nestings(depth, read=soft_argmax):
    """vmap of vmap of ..., each batch axis at its front, in its middle or at its end."""
    one = read
    for places in itertools.product((0, 1, -1), repeat=depth):
        read = one
        for place in places:
            read = jax.vmap(read, in_axes=place)
        yield read


def reads_all_maps_at_once(program):
    (shape,) = operations(program, "exponential")
    assert cells(shape) == math.prod(SHAPE)
    assert not operations(program, "while|call|conditional")


@pytest.mark.parametrize("read", [read for depth in (0, 1, 2) for read in nestings(depth)])
def test_any_nesting_of_vmap_is_one_exponential_over_all_maps(read):
    reads_all_maps_at_once(compiled(read))


@pytest.mark.parametrize("function", [soft_argmax, soft_argmax_with_covariance])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_one_exponential_for_lines_and_volumes_with_and_without_covariance(function, ndim):
    read = partial(function, spatial_ndim=ndim)
    for nested in (read, *nestings(1, read), *nestings(4 - ndim, read)):
        reads_all_maps_at_once(compiled(nested))


@pytest.mark.parametrize(
    "read",
    [
        jax.vmap(jax.jit(jax.vmap(jax.jit(soft_argmax)))),
        jax.vmap(jax.vmap(partial(soft_argmax, temperature=0.5, grid="paper"))),
        jax.vmap(lambda maps: jax.vmap(soft_argmax)(2 * maps)),
    ],
    ids=["jit inside", "options", "other operations between"],
)
def test_what_stands_between_the_vmaps_changes_nothing(read):
    reads_all_maps_at_once(compiled(read))


@pytest.mark.parametrize("function", [soft_argmax, soft_argmax_with_covariance])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_pullback_needs_no_second_exponential(function, ndim):
    read = jax.vmap(partial(function, spatial_ndim=ndim), in_axes=-1)

    def pulled_back(maps):
        result, pull = jax.vjp(read, maps)
        return pull(jax.tree.map(jnp.ones_like, result))

    reads_all_maps_at_once(compiled(pulled_back))


def stage(maps):
    """Eqs. 1 to 6 on [B, H, W, 2 + 2 * 3]: two joints, three context maps each."""
    positions = jax.vmap(soft_argmax, in_axes=-1, out_axes=1)(maps)
    logits = jax.vmap(joint_logit, in_axes=-1, out_axes=1)(maps)
    context = positions[:, 2:].reshape(-1, 2, 3, 2)
    return aggregate_context(positions[:, :2], context, logits[:, 2:].reshape(-1, 2, 3))


@pytest.mark.parametrize(
    ("function", "spec", "expected"),
    [
        (jax.vmap(jax.vmap(soft_argmax, in_axes=-1)), P("d"), P("d")),
        (jax.vmap(jax.vmap(soft_argmax, in_axes=-1)), P(None, None, None, "d"), P(None, "d")),
        (stage, P("d"), P("d")),
    ],
    ids=["batch", "maps", "equations 1 to 6"],
)
@pytest.mark.parametrize("backward", [False, True])
def test_a_sharded_axis_needs_no_communication(function, spec, expected, backward):
    mesh = Mesh(np.array(jax.devices()[:4]), "d")

    def pulled_back(maps):
        result, pull = jax.vjp(function, maps)
        return pull(result)[0]

    program = jax.jit(pulled_back if backward else function, in_shardings=NamedSharding(mesh, spec))
    executable = program.lower(jax.ShapeDtypeStruct(SHAPE, jnp.float32)).compile()
    assert not operations(executable.as_text(), COMMUNICATION)
    wanted = NamedSharding(mesh, spec if backward else expected)
    assert executable.output_shardings.is_equivalent_to(wanted, 4 if backward else 3)


def test_the_words_looked_for_are_xlas():
    """A program that does communicate and loop, so that the tests above can fail."""
    mesh = Mesh(np.array(jax.devices()[:4]), "d")
    spread = compiled(lambda maps: maps.sum(0), in_shardings=NamedSharding(mesh, P("d")))
    assert operations(spread, COMMUNICATION)
    looped = compiled(lambda maps: jax.lax.map(soft_argmax, maps))
    assert operations(looped, "while")
    assert operations(looped, "exponential") != operations(compiled(soft_argmax), "exponential")
