"""A small preset's training step with and without compiler options and gradient accumulation.

    python -m benchmarks.training [--width 288] [--batch_size 16] [--image_size 128] [--json]

The step is the one that `launch.py --config=configs/clean.py:small` compiles (K = 2, Adam, EMA,
float32), on random images. "whole" is one pass over the batch. "in N parts" is the same batch with
`accumulation_steps=N`. "plain jit" is a step that `jax.jit` compiles without `compiler_options()`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import contest
from jaxpose.data.batches import Batch
from jaxpose.network import PoseNet, initial_variables
from jaxpose.runtime.compilation import compiler_options
from jaxpose.runtime.host_memory import keep_freed_memory
from jaxpose.training import optimizer
from jaxpose.training.step import create_train_state, make_train_step

JOINTS = 16


def main() -> None:
    """Run the command."""
    options = parse()
    keep_freed_memory()
    contest.use_threads()
    batch = random_batch(options.batch_size, options.image_size)
    contestants = {"whole": (1, compiler_options()), "whole, plain jit": (1, None)}
    contestants |= {f"in {parts} parts": (parts, compiler_options()) for parts in options.parts}
    calls = {}
    for name, (parts, compiling) in contestants.items():
        calls[name] = (stepper(options, batch, parts, compiling), (), jax.block_until_ready)
    times = contest.medians(calls, rounds=options.rounds)
    rows = [
        {
            "step": name,
            "ms": time,
            "time / whole": time / times["whole"],
            "images/s": 1e3 * options.batch_size / time,
        }
        for name, time in times.items()
    ]
    report = {
        **contest.machine(),
        "width": options.width,
        "batch": options.batch_size,
        "image": options.image_size,
    }
    contest.show(report, rows, as_json=options.json)


def parse() -> Any:
    """Parse the command line."""
    parser = contest.parser("training", __doc__)
    parser.add_argument(
        "--width",
        type=int,
        default=288,
        help="channels of the features, a multiple of 18 (default: %(default)s)",
    )
    parser.add_argument(
        "--batch_size", type=int, default=16, help="images per step (default: %(default)s)"
    )
    parser.add_argument(
        "--image_size",
        type=int,
        default=128,
        help="side of the images in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--parts",
        type=int,
        nargs="*",
        default=[2, 4],
        help="values of accumulation_steps to measure (default: 2 4)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=contest.ROUNDS,
        help="number of rounds, of which the median is shown (default: %(default)s)",
    )
    return parser.parse_args()


def random_batch(size: int, side: int) -> Batch:
    """Make a batch of random images and keypoints."""
    rng = np.random.default_rng(0)
    return Batch(
        image=rng.integers(0, 256, (size, side, side, 3), np.uint8),
        keypoints=rng.uniform(0, 1, (size, JOINTS, 2)).astype(np.float32),
        labeled=rng.random((size, JOINTS)) < 0.8,
        known=np.ones((size, JOINTS), bool),
        weight=np.ones(size, np.float32),
        readable=np.ones(size, bool),
    )


def stepper(options: Any, batch: Batch, parts: int, compiling: dict | None) -> Any:
    """Return a function without arguments that runs the next training step and returns its loss."""
    net = PoseNet(num_joints=JOINTS, num_blocks=2, width=options.width)
    adam = optimizer.make_optimizer("adam", lambda step: 1e-3, clip_norm=1.0)
    state = create_train_state(initial_variables(net, 0), adam, ema=True)
    step = make_train_step(
        net,
        adam,
        probability_weight=0.01,
        ema_decay=0.999,
        accumulation_steps=parts,
        axis_name=None,
    )
    jitted = jax.jit(step, donate_argnums=0)
    compiled = jitted.lower(state, batch).compile(compiler_options=compiling)
    held = [jax.device_put(state)]
    batch = jax.device_put(batch)

    def advance():
        held[0] = compiled(held[0], batch)
        return jnp.copy(held[0].sums["loss"])  # the state itself is donated to the next call

    return advance


if __name__ == "__main__":
    main()
