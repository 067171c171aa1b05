"""Startup time: imports, launch.py up to its first step, compiling the paper's step.

    python -m benchmarks.startup [--config FILE[:PRESET] --data_dir DIR] [--json]

Each start is a process of its own. "launch.py, first start" is the time until launch.py prints its
first step, in an empty workdir, with an empty compilation cache; it is measured once. "launch.py,
second start" is the same with the compilation cache of an earlier start. The data set is
synthetic_people/tiny, built in a temporary folder, unless --config and --data_dir name another.
The paper's step (K = 8, 256x256, RMSProp) is traced and compiled with an empty compilation cache,
as at the first start of launch.py.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import tools
from benchmarks import contest

ROOT = pathlib.Path(__file__).resolve().parents[1]
IMPORTS = {
    "import jax": "import jax",
    "import jax, jaxpose": "import jax, jaxpose",
    "import jax, jaxpose and all its names": "import jax; from jaxpose import *",
}
COMPILE = """
import time
from benchmarks.contest import use_threads
use_threads()
from benchmarks.network import batch_of, step_program
from jaxpose import PoseNet, compiler_options
from jaxpose.network import initial_variables
net, batch = PoseNet(), batch_of({batch}, 256)
program, state = step_program(net, initial_variables(net, 0), compiler_options())
start = time.perf_counter()
lowered = program.lower(state, batch)
middle = time.perf_counter()
lowered.compile()
print(middle - start, time.perf_counter() - middle)
"""


def main() -> None:
    """Run the command."""
    parser = contest.parser("startup", __doc__)
    parser.add_argument(
        "--config",
        default="configs/synthetic.py:tiny",
        metavar="FILE[:PRESET]",
        help="config of launch.py (default: %(default)s)",
    )
    parser.add_argument(
        "--data_dir",
        help="folder of prepared data sets, needed with another --config (default: a temporary "
        "folder with synthetic_people/tiny)",
    )
    parser.add_argument(
        "--rounds",
        type=tools.count,
        default=contest.ROUNDS,
        help="number of rounds, of which the median is shown (default: %(default)s)",
    )
    parser.add_argument(
        "--compile_batch",
        type=tools.count,
        default=4,
        help="batch size of the step that is traced and compiled (default: %(default)s)",
    )
    options = parser.parse_args()
    if options.config != parser.get_default("config") and not options.data_dir:
        parser.error(f"--config {options.config} needs --data_dir")
    contest.use_threads()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
        data_dir = options.data_dir or build(folder / "data", environment)

        def launch() -> float:
            return first_step(options.config, data_dir, folder, environment)

        first = launch()
        starts: dict[str, Callable[[], float]] = {
            name: lambda code=code: seconds([sys.executable, "-c", code], environment)
            for name, code in IMPORTS.items()
        }
        starts["launch.py, second start, to its first step"] = launch
        found = {name: [] for name in starts}
        for _ in range(options.rounds):
            for name, start in starts.items():
                found[name].append(start())
        compilations = [compile_step(options.compile_batch) for _ in range(options.rounds)]
    times = {"launch.py, first start, to its first step": first}
    times |= {name: statistics.median(each) for name, each in found.items()}
    rows = [
        {"start": name, "s": round(s, 2), "s minus import jax": round(s - times["import jax"], 2)}
        for name, s in times.items()
    ]
    for part, each in zip(("trace", "compile"), zip(*compilations, strict=True), strict=True):
        name = f"{part} the step of K = 8, batch {options.compile_batch}"
        rows.append({"start": name, "s": round(statistics.median(each), 2)})
    contest.show({**contest.machine(), "rounds": options.rounds}, rows, as_json=options.json)


def build(data_dir: pathlib.Path, environment: dict[str, str]) -> str:
    """Prepare the data set of the default config; returns its folder."""
    command = [sys.executable, "-m", "tfds_builders", "synthetic_people/tiny", "--data_dir"]
    subprocess.run([*command, str(data_dir)], check=True, cwd=ROOT, env=environment,
                   capture_output=True)  # fmt: skip
    return str(data_dir)


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Return the seconds that a process runs."""
    start = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def first_step(
    config: str, data_dir: str, folder: pathlib.Path, environment: dict[str, str]
) -> float:
    """Return the seconds from the start of launch.py until it logs its first step; then stop it."""
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        command = [sys.executable, "launch.py", f"--config={config}", f"--workdir={workdir}"]
        command += [f"--config.data_dir={data_dir}", "--config.log_every_steps=1"]
        start = time.perf_counter()
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            said = []
            for line in process.stderr:
                said.append(line)
                if line.startswith("step 1/"):
                    took = time.perf_counter() - start
                    process.terminate()
                    process.communicate()
                    return took
    raise SystemExit(f"error: launch.py made no step:\n{''.join(said[-5:])}")


def compile_step(batch: int) -> tuple[float, float]:
    """Return the seconds to trace and compile the paper's step, in a process without a cache."""
    command = [sys.executable, "-c", COMPILE.format(batch=batch)]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
        done = subprocess.run(
            command, check=True, cwd=ROOT, env=environment, capture_output=True, text=True
        )
    traced, compiled = map(float, done.stdout.split())
    return traced, compiled


if __name__ == "__main__":
    tools.run(main)
