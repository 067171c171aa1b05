"""Predict the time of a training step on many devices, for docs/scaling.md.

    python -m tools.scaling [--hardware NAME] [--batch N ...] [--devices N ...]

Prints the time of a step of the paper's network in bfloat16, in milliseconds, and the times of its
parts: computation, all-reduces of gradients, all-reduces of batch norm, and the input pipeline,
which runs in parallel with the rest. The efficiency is relative to one device with the same batch
per device. Nothing is measured: the times are computed from the network's shapes, from data sheets
and from assumptions, which are constants in tools/scaling.py.
"""

import math
from typing import NamedTuple

import jax
import numpy as np

import tools
from jaxpose import PoseNet
from jaxpose.data.batches import Batch
from jaxpose.network import initial_variables
from jaxpose.runtime.devices import DEVICES, parallel, replicate, shard
from jaxpose.training.optimizer import make_optimizer, make_schedule
from jaxpose.training.step import create_train_state, make_train_step
from tools.network_shapes import shapes

PASSES = 3  # operations of a training step, as a multiple of those of a forward pass
READS_AND_WRITES = (
    9  # number of times that a step moves a convolution's output: 3 forward, 6 backward
)
EFFICIENCY = 0.5  # fraction of peak (compute or bandwidth, whichever limits) that a program reaches
LINK_EFFICIENCY = 0.7  # fraction of a link's bandwidth that an all-reduce reaches
KERNELS = 12  # kernels that the device starts for each batch-norm layer, forward and backward
SUMS_PER_NORM = 1.5  # sequential all-reduces per batch-norm layer, from `--count_sums 8`
IMAGES_PER_CORE = 400.0  # images that the input pipeline makes per second and CPU core


class Hardware(NamedTuple):
    """A device, its neighbors on fast links (an island), and its host.

    Attributes:
      operations: bfloat16 operations per second, multiply and add counted separately.
      memory: bandwidth of the device's memory, bytes per second.
      island: number of devices connected by the fast links.
      inside: bytes per second that a device sends within its island.
      outside: bytes per second that a device sends to other islands: its part of the bandwidth of
        the host's network cards.
      start: seconds to start one kernel on the device.
      inside_latency: seconds of a small all-reduce within an island.
      outside_latency: additional seconds for each doubling of the islands.
      host: devices per host.
      cores: CPU cores per host.
    """

    operations: float
    memory: float
    island: int
    inside: float
    outside: float
    start: float
    inside_latency: float
    outside_latency: float
    host: int
    cores: int


HARDWARE = {
    # NVIDIA's data sheet of the H100 SXM; one 400 Gb/s network card per GPU; the rest is assumed.
    "h100": Hardware(989e12, 3.35e12, 8, 450e9, 50e9, 3e-6, 20e-6, 10e-6, 8, 96),
    # Google's page of TPU v5e; two 100 Gb/s cards per host of 8 chips; the rest is assumed.
    "v5e": Hardware(197e12, 819e9, 256, 200e9, 3.1e9, 1e-6, 20e-6, 20e-6, 8, 112),
}


class Network(NamedTuple):
    """Counts for one image, from which the time of a step is computed."""

    multiply_adds: int  # of a forward pass
    outputs: int  # numbers that all convolutions of a forward pass write
    parameters: int
    norms: int  # batch-norm layers


def measure(net: PoseNet, size: int = 256) -> Network:
    """Compute the counts from a network's shapes."""
    parameters, returned = shapes(net, size)
    multiply_adds = outputs = norms = 0
    for path, shape in parameters.items():
        layer, _, name = path.rpartition("/")
        if name == "beta":
            norms += 1
            continue
        rows, columns, _ = returned[layer]
        multiply_adds += rows * columns * math.prod(shape)
        outputs += rows * columns * shape[-1]
    return Network(multiply_adds, outputs, sum(map(math.prod, parameters.values())), norms)


class Step(NamedTuple):
    """Seconds of a training step: device work, all-reduces, and input pipeline."""

    compute: float
    gradients: float
    norms: float
    input: float

    @property
    def total(self) -> float:
        """The step's seconds. The input pipeline overlaps with the rest, the all-reduces do not."""
        return max(self.compute + self.gradients + self.norms, self.input)


def predict(network: Network, hardware: Hardware, devices: int, batch: int) -> Step:
    """Predict a step in bfloat16 with ``batch`` images per device."""
    operations = 2 * PASSES * network.multiply_adds * batch / hardware.operations
    traffic = 2 * READS_AND_WRITES * network.outputs * batch / hardware.memory
    starts = KERNELS * network.norms * hardware.start
    compute = max(operations, traffic) / EFFICIENCY + starts

    inside = min(devices, hardware.island)
    islands = math.ceil(devices / hardware.island)
    size = 4 * network.parameters  # gradients are float32
    gradients = 2 * size * (inside - 1) / inside / (LINK_EFFICIENCY * hardware.inside)
    gradients += 2 * size / inside * (islands - 1) / islands / (LINK_EFFICIENCY * hardware.outside)
    latency = hardware.inside_latency * (inside > 1)
    latency += hardware.outside_latency * math.log2(islands)
    images = batch * min(devices, hardware.host)
    return Step(
        compute=compute,
        gradients=gradients + latency * (devices > 1),
        norms=SUMS_PER_NORM * network.norms * latency,
        input=images / (IMAGES_PER_CORE * hardware.cores),
    )


def table(hardware: str, batches: tuple[int, ...], devices: tuple[int, ...]) -> str:
    """Return a row for every batch and number of devices, with times in milliseconds."""
    network = measure(PoseNet())
    lines = [
        f"{hardware}; {network.multiply_adds / 1e9:.2f} G multiply-adds, "
        f"{network.outputs / 1e6:.1f} M convolution outputs, "
        f"{network.parameters / 1e6:.2f} M parameters, {network.norms} batch-norm layers",
        "batch per device  devices  global  compute  gradients   norms   input    step  efficiency",
    ]
    for batch in batches:
        alone = predict(network, HARDWARE[hardware], 1, batch)
        for count in devices:
            step = predict(network, HARDWARE[hardware], count, batch)
            times = [step.compute, step.gradients, step.norms, step.input, step.total]
            compute, gradients, norms, images, total = (f"{1e3 * t:.2f}" for t in times)
            lines.append(
                f"{batch:16} {count:8} {batch * count:7} {compute:>8} {gradients:>10} {norms:>7} "
                f"{images:>7} {total:>7} {alone.total / step.total:11.0%}"
            )
    return "\n".join(lines)


def count_sums(blocks: int) -> str:
    """Compile a narrow network's training step on this machine, and count its all-reduces."""
    net = PoseNet(num_joints=3, num_blocks=blocks, width=18, axis_name=DEVICES)
    variables = initial_variables(net, 0)
    optimizer = make_optimizer("rmsprop", make_schedule("constant", 1e-3, num_steps=1))
    state = create_train_state(variables, optimizer, ema=False)
    step = make_train_step(net, optimizer, probability_weight=0.01)
    count = jax.local_device_count()
    batch = Batch(
        image=np.zeros((count, 32, 32, 3), np.uint8),
        keypoints=np.zeros((count, 3, 2), np.float32),
        labeled=np.ones((count, 3), bool),
        known=np.ones((count, 3), bool),
        weight=np.ones(count, np.float32),
        readable=np.ones(count, bool),
    )
    state = replicate(jax.tree.map(np.asarray, state))
    program = parallel(step).lower(state, shard(batch)).compile().as_text()
    norms = measure(net).norms
    sums = program.count(" all-reduce(")
    return f"{sums} all-reduces over {count} devices, {norms} batch-norm layers"


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = tools.parser("scaling", __doc__)
    parser.add_argument(
        "--hardware",
        choices=HARDWARE,
        default="h100",
        help="device: h100 is NVIDIA H100 SXM, v5e is TPU v5e (default: %(default)s)",
    )
    parser.add_argument(
        "--batch",
        type=tools.count,
        nargs="+",
        default=[2, 16, 64],
        help="images per device (default: 2 16 64)",
    )
    parser.add_argument(
        "--devices",
        type=tools.count,
        nargs="+",
        default=[1, 8, 64, 512],
        help="numbers of devices (default: 1 8 64 512)",
    )
    parser.add_argument(
        "--count_sums",
        type=int,
        metavar="BLOCKS",
        help="print, instead of the table, the number of all-reduces in the compiled training step "
        "of a network with this many blocks (takes minutes)",
    )
    options = parser.parse_args(arguments)
    if options.count_sums:
        print(count_sums(options.count_sums))
        return
    print(table(options.hardware, tuple(options.batch), tuple(options.devices)))


if __name__ == "__main__":
    tools.run(main)
