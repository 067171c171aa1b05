"""Soft-argmax of maps and volumes: jaxpose, with and without covariance, plain JAX, kornia, dsntnn.

    python -m benchmarks.soft_argmax [--rounds 100] [--cpu_time] [--json]

The inputs are maps of the paper's network at batch 16 (48 maps of 32 x 32 cells per person) and the
volumes of its authors' later work at batch 4 (16 volumes of 16 x 32 x 32 cells per person). Every
contestant reads them in its own layout; "both" is forward and the gradient of the maps. Positions,
covariances and gradients are compared with NumPy's in float64 before anything is timed. Then all
contestants take turns in many short rounds. A row has the time of the best round and its ratio to
jaxpose's best round. Other programs on the machine hardly affect this ratio. The median ratio is
the median of the ratios to jaxpose that are computed for each round.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import tools
from benchmarks import contest
from jaxpose import soft_argmax, soft_argmax_with_covariance

SHAPES = {2: (16, 48, 32, 32), 3: (4, 16, 16, 32, 32)}  # persons, maps of each, cells
ROUNDS = 100
SAMPLE = 0.002  # seconds
TOLERANCE = 2e-6
OURS = "jaxpose"
LIBRARIES = {2: ("kornia", "dsntnn"), 3: ("dsntnn",)}


class Contestant(NamedTuple):
    """One implementation of the soft-argmax, and how to check it.

    Fields:
      forward: maps -> positions [B, M, N], or positions and covariances.
      both: maps -> the results of ``forward``, and the gradient of the maps.
      maps: in the contestant's layout, on its device.
      grids: positions of the cells along x, y and so on, in the contestant's own unit.
      wait: blocks until a result is ready.
    """

    forward: Callable
    both: Callable
    maps: Any
    grids: list[np.ndarray]
    wait: Callable


def main() -> None:
    """Run the command."""
    parser = contest.parser("soft_argmax", __doc__)
    parser.add_argument(
        "--rounds", type=tools.count, default=ROUNDS, help="number of rounds (default: %(default)s)"
    )
    parser.add_argument(
        "--cpu_time",
        action="store_true",
        help="measure the CPU time of all threads, which other programs disturb less",
    )
    options = parser.parse_args()
    contest.use_threads()
    rows, missing = [], []
    for ndim, shape in SHAPES.items():
        maps = np.random.default_rng(0).normal(0, 3, shape).astype(np.float32)
        contestants = jax_contestants(maps, ndim)
        for library in LIBRARIES[ndim]:
            absent = contest.absent("torch", library)
            if absent:
                missing.append(contest.missing(library, absent))
            else:
                contestants[library] = torch_contestant(library, maps)
        for name, contestant in contestants.items():
            check(name, contestant, maps)
        rows += times(f"{ndim}-D", contestants, options.rounds, cpu_time=options.cpu_time)
    clock = "CPU" if options.cpu_time else "elapsed"
    report = {**contest.machine(), "time": clock, "missing": list(dict.fromkeys(missing))}
    contest.show(report, rows, as_json=options.json)


def cells(size: int) -> np.ndarray:
    """Return the positions of the cells of an axis: their centers, from 0 to 1."""
    return (np.arange(size) + 0.5) / size


def cotangent(shape: tuple[int, ...]) -> np.ndarray:
    """Return the cotangent of the positions, the same for all contestants."""
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def jax_contestants(maps: np.ndarray, ndim: int) -> dict[str, Contestant]:
    """Return jaxpose, plain JAX, and jaxpose with the maps last, the layout of convolutions."""
    grids = [cells(size) for size in maps.shape[:1:-1]]

    def plain(maps):
        axes = tuple(range(-ndim, 0))
        probability = jax.nn.softmax(maps, axis=axes)
        letters = "zyx"[-ndim:]
        return jnp.stack(
            [
                jnp.einsum(f"...{letters},{letter}->...", probability, grid.astype(np.float32))
                for letter, grid in zip(letters[::-1], grids, strict=True)
            ],
            axis=-1,
        )

    ours = partial(soft_argmax, spatial_ndim=ndim)
    covariance = partial(soft_argmax_with_covariance, spatial_ndim=ndim)
    first, last = jnp.asarray(maps), jnp.asarray(np.moveaxis(maps, 1, -1))
    functions = {
        OURS: (ours, first),
        "jaxpose with covariance": (covariance, first),
        "jaxpose, maps last": (jax.vmap(ours, in_axes=-1, out_axes=1), last),
        "jaxpose with covariance, maps last": (
            jax.vmap(covariance, in_axes=-1, out_axes=1), last
        ),
        "jax.nn.softmax, einsum": (plain, first),
    }  # fmt: skip
    return {
        name: Contestant(
            jax.jit(function),
            jax.jit(with_gradient(function)),
            placed,
            grids,
            jax.block_until_ready,
        )  # fmt: skip
        for name, (function, placed) in functions.items()
    }


def with_gradient(function: Callable) -> Callable:
    """Return a function that returns the result of `function` and the gradient of the maps."""

    def both(maps):
        found, pull = jax.vjp(function, maps)
        back = jax.tree.map(lambda leaf: jnp.asarray(cotangent(leaf.shape)), found)
        return found, *pull(back)

    return both


def torch_contestant(library: str, maps: np.ndarray) -> Contestant:
    """Make a PyTorch library's soft-argmax, on JAX's device. Both libraries use [-1, 1].

    The centers of kornia's first and last cells are at -1 and 1. dsntnn's cells are where ours are.
    """
    import torch

    if library == "kornia":
        from kornia.geometry.subpix import spatial_soft_argmax2d as read

        grids = [np.linspace(-1, 1, size) for size in maps.shape[:1:-1]]
    else:
        import dsntnn

        def read(maps):
            return dsntnn.dsnt(dsntnn.flat_softmax(maps))

        grids = [2 * cells(size) - 1 for size in maps.shape[:1:-1]]

    device = contest.torch_device()
    placed = torch.from_numpy(maps).to(device)
    back = torch.from_numpy(cotangent((*maps.shape[:2], len(grids)))).to(device)

    def forward(maps):
        with torch.no_grad():
            return read(maps)

    def both(maps):
        maps = maps.detach().requires_grad_()
        found = read(maps)
        return found, *torch.autograd.grad([found], [maps], [back])

    return Contestant(forward, both, placed, grids, contest.torch_wait)


def check(name: str, contestant: Contestant, maps: np.ndarray) -> None:
    """Compare positions, covariances and the gradient with NumPy's in float64."""
    results, gradient = contestant.both(contestant.maps)
    if gradient.shape != maps.shape:
        gradient = jnp.moveaxis(gradient, -1, 1)
    found = [*jax.tree.leaves(results), gradient]
    expected = reference(maps, contestant.grids, covariance=len(found) == 3)
    contest.compare(name, found, expected, tolerance=TOLERANCE)
    contest.compare(
        name, jax.tree.leaves(contestant.forward(contestant.maps)), expected[:-1],
        tolerance=TOLERANCE,
    )  # fmt: skip


def reference(maps: np.ndarray, grids: list[np.ndarray], *, covariance: bool) -> list[np.ndarray]:
    """Return positions, covariances if `covariance`, and the gradient of the maps, in float64."""
    axes = tuple(range(2, maps.ndim))
    p = np.exp(maps.astype(np.float64) - maps.max(axes, keepdims=True))
    p /= p.sum(axes, keepdims=True)
    fields = np.meshgrid(*grids[::-1], indexing="ij")[::-1]
    position = np.stack([(p * field).sum(axes) for field in fields], -1)
    apart = [field - np.expand_dims(position[..., k], axes) for k, field in enumerate(fields)]
    back = cotangent(position.shape)
    pull = sum(np.expand_dims(back[..., k], axes) * x for k, x in enumerate(apart))
    if not covariance:
        return [position, p * pull]
    square = np.stack([np.stack([(p * a * b).sum(axes) for b in apart], -1) for a in apart], -2)
    back = cotangent(square.shape)
    for i, a in enumerate(apart):
        for j, b in enumerate(apart):
            away = a * b - np.expand_dims(square[..., i, j], axes)
            pull = pull + np.expand_dims(back[..., i, j], axes) * away
    return [position, square, p * pull]


def times(
    maps: str, contestants: dict[str, Contestant], rounds: int, *, cpu_time: bool
) -> list[dict[str, Any]]:
    """Return a row for each contestant: its best round, and its ratios to jaxpose."""
    calls = {
        (name, column): (getattr(contestant, column), (contestant.maps,), contestant.wait)
        for name, contestant in contestants.items()
        for column in ("forward", "both")
    }
    found = contest.samples(calls, rounds=rounds, sample=SAMPLE, cpu_time=cpu_time)
    rows = []
    for name in contestants:
        row = {"maps": maps, "contestant": name}
        for column in ("forward", "both"):
            theirs, ours = found[name, column], found[OURS, column]
            row[f"{column}, ms"] = min(theirs)
            row[f"{column} / {OURS}"] = min(theirs) / min(ours)
            ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
            row[f"{column}, median ratio"] = statistics.median(ratios)
        rows.append(row)
    return rows


if __name__ == "__main__":
    tools.run(main)
