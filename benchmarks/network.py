"""The paper's network, forward and whole training step: jaxpose against PyTorch.

    python -m benchmarks.network [--rows NAME ...] [--dtypes NAME ...] [--no_torch_compile] [--json]

Both networks have K = 8 blocks, images of 256x256 pixels and the same weights. PyTorch runs our own
implementation of the network (benchmarks/torch_network.py) with channels_last arrays, eagerly and
with `torch.compile`. jaxpose runs with `jaxpose.compiler_options()`; on platforms that have such
options, plain `jax.jit` is measured, too. "forward N" is inference on N images, given as normalized
float32 arrays. "step N" is a training step on N images: training mode, loss, gradients, RMSProp.
Before anything is timed, keypoints and the losses of two steps are compared; the second loss
depends on the gradients and on the update.

The roofline of a row is the longer of two times: that of its multiply-adds at the rate of a matrix
product, and that of its bytes at the rate of a copy. Both rates are measured in the same run. The
multiply-adds are those of the network; XLA's cost analysis counts the bytes.
"""

import argparse
import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import tools
from benchmarks import contest
from jaxpose.data.batches import Batch
from jaxpose.network import PoseNet, initial_variables
from jaxpose.runtime.compilation import compiler_options
from jaxpose.runtime.host_memory import keep_freed_memory
from jaxpose.training import optimizer
from jaxpose.training.step import TrainState, create_train_state, make_train_step

JOINTS = 16
ROWS = {"cpu": ("forward 1", "forward 8", "step 4", "step 16"),
        "gpu": ("forward 1", "forward 8", "step 32", "step 64")}  # fmt: skip
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
GPU_TOLERANCE = {"float32": 1e-2, "bfloat16": 5e-2}  # GPUs compute float32 products in TF32
UPDATED_TOLERANCE = 1e-2  # of the loss after an update, which amplifies rounding errors
PARTS_OF_A_STEP = 3  # a step computes each product of the forward pass, and two for its gradients


def main() -> None:
    """Run the command."""
    options = parse()
    keep_freed_memory()  # before JAX starts its threads
    contest.use_threads()
    absent, rows = contest.absent("torch"), []
    for dtype in options.dtypes or (("float32", "bfloat16") if contest.on_gpu() else ("float32",)):
        rates = contest.machine_rates(jnp.dtype(dtype))
        for row in options.rows or ROWS["gpu" if contest.on_gpu() else "cpu"]:
            rows += measure(row, dtype, rates, options, with_torch=not absent)
    report = {
        **contest.machine(),
        "blocks": options.blocks,
        "width": options.width,
        "image": options.image_size,
        "missing": [contest.missing("PyTorch", absent)] if absent else [],
    }
    contest.show(report, rows, as_json=options.json)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = contest.parser("network", __doc__)
    parser.add_argument(
        "--rows",
        nargs="+",
        type=row_name,
        metavar="NAME",
        help='rows to measure: "forward N" or "step N" with batch size N, such as "forward 1" '
        '"step 4"',
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=tuple(TOLERANCE),
        help="dtypes to measure (default: float32; on a GPU, float32 and bfloat16)",
    )
    parser.add_argument(
        "--blocks", type=tools.count, default=8, help="number of blocks K (default: %(default)s)"
    )
    parser.add_argument(
        "--width",
        type=tools.count,
        default=576,
        help="channels of the features, a multiple of 18 (default: %(default)s)",
    )
    parser.add_argument(
        "--image_size",
        type=tools.count,
        default=256,
        help="side of the images in pixels, a multiple of 32 (default: %(default)s)",
    )
    parser.add_argument(
        "--no_torch_compile",
        dest="torch_compile",
        action="store_false",
        help="do not measure torch.compile, which takes minutes to compile a step",
    )
    return parser.parse_args()


def row_name(text: str) -> str:
    """Check the name of a row."""
    if not re.fullmatch("(forward|step) [1-9][0-9]*", text):
        raise argparse.ArgumentTypeError(f'{text!r} is not "forward N" or "step N"')
    return text


def measure(
    row: str, dtype: str, rates: dict, options: argparse.Namespace, *, with_torch: bool
) -> list[dict[str, Any]]:
    """Check and time every contestant of one row; returns its lines."""
    kind, batch_size = row.split()
    batch = batch_of(int(batch_size), options.image_size)
    net = PoseNet(num_blocks=options.blocks, width=options.width, dtype=jnp.dtype(dtype))
    variables = initial_variables(net, 0)
    make = jax_forward if kind == "forward" else jax_step
    fast, plain = compiler_options(), {}
    call, nbytes, multiply_adds = make(net, variables, batch, fast)
    calls = {"jaxpose": call}
    if fast:
        calls["jaxpose, plain jit"], *_ = make(net, variables, batch, plain)
    if with_torch:
        make = torch_forward if kind == "forward" else torch_step
        for name, compiled in (("PyTorch", False), ("PyTorch, torch.compile", True)):
            if compiled and not options.torch_compile:
                continue
            calls[name] = make(variables, batch, options, dtype, compiled=compiled)
    contest.compare_calls(row, calls, tolerances=tolerances_of(kind, dtype))
    times = contest.medians(calls)
    least = contest.roofline(multiply_adds, nbytes, rates)
    return [
        {
            "row": row,
            "contestant": name,
            "dtype": dtype,
            "ms": round(time, 2),
            "images/s": round(1e3 * int(batch_size) / time, 2),
            "time, jaxpose / contestant": round(times["jaxpose"] / time, 3),
            "roofline / time": round(least / time, 3),
        }
        for name, time in times.items()
    ]


def tolerances_of(kind: str, dtype: str) -> list[float]:
    """Return the tolerance of each result to compare: of one forward pass, of two steps' losses."""
    first = (GPU_TOLERANCE if contest.on_gpu() else TOLERANCE)[dtype]
    return [first] if kind == "forward" else [first, max(first, UPDATED_TOLERANCE)]


def batch_of(size: int, image_size: int) -> Batch:
    """Make a batch as in the input pipeline, with every joint labeled."""
    rng = np.random.default_rng(0)
    return Batch(
        image=rng.integers(0, 256, (size, image_size, image_size, 3), np.uint8),
        keypoints=rng.random((size, JOINTS, 2), np.float32),
        labeled=np.ones((size, JOINTS), bool),
        known=np.ones((size, JOINTS), bool),
        weight=np.ones(size, np.float32),
        readable=np.ones(size, bool),
    )


def normalized(batch: Batch) -> np.ndarray:
    return (batch.image / np.float32(255) - np.float32(0.5)) * np.float32(2)


def bytes_and_multiply_adds(compiled: Any, net: PoseNet, batch: Batch) -> tuple[float, float]:
    """Return XLA's byte count of a program, and the multiply-adds of the network's forward pass."""
    portable = net.clone(portable=True)  # of operations that XLA can count
    images = jax.ShapeDtypeStruct(batch.image.shape, net.dtype)
    shapes = jax.eval_shape(
        functools.partial(portable.init, train=False), jax.random.key(0), images
    )
    with jax.default_device(jax.local_devices(backend="cpu")[0]):  # XLA counts on CPUs only
        flops = jax.jit(portable.apply).lower(shapes, images).cost_analysis()["flops"]
    counted = compiled.cost_analysis() or {}
    return float(counted.get("bytes accessed", 0.0)), flops / 2


def jax_forward(
    net: PoseNet, variables: dict, batch: Batch, compiling: dict | None
) -> tuple[contest.Call, float, float]:
    """Make jaxpose's inference: the last block's keypoints and presence logits."""

    def forward(variables, images):
        output = net.apply(variables, images.astype(net.dtype))
        return output.keypoints[-1], output.presence_logits[-1]

    arguments = jax.device_put((variables, normalized(batch)))
    program = jax.jit(forward, compiler_options=compiling)
    compiled = program.lower(*arguments).compile()
    counted = bytes_and_multiply_adds(compiled, net, batch)
    return (compiled, arguments, jax.block_until_ready), *counted


def step_program(
    net: PoseNet, variables: dict, compiling: dict | None, *, accumulation_steps: int = 1
) -> tuple[Any, TrainState]:
    """Return launch.py's own step under jit, and its first state, which is donated to the step."""
    transform = optimizer.make_optimizer("rmsprop", lambda step: 1e-3)
    step = make_train_step(
        net,
        transform,
        probability_weight=0.01,
        accumulation_steps=accumulation_steps,
        axis_name=None,
    )
    state = jax.device_put(create_train_state(variables, transform, ema=False))
    return jax.jit(step, donate_argnums=0, compiler_options=compiling), state


def jax_step(
    net: PoseNet, variables: dict, batch: Batch, compiling: dict | None
) -> tuple[contest.Call, float, float]:
    """Make jaxpose's training step, which returns the loss."""
    program, state = step_program(net, variables, compiling)
    compiled = program.lower(state, batch).compile()
    nbytes, multiply_adds = bytes_and_multiply_adds(compiled, net, batch)
    return step_call(compiled, state, batch), nbytes, PARTS_OF_A_STEP * multiply_adds


def step_call(program: Callable, state: TrainState, batch: Batch) -> contest.Call:
    """Make the call of a step, which trains on and returns the loss before the update."""
    held = [state]

    def run(batch):
        before = held[0].sums["loss"] + 0  # a copy, since the state is donated
        held[0] = program(held[0], batch)
        return (held[0].sums["loss"] - before,)

    return run, (jax.device_put(batch),), jax.block_until_ready


def torch_parts(variables: dict, batch: Batch, options: argparse.Namespace) -> tuple:
    """Return PyTorch's network with jaxpose's weights, and the batch's images channels_last."""
    import torch

    from benchmarks.torch_network import TorchPoseNet

    device = contest.torch_device()
    model = TorchPoseNet(blocks=options.blocks, width=options.width)
    model.load(variables)
    model = model.to(device)
    images = torch.from_numpy(normalized(batch).transpose(0, 3, 1, 2).copy())
    return model, images.to(device, memory_format=torch.channels_last)


def cast(dtype: str) -> Callable:
    """Return a context of PyTorch's automatic casting for bfloat16, otherwise an empty one."""
    import torch

    return functools.partial(
        torch.autocast,
        contest.torch_device().type,
        dtype=torch.bfloat16,
        enabled=dtype == "bfloat16",
    )


def torch_forward(
    variables: dict, batch: Batch, options: argparse.Namespace, dtype: str, *, compiled: bool
) -> contest.Call:
    """Make PyTorch's inference."""
    import torch

    model, images = torch_parts(variables, batch, options)
    model = model.eval()
    network, casting = torch.compile(model) if compiled else model, cast(dtype)

    def forward(images):
        with torch.inference_mode(), casting():
            keypoints, presence_logits = network(images)
        return keypoints[-1], presence_logits[-1]

    return forward, (images,), contest.torch_wait


def torch_step(
    variables: dict, batch: Batch, options: argparse.Namespace, dtype: str, *, compiled: bool
) -> contest.Call:
    """Make PyTorch's training step, which returns the loss before the update."""
    import torch

    from benchmarks import torch_network

    model, images = torch_parts(variables, batch, options)
    update = torch_network.rmsprop(model.train())
    network, casting = torch.compile(model) if compiled else model, cast(dtype)
    device = images.device
    targets = [
        torch.from_numpy(np.asarray(getattr(batch, name), np.float32)).to(device)
        for name in ("keypoints", "labeled", "known")
    ]

    def step(images):
        update.zero_grad(set_to_none=True)
        with casting():
            loss = torch_network.loss(network, images, *targets)
        loss.backward()
        update.step()
        return (loss.detach(),)

    return step, (images,), contest.torch_wait


if __name__ == "__main__":
    tools.run(main)
