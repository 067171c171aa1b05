"""Depthwise convolution 5x5 on [4, 32, 32, 576]: jaxpose against Flax and PyTorch.

    python -m benchmarks.depthwise [--json]

The arrays are those of a block of the paper's network at batch 4. On a GPU the batch is 32, so that
a kernel lasts longer than its launch. "forward" is the result, "both" the result and the gradients
of x and of the kernel. PyTorch's arrays are channels_last. All results are compared with XLA's
grouped convolution before anything is timed. On a GPU, bfloat16 is measured in addition to float32.
The roofline is the time to read and write the arrays once, at the speed of a copy in the same run.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import tools
from benchmarks import contest
from jaxpose import depthwise_conv
from jaxpose.runtime.host_memory import keep_freed_memory

SHAPE, GPU_SHAPE, SIZE = (4, 32, 32, 576), (32, 32, 32, 576), 5
COLUMNS = ("forward", "both")
TOLERANCE = {"float32": 2e-5, "bfloat16": 3e-2}


def main() -> None:
    """Run the command."""
    parser = contest.parser("depthwise", __doc__)
    parser.add_argument(
        "--shape",
        type=tools.count,
        nargs=4,
        metavar=("B", "H", "W", "C"),
        help="shape of x: batch, height, width, channels (default: 4 32 32 576; on a GPU, "
        "32 32 32 576)",
    )
    options = parser.parse_args()
    keep_freed_memory()  # before JAX starts its threads
    contest.use_threads()
    shape = tuple(options.shape or (GPU_SHAPE if contest.on_gpu() else SHAPE))
    rows, absent = [], contest.absent("torch")
    for dtype in ("float32", "bfloat16") if contest.on_gpu() else ("float32",):
        rows += rows_of(shape, dtype, with_torch=not absent)
    report = {
        **contest.machine(),
        "x": list(shape),
        "kernel": SIZE,
        "missing": [contest.missing("PyTorch", absent)] if absent else [],
    }
    contest.show(report, rows, as_json=options.json)


def rows_of(shape: tuple[int, ...], dtype: str, *, with_torch: bool) -> list[dict[str, Any]]:
    """Check and time the contestants of one dtype; returns its rows."""
    rng = np.random.default_rng(0)
    kernel_shape = (SIZE, SIZE, shape[-1])
    x, cotangent, kernel = (
        rng.normal(size=size).astype(np.float32) for size in (shape, shape, kernel_shape)
    )
    contestants = jax_contestants(x, kernel, cotangent, dtype)
    if with_torch:
        contestants["PyTorch, channels_last"] = torch_contestant(x, kernel, cotangent, dtype)
    expected = None
    for name, (forward, both) in contestants.items():
        for function, arguments, wait in (forward, both):
            found = [contest.as_numpy(each) for each in wait(function(*arguments))]
            if name.startswith("PyTorch"):
                found = in_our_layout(found)
            expected = found if expected is None or len(expected) < len(found) else expected
            contest.compare(name, found, expected[: len(found)], tolerance=TOLERANCE[dtype])
    calls = {
        (name, column): call
        for name, pair in contestants.items()
        for column, call in zip(COLUMNS, pair, strict=True)
    }
    times = contest.medians(calls)
    rates = contest.machine_rates(jnp.dtype(dtype))
    nbytes = x.size * jnp.dtype(dtype).itemsize  # of x, and of each array of its shape
    rooflines = {"forward": contest.roofline(0, 2 * nbytes, rates)}
    rooflines["both"] = rooflines["forward"] + contest.roofline(0, 3 * nbytes, rates)
    return [
        {
            "contestant": name,
            "dtype": dtype,
            **{f"{column} ms": round(times[name, column], 3) for column in COLUMNS},
            **{
                f"{column} / jaxpose": round(times[name, column] / times["jaxpose", column], 2)
                for column in COLUMNS
            },
            **{f"{column} roofline ms": round(rooflines[column], 3) for column in COLUMNS},
        }
        for name in contestants
    ]


def jax_contestants(x, kernel, cotangent, dtype: str) -> dict[str, tuple]:
    """Return JAX's contestants by name: Flax's layer (the reference), then ``depthwise_conv``."""
    layer = nn.Conv(
        features=x.shape[-1],
        kernel_size=kernel.shape[:2],
        feature_group_count=x.shape[-1],
        use_bias=False,
        dtype=dtype,
    )

    def flax(x, kernel):
        return layer.apply({"params": {"kernel": kernel[:, :, None]}}, x)

    functions: dict[str, Callable] = {"flax.linen.Conv": flax, "jaxpose": depthwise_conv}
    for name in ("shift", "conv") if contest.on_gpu() else ():
        functions[f"jaxpose, {name}"] = functools.partial(depthwise_conv, implementation=name)
    arrays = [jnp.asarray(each, dtype) for each in (x, kernel, cotangent)]

    def calls(function):
        def forward(x, kernel):
            return (function(x, kernel),)

        def both(x, kernel, cotangent):
            y, pull = jax.vjp(function, x, kernel)
            return y, *pull(cotangent)

        wait = jax.block_until_ready
        return (jax.jit(forward), tuple(arrays[:2]), wait), (jax.jit(both), tuple(arrays), wait)

    return {name: calls(function) for name, function in functions.items()}


def torch_contestant(x, kernel, cotangent, dtype: str) -> tuple:
    """Return the calls to time for PyTorch's grouped convolution, on channels_last arrays."""
    import torch

    device, kind = contest.torch_device(), getattr(torch, dtype)

    def placed(array, axes):
        array = torch.from_numpy(np.ascontiguousarray(array.transpose(axes))).to(device, kind)
        return array.contiguous(memory_format=torch.channels_last)

    x, cotangent = (placed(each, (0, 3, 1, 2)) for each in (x, cotangent))
    weight = placed(kernel[:, :, None], (3, 2, 0, 1))

    def convolve(x, weight):
        return torch.nn.functional.conv2d(x, weight, padding=SIZE // 2, groups=x.shape[1])

    def forward(x, weight):
        with torch.no_grad():
            return (convolve(x, weight),)

    def both(x, weight, cotangent):
        x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
        y = convolve(x, weight)
        return y, *torch.autograd.grad([y], [x, weight], [cotangent])

    wait = contest.torch_wait
    return (forward, (x, weight), wait), (both, (x, weight, cotangent), wait)


def in_our_layout(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Convert PyTorch's y, gradient of x (NCHW) and of the kernel [C, 1, kh, kw] to our layout."""
    ours = [array.transpose(0, 2, 3, 1) for array in arrays[:2]]
    return ours + [array[:, 0].transpose(1, 2, 0) for array in arrays[2:]]


if __name__ == "__main__":
    tools.run(main)
