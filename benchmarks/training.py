"""A small preset's training step with and without compiler options and gradient accumulation.

    python -m benchmarks.training [--width 288] [--batch_size 16] [--image_size 128] [--json]

The step is the one that `launch.py --config=configs/clean.py:small` compiles for one device (K = 2,
Adam, EMA, float32, the config's losses), but with a constant learning rate and on random images.
"whole" is one pass over the batch. "in N parts" is the same batch with `accumulation_steps=N`.
"plain jit" is a step that `jax.jit` compiles without `compiler_options()`; before anything is
timed, the losses of two of its steps are compared with those of "whole". The steps in parts compute
other losses, since batch norm sees one part at a time.
"""

import argparse

import jax

import tools
from benchmarks import contest
from benchmarks.network import batch_of, step_call, tolerances_of
from configs import clean
from jaxpose.data.batches import Batch
from jaxpose.network import initial_variables, make_net
from jaxpose.runtime.compilation import compiler_options
from jaxpose.runtime.host_memory import keep_freed_memory
from jaxpose.training.optimizer import make_optimizer
from jaxpose.training.step import create_train_state, make_train_step


def main() -> None:
    """Run the command."""
    options = parse()
    keep_freed_memory()  # before JAX starts its threads
    contest.use_threads()
    batch = batch_of(options.batch_size, options.image_size)
    calls = {
        "whole": stepper(options, batch, 1, compiler_options()),
        "whole, plain jit": stepper(options, batch, 1, None),
    }
    contest.compare_calls("step", calls, tolerances=tolerances_of("step", "float32"))
    for parts in options.parts:
        calls[f"in {parts} parts"] = stepper(options, batch, parts, compiler_options())
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


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = contest.parser("training", __doc__)
    parser.add_argument(
        "--width",
        type=tools.count,
        default=288,
        help="channels of the features, a multiple of 18 (default: %(default)s)",
    )
    parser.add_argument(
        "--batch_size", type=tools.count, default=16, help="images per step (default: %(default)s)"
    )
    parser.add_argument(
        "--image_size",
        type=tools.count,
        default=128,
        help="side of the images in pixels, a multiple of 32 (default: %(default)s)",
    )
    parser.add_argument(
        "--parts",
        type=tools.count,
        nargs="*",
        default=[2, 4],
        help="values of accumulation_steps to measure (default: 2 4)",
    )
    parser.add_argument(
        "--rounds",
        type=tools.count,
        default=contest.ROUNDS,
        help="number of rounds, of which the median is shown (default: %(default)s)",
    )
    options = parser.parse_args()
    for parts in options.parts:
        if options.batch_size % parts:
            parser.error(
                f"a batch of {options.batch_size} cannot be split into {parts} equal parts; choose "
                "other --parts"
            )
    return options


def stepper(
    options: argparse.Namespace, batch: Batch, parts: int, compiling: dict | None
) -> contest.Call:
    """Make the call of the config's step, which trains on and returns the loss."""
    config = clean.get_config("small")
    config.network.width = options.width
    net = make_net({"num_joints": len(config.joints), **config.network})
    # Without the schedule: its first step, of the warm-up, would change nothing.
    transform = make_optimizer(
        config.optimizer.name,
        lambda step: config.optimizer.learning_rate,
        clip_norm=config.optimizer.clip_norm,
    )
    step = make_train_step(
        net,
        transform,
        probability_weight=config.probability_weight,
        context_weight=config.context_weight,
        heatmap_weight=config.heatmap_weight,
        ema_decay=config.ema,
        accumulation_steps=parts,
        axis_name=None,
    )
    state = jax.device_put(create_train_state(initial_variables(net, 0), transform, ema=True))
    jitted = jax.jit(step, donate_argnums=0, compiler_options=compiling)
    return step_call(jitted.lower(state, batch).compile(), state, batch)


if __name__ == "__main__":
    tools.run(main)
