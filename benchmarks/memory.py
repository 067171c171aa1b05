"""Memory, file handles and threads over many steps; memory of a step with gradient accumulation.

    python -m benchmarks.memory steps --data_dir DIR [--steps 1000]
    python -m benchmarks.memory parts

`steps` trains the demo's small preset. Every hundred steps, it prints the resident memory, file
handles and threads of the process. They must level off, and no thread may be left at the end.
`parts` compiles the training step of the paper's network for a batch of 16, without gradient
accumulation and with it (4 parts of 4 images), and prints the memory that XLA reserves for each. It
runs no step.
"""

import math
import os
import pathlib
import tempfile
import threading
import time

import tools
from benchmarks import contest
from benchmarks.network import batch_of, step_program
from configs import synthetic
from jaxpose.data.prepared import open_split
from jaxpose.data.sampling import steps_per_epoch
from jaxpose.network import PoseNet, initial_variables
from jaxpose.runtime.compilation import compiler_options
from jaxpose.runtime.host_memory import keep_freed_memory
from jaxpose.training import loop
from jaxpose.training.metric_log import read_records

BATCH, SIZE = 16, 256  # the paper's


def main() -> None:
    """Run the command."""
    parser = contest.parser("memory", __doc__, with_json=False)
    parser.add_argument(
        "what",
        choices=["steps", "parts"],
        help="steps: memory, file handles and threads of a training run; parts: memory of one "
        "training step with and without gradient accumulation",
    )
    parser.add_argument(
        "--data_dir", help="for steps: folder in which synthetic_people/demo is prepared"
    )
    parser.add_argument(
        "--steps",
        type=tools.count,
        default=1000,
        help="for steps: training steps, rounded up to whole epochs (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        help="for steps: number of worker processes that make batches; 0 for threads "
        "(default: %(default)s)",
    )
    options = parser.parse_args()
    if options.what == "parts":
        parts()
    elif options.data_dir:
        with tempfile.TemporaryDirectory() as workdir:
            steps(pathlib.Path(workdir), options.data_dir, options.steps, options.workers)
    else:
        parser.error("steps needs --data_dir")


def usage() -> tuple[float, int, int]:
    """Return resident MB, open file handles and threads of this process (Linux only)."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return megabytes, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def steps(workdir: pathlib.Path, data_dir: str, count: int, workers: int) -> None:
    """Train for at least ``count`` steps; print memory, file handles and threads."""
    keep_freed_memory()
    config = synthetic.get_config("small")
    config.data_dir, config.workers = data_dir, workers
    ((name, weight),) = config.data
    epoch = steps_per_epoch(
        [(open_split(name, "train", data_dir=data_dir), weight)], config.batch_size
    )
    config.num_epochs = math.ceil(count / epoch)
    before = set(threading.enumerate())
    ended = threading.Event()
    watch = threading.Thread(target=watch_steps, args=(workdir / "metrics.jsonl", ended))
    watch.start()
    try:
        loop.train(config, workdir)
    finally:
        ended.set()
        watch.join()
    left = [thread.name for thread in set(threading.enumerate()) - before]
    print(f"Python threads left at the end: {', '.join(left) or 'none'}")


def watch_steps(metrics: pathlib.Path, ended: threading.Event) -> None:
    """Print memory, file handles and threads whenever a new step is logged."""
    print(f"{'step':>6}  {'resident MB':>11}  {'handles':>7}  {'threads':>7}", flush=True)
    last = 0
    while not ended.is_set():
        time.sleep(0.1)
        step = max((record["step"] for record in read_records(metrics)), default=0)
        if step > last:
            last = step
            megabytes, handles, threads = usage()
            print(f"{step:>6}  {megabytes:>11.0f}  {handles:>7}  {threads:>7}", flush=True)


def parts() -> None:
    """Print the memory of the compiled step, without and with gradient accumulation."""
    net, batch = PoseNet(), batch_of(BATCH, SIZE)
    variables = initial_variables(net, 0)
    print(f"{'batch':>7}  {'state MB':>8}  {'temporary MB':>12}  {'compiled in s':>13}")
    for count in (1, 4):
        program, state = step_program(net, variables, compiler_options(), accumulation_steps=count)
        began = time.perf_counter()
        found = program.lower(state, batch).compile().memory_analysis()
        name = f"{BATCH}" if count == 1 else f"{count} x {BATCH // count}"
        print(
            f"{name:>7}  {found.output_size_in_bytes / 1e6:>8.0f}  "
            f"{found.temp_size_in_bytes / 1e6:>12.0f}  {time.perf_counter() - began:>13.0f}",
            flush=True,
        )


if __name__ == "__main__":
    tools.run(main)
