"""Soft-argmax with probability: jaxpose against plain JAX, kornia and dsntnn.

    python -m benchmarks.soft_argmax [--json]

Maps of the paper's network at batch 16: 16 persons, 32 x 32 cells, 16 part maps and 32 context
maps. Every contestant reads them in its own layout, returns positions and probabilities, and for
the second column the gradient of the maps too. "copy" writes the maps once: the least that a
gradient can cost. Positions, probabilities and gradients are compared with NumPy in float64 before
anything is timed; then the contestants take turns, and the table has medians.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import contest
from jaxpose import joint_probability, soft_argmax

PERSONS, CELLS, MAPS = 16, 32, 48
ROUNDS = 21
TOLERANCE = 2e-6


class Contestant(NamedTuple):
    """One way to read positions and probabilities, and how to judge and time it.

    Fields:
      forward: maps -> (positions [B, M, 2], probabilities [B, M]).
      both: maps -> (positions, probabilities, gradient of the maps).
      maps: in the contestant's layout, on its device.
      channels_last: [B, H, W, M], else [B, M, H, W].
      grid: positions of the cells of one row, in the contestant's own unit.
      wait: blocks until a result is there.
    """

    forward: Callable
    both: Callable
    maps: Any
    channels_last: bool
    grid: np.ndarray
    wait: Callable


HALF_PIXEL = (np.arange(CELLS) + 0.5) / CELLS


def main() -> None:
    """Runs the command."""
    options = contest.parser("soft_argmax", __doc__).parse_args()
    contest.use_threads()
    maps = np.random.default_rng(0).normal(0, 3, (PERSONS, CELLS, CELLS, MAPS)).astype(np.float32)
    contestants, missing = jax_contestants(maps), []
    for library, make in (("kornia", kornia_contestant), ("dsntnn", dsntnn_contestant)):
        absent = contest.absent("torch", library)
        if absent:
            missing.append(contest.missing(library, absent))
        else:
            contestants[library] = make(maps)
    for name, contestant in contestants.items():
        check(name, contestant, maps)
    report = {
        **contest.machine(),
        "maps": [PERSONS, CELLS, CELLS, MAPS],
        "milliseconds": times(contestants, maps),
        "missing": missing,
    }
    print(json.dumps(report, indent=2) if options.json else as_text(report))


def cotangents() -> tuple[np.ndarray, np.ndarray]:
    """What a loss would send back to positions and probabilities; the same for everyone."""
    rng = np.random.default_rng(1)
    return (
        rng.normal(size=(PERSONS, MAPS, 2)).astype(np.float32),
        rng.normal(size=(PERSONS, MAPS)).astype(np.float32),
    )


def jax_contestants(maps: np.ndarray) -> dict[str, Contestant]:
    """jaxpose and plain JAX, both in both layouts."""

    def ours(maps):
        return soft_argmax(maps), joint_probability(maps)

    def plain(maps, letters):
        axes = [letters.index(letter) for letter in "hw"]
        probability = jax.nn.softmax(maps, axis=axes)
        positions = [
            jnp.einsum(f"{letters},{letter}->bm", probability, HALF_PIXEL.astype(np.float32))
            for letter in "wh"
        ]
        return jnp.stack(positions, axis=-1), jax.nn.sigmoid(jnp.max(maps, axis=axes))

    found = {}
    for layout, letters, channels_last in (
        ("[B, H, W, M]", "bhwm", True),
        ("[B, M, H, W]", "bmhw", False),
    ):
        read = jax.vmap(jax.vmap(ours), in_axes=-1, out_axes=1) if channels_last else ours
        placed = jnp.asarray(maps if channels_last else np.moveaxis(maps, -1, 1))
        for name, function in (
            ("jaxpose", read),
            ("jax.nn.softmax, einsum", lambda maps, letters=letters: plain(maps, letters)),
        ):
            found[f"{name} {layout}"] = Contestant(
                forward=jax.jit(function),
                both=jax.jit(with_gradient(function)),
                maps=placed,
                channels_last=channels_last,
                grid=HALF_PIXEL,
                wait=jax.block_until_ready,
            )
    return found


def with_gradient(function: Callable) -> Callable:
    """The function that returns what `function` does, and the maps' gradient."""
    back = cotangents()

    def both(maps):
        found, pull = jax.vjp(function, maps)
        return *found, *pull(back)

    return both


def kornia_contestant(maps: np.ndarray) -> Contestant:
    """kornia's spatial_soft_argmax2d: from -1 to 1, first and last cell on the edges."""
    from kornia.geometry.subpix import spatial_soft_argmax2d

    return torch_contestant(maps, spatial_soft_argmax2d, np.linspace(-1, 1, CELLS))


def dsntnn_contestant(maps: np.ndarray) -> Contestant:
    """dsntnn's softmax and expectation: from -1 to 1, the cells' centers."""
    import dsntnn

    def read(maps):
        return dsntnn.dsnt(dsntnn.flat_softmax(maps))

    return torch_contestant(maps, read, 2 * HALF_PIXEL - 1)


def torch_contestant(maps: np.ndarray, read: Callable, grid: np.ndarray) -> Contestant:
    """A reader of [B, M, H, W] in PyTorch, on the device that JAX uses."""
    import torch

    device = contest.torch_device()
    placed = torch.from_numpy(np.moveaxis(maps, -1, 1).copy()).to(device)
    back = [torch.from_numpy(each).to(device) for each in cotangents()]

    def function(maps):
        return read(maps), torch.sigmoid(maps.amax(dim=(2, 3)))

    def forward(maps):
        with torch.no_grad():
            return function(maps)

    def both(maps):
        maps = maps.detach().requires_grad_()
        found = function(maps)
        return *found, *torch.autograd.grad(found, [maps], back)

    return Contestant(
        forward, both, placed, channels_last=False, grid=grid, wait=contest.torch_wait
    )


def check(name: str, contestant: Contestant, maps: np.ndarray) -> None:
    """Compares positions, probabilities and gradients with NumPy's in float64."""
    expected = reference(maps, contestant.grid)
    for outputs in (contestant.forward(contestant.maps), contestant.both(contestant.maps)):
        found = [np.asarray(each.detach().cpu() if hasattr(each, "detach") else each)
                 for each in outputs]  # fmt: skip
        if len(found) == 3 and not contestant.channels_last:
            found[2] = np.moveaxis(found[2], 1, -1)
        names = ("positions", "probabilities", "gradient")
        for what, ours, theirs in zip(names, found, expected, strict=False):
            error = np.abs(ours - theirs).max()
            if not error < TOLERANCE:
                raise SystemExit(f"error: {name}: {what} differ from NumPy's by {error:.1e}")


def reference(maps: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, probabilities and gradient of maps [B, H, W, M], in float64."""
    maps = maps.astype(np.float64)
    peak = maps.max((1, 2), keepdims=True)
    p = np.exp(maps - peak)
    p /= p.sum((1, 2), keepdims=True)
    x, y = np.einsum("bhwm,w->bm", p, grid), np.einsum("bhwm,h->bm", p, grid)
    of_position, of_probability = cotangents()
    away = of_position[:, None, None, :, 0] * (grid[:, None] - x[:, None, None])
    away = away + of_position[:, None, None, :, 1] * (grid[:, None, None] - y[:, None, None])
    probability = 1 / (1 + np.exp(-peak[:, 0, 0]))
    slope = (of_probability * probability * (1 - probability))[:, None, None]
    return np.stack([x, y], -1), probability, p * away + (maps == peak) * slope


def times(contestants: dict[str, Contestant], maps: np.ndarray) -> dict[str, dict[str, float]]:
    """Median milliseconds of a call, by contestant; all of them have their turn in every round."""
    calls = {("copy", "forward"): (jax.jit(jnp.copy), (jnp.asarray(maps),), jax.block_until_ready)}
    for name, contestant in contestants.items():
        for column in ("forward", "both"):
            function = getattr(contestant, column)
            calls[name, column] = function, (contestant.maps,), contestant.wait
    table = {}
    for (name, column), time in contest.medians(calls, rounds=ROUNDS).items():
        table.setdefault(name, {})[column] = round(time, 3)
    return table


def as_text(report: dict) -> str:
    """The table, with ratios to the copy."""
    rows = report["milliseconds"]
    copy = rows["copy"]["forward"]
    lines = [
        f"Soft-argmax with probability, maps {report['maps']} float32, {report['device']},"
        f" {report['threads']} threads",
        f"{'':38s}{'forward':>12s}{'and backward':>15s}{'forward / copy':>17s}",
    ]
    for name, row in rows.items():
        both = f"{row['both']:12.3f} ms" if "both" in row else " " * 15
        ratio = row["forward"] / copy
        lines.append(f"{name:38s}{row['forward']:9.3f} ms{both}{ratio:17.2f}")
    lines += [f"missing: {each}" for each in report["missing"]]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
