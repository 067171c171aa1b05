"""Shared code of the benchmarks: thread limits, interleaved timing, medians, machine limits."""

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpose.runtime.compilation import compiler_options

THREADS = 2
ROUNDS = 7
SAMPLE = 0.05  # minimum seconds of one sample, the mean of several calls
GPU_SAMPLE = 0.3  # the same on a GPU, whose calls queue up
PAUSE = 0.02  # seconds until the threads of the previous contestant stop spinning

Call = tuple[Callable, tuple, Callable]  # function, arguments, function that waits for the result


def use_threads() -> None:
    """Restrict this process to two cores, and so XLA and PyTorch to two threads.

    On a GPU, keep all cores (for compiling and launching) and disable memory preallocation, which
    would leave PyTorch a quarter of the memory. Where processes cannot be restricted (macOS),
    neither XLA nor PyTorch is.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if hasattr(os, "sched_setaffinity"):
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(cores)[:THREADS])
        if on_gpu():  # known only after JAX has started, whose threads inherit the restriction
            for thread in os.listdir("/proc/self/task"):
                with contextlib.suppress(ProcessLookupError):  # it has ended
                    os.sched_setaffinity(int(thread), cores)
    if threads() and not absent("torch"):
        import torch

        torch.set_num_threads(THREADS)


def threads() -> int | None:
    """Return the number of threads to which ``use_threads`` restricts; None if it does not."""
    return THREADS if hasattr(os, "sched_setaffinity") and not on_gpu() else None


def absent(*libraries: str) -> list[str]:
    """Return the libraries that are not installed."""
    return [name for name in libraries if importlib.util.find_spec(name) is None]


def missing(contestant: str, libraries: Iterable[str]) -> str:
    """Describe a contestant that cannot take part, in one line."""
    return f"{contestant} (pip install {' '.join(libraries)})"


def on_gpu() -> bool:
    """Whether JAX computes on a GPU."""
    return jax.default_backend() == "gpu"


def torch_device() -> Any:
    """Return the PyTorch device that corresponds to JAX's."""
    import torch

    return torch.device("cuda" if on_gpu() and torch.cuda.is_available() else "cpu")


def torch_wait(result: Any) -> Any:
    """Wait for PyTorch's computations."""
    import torch

    if torch_device().type == "cuda":
        torch.cuda.synchronize()
    return result


def medians(calls: dict[Hashable, Call], *, rounds: int = ROUNDS) -> dict[Hashable, float]:
    """Return the median milliseconds of every call; calls are interleaved, each once per round."""
    found = samples(calls, rounds=rounds)
    return {key: statistics.median(each) for key, each in found.items()}


def samples(
    calls: dict[Hashable, Call],
    *,
    rounds: int = ROUNDS,
    sample: float | None = None,
    cpu_time: bool = False,
) -> dict[Hashable, list[float]]:
    """Return the milliseconds of every call in every round; calls are interleaved.

    Each function is called before the timing, to compile it and to determine how many calls make a
    sample of ``sample`` seconds. On a GPU the calls of a sample queue up and only the last one is
    waited for, as in training; on a CPU every call is waited for. ``cpu_time`` counts the CPU time
    of all threads in place of the elapsed time.
    """
    clock = time.process_time if cpu_time else time.perf_counter
    if sample is None:
        sample = SAMPLE
    queue, sample, repeats = on_gpu(), GPU_SAMPLE if on_gpu() else sample, {}
    for key, (function, arguments, wait) in calls.items():
        wait(function(*arguments))
        start = clock()
        wait(function(*arguments))
        repeats[key] = max(1, round(sample / (clock() - start)))
    found = {key: [] for key in calls}
    for _ in range(rounds):
        for key, (function, arguments, wait) in calls.items():
            time.sleep(PAUSE)
            if repeats[key] > 1:
                wait(function(*arguments))  # warm up its memory and threads
            start = clock()
            for i in range(repeats[key]):
                result = function(*arguments)
                if not queue or i == repeats[key] - 1:
                    wait(result)
            found[key].append(1e3 * (clock() - start) / repeats[key])
    return found


def machine_rates(dtype: Any = jnp.float32) -> dict[str, float]:
    """Measure XLA's rates on this machine: multiply-adds per second and bytes per second.

    The multiply-adds are of a product of 4096 x 4096 matrices (1024 on a CPU); the bytes are those
    that a copy of 256 MB reads and writes.
    """
    size = 4096 if on_gpu() else 1024
    square = jnp.full((size, size), 0.5, dtype)
    big = jnp.zeros(256 * 2**20 // jnp.dtype(dtype).itemsize, dtype)
    multiply = jax.jit(jnp.dot, compiler_options=compiler_options())  # as a network's products
    product = multiply, (square, square), jax.block_until_ready
    copy = jax.jit(jnp.copy), (big,), jax.block_until_ready
    times = medians({"product": product, "copy": copy})
    return {
        "multiply_adds": 1e3 * size**3 / times["product"],
        "bytes": 1e3 * 2 * big.nbytes / times["copy"],
    }


def roofline(multiply_adds: float, nbytes: float, rates: dict[str, float]) -> float:
    """Return the minimum milliseconds for these operations and bytes at the machine's rates."""
    return 1e3 * max(multiply_adds / rates["multiply_adds"], nbytes / rates["bytes"])


def compare(name: str, found: Iterable, expected: Iterable, *, tolerance: float) -> None:
    """Exit if results differ by more than a fraction of the largest expected value."""
    for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        ours, theirs = (as_numpy(each).astype(np.float64) for each in (ours, theirs))
        error = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30)
        if not error < tolerance:
            raise SystemExit(
                f"error: {name}: result {i} has an error of {error:.1e}, relative to the largest "
                f"expected value; the tolerance is {tolerance:g}"
            )


def compare_calls(row: str, calls: dict[str, Call], *, tolerances: Sequence[float]) -> None:
    """Exit if calls differ from the first one; each is made and compared once per tolerance."""
    for tolerance in tolerances:
        results = {name: wait(function(*args)) for name, (function, args, wait) in calls.items()}
        expected = next(iter(results.values()))
        for name, found in results.items():
            compare(f"{row}, {name}", found, expected, tolerance=tolerance)


def as_numpy(array: Any) -> np.ndarray:
    """Copy a JAX or PyTorch array to the host, bfloat16 as float32."""
    if hasattr(array, "detach"):
        return array.detach().cpu().float().numpy()
    return np.asarray(array, np.float32)


def parser(module: str, description: str, *, with_json: bool = True) -> argparse.ArgumentParser:
    """Make a benchmark's argument parser; --help shows the whole description."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if with_json:
        made.add_argument("--json", action="store_true", help="print JSON")
    return made


def machine() -> dict[str, Any]:
    """Return the machine and the versions, for the head of a report."""
    import jaxlib

    libraries = {"jax": jax.__version__, "jaxlib": jaxlib.__version__}
    if not absent("torch"):
        import torch

        libraries["torch"] = torch.__version__
    return {
        "device": str(jax.devices()[0].device_kind),
        "threads": threads(),
        "versions": libraries,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Format rows of equal keys as text in columns."""
    keys = list(rows[0])
    cells = [keys, *([_cell(row.get(key)) for key in keys] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(keys))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show(report: dict[str, Any], rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print a report: its head, its rows, and missing contestants."""
    if as_json:
        print(json.dumps({**report, "rows": rows}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in report.items() if key != "missing"))
    print(table(rows))
    for line in report.get("missing", []):
        print(f"missing: {line}")
