"""Measure images per second of the input pipeline, and the CPU time per image of each of its steps.

    python -m benchmarks.input_pipeline --data_dir DIR [DIR ...] [--only NAME ...] [--json]

Measures every prepared data set found in the folders. The first table has the images per second of
batches of 256x256 crops with the paper's augmentation, flips and color changes, made by worker
processes and by threads. These take turns, and a row is the median of seven rounds. The second
table has the CPU time per image of each step, in a single thread.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import time
from collections.abc import Callable

import numpy as np

import tools
from benchmarks import contest
from jaxpose.data.augment import Augmentation, color, sample
from jaxpose.data.batches import train_batches
from jaxpose.data.images import decode
from jaxpose.data.prefetch import Batches
from jaxpose.data.prepared import PreparedSplit, open_split, read_example
from jaxpose.errors import JaxposeError
from jaxpose.geometry import LSP_RULE, MPII_RULE, CropRule, crop_image, example_crop, reduction
from jaxpose.skeleton import MPII

ROUNDS = 7
AUGMENTATION = Augmentation(rotation=40.0, scale=(0.7, 1.3), flip=True, color=0.3)


def main() -> None:
    """Run the command."""
    options = _parser().parse_args()
    sets = prepared_sets(options.data_dir, options.only)
    if not sets:
        wanted = f" called {', '.join(options.only)}" if options.only else ""
        raise JaxposeError(f"no prepared data set{wanted} in {', '.join(options.data_dir)}")
    rates = throughput(sets, options)
    report = {
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "image_size": options.image_size,
        "batch_size": options.batch_size,
        "images_per_second": rates,
        "cpu_milliseconds_per_image": {
            name: steps_of_an_image(split, rule, options.image_size)
            for name, (split, rule) in sets.items()
        },
    }
    print(json.dumps(report, indent=2) if options.json else as_text(report))


def _parser() -> argparse.ArgumentParser:
    parser = contest.parser("input_pipeline", __doc__)
    parser.add_argument(
        "--data_dir", nargs="+", required=True, help="folders of prepared data sets"
    )
    parser.add_argument(
        "--only", nargs="+", default=[], help="measure only these data sets, such as lspet"
    )
    parser.add_argument(
        "--workers",
        nargs="+",
        type=int,
        default=[0, 2],
        help="numbers of worker processes to measure; 0 for threads (default: 0 2)",
    )
    parser.add_argument(
        "--image_size",
        type=tools.count,
        default=256,
        help="side of the crops in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--batch_size", type=tools.count, default=32, help="images per batch (default: %(default)s)"
    )
    parser.add_argument(
        "--batches", type=tools.count, default=30, help="batches per round (default: %(default)s)"
    )
    return parser


def prepared_sets(
    data_dirs: list[str], only: list[str]
) -> dict[str, tuple[PreparedSplit, CropRule]]:
    """Return the train split and crop rule of every prepared data set, by folder and name."""
    sets = {}
    for data_dir in data_dirs:
        found = sorted(pathlib.Path(data_dir).glob("**/dataset_info.json"))
        for name in dict.fromkeys(
            path.parent.parent.relative_to(data_dir).as_posix() for path in found
        ):
            if only and name not in only:
                continue
            label = name if len(data_dirs) == 1 else f"{data_dir}: {name}"
            rule = MPII_RULE if name.startswith("mpii") else LSP_RULE
            sets[label] = open_split(name, "train", data_dir=data_dir), rule
    return sets


def throughput(
    sets: dict[str, tuple[PreparedSplit, CropRule]], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Return the median images per second of every data set, for each way to make batches."""
    with contextlib.ExitStack() as stack:
        contestants = {
            (name, _maker_name(workers)): stack.enter_context(
                contextlib.closing(_batches(split, rule, workers, options))
            )
            for name, (split, rule) in sets.items()
            for workers in options.workers
        }
        found = {key: [] for key in contestants}
        for _ in range(ROUNDS):
            for key, batches in contestants.items():
                found[key].append(_rate(batches, options))
    table = {name: {} for name in sets}
    for (name, maker), rates in found.items():
        table[name][maker] = round(statistics.median(rates), 1)
    return table


def _maker_name(workers: int) -> str:
    return f"{workers} workers" if workers else "threads"


def _batches(
    split: PreparedSplit, rule: CropRule, workers: int, options: argparse.Namespace
) -> Batches:
    return train_batches(
        [(split, 1.0)],
        joints=MPII.joints,
        image_size=options.image_size,
        batch_size=options.batch_size,
        rule=rule,
        augmentation=AUGMENTATION,
        seed=0,
        workers=workers,
    )


def _rate(batches: Batches, options: argparse.Namespace) -> float:
    # Discard the batches that were prefetched while the others were timed: up to 8 by threads.
    for _ in range(6 * max(2, *options.workers)):
        next(batches)
    start = time.perf_counter()
    for _ in range(options.batches):
        next(batches)
    return options.batches * options.batch_size / (time.perf_counter() - start)


def steps_of_an_image(
    split: PreparedSplit, rule: CropRule, size: int, persons: int = 200
) -> dict[str, float]:
    """Return the CPU milliseconds per image of each step, in one thread (medians of 7 rounds)."""
    index = np.random.default_rng(0).permutation(len(split.source))[:persons]
    examples = [read_example(split, int(i)) for i in index]
    crops = [
        sample(np.random.default_rng(i), example_crop(example, rule), AUGMENTATION)
        for i, example in enumerate(examples)
    ]
    data = [example["image"] for example in examples]
    decoded = [
        decode(image, reduction=reduction(crop.side, size))
        for image, crop in zip(data, crops, strict=True)
    ]
    shown = [
        crop_image(image, crop, size, reduced=reduced)
        for (image, reduced), crop in zip(decoded, crops, strict=True)
    ]
    rng = np.random.default_rng(0)

    def each(step: Callable[[int], object]) -> float:
        start = time.process_time()
        for i in range(len(index)):
            step(i)
        return (time.process_time() - start) / len(index) * 1e3

    steps = {
        "read": lambda i: read_example(split, int(index[i])),
        "decode at full size (for comparison)": lambda i: decode(data[i]),
        "decode": lambda i: decode(data[i], reduction=reduction(crops[i].side, size)),
        "crop": lambda i: crop_image(decoded[i][0], crops[i], size, reduced=decoded[i][1]),
        "color": lambda i: color(rng, shown[i], AUGMENTATION.color),
    }
    found = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            found[name].append(each(step))
    return {name: round(statistics.median(times), 3) for name, times in found.items()}


def as_text(report: dict) -> str:
    """Format the report as two tables."""
    lines = [
        f"{report['cpus']} CPUs, {report['image_size']}x{report['image_size']} crops, "
        f"batches of {report['batch_size']}, medians of {ROUNDS} rounds",
        "",
    ]
    for title, table in (
        ("images/s", report["images_per_second"]),
        ("CPU ms/image", report["cpu_milliseconds_per_image"]),
    ):
        columns = list(next(iter(table.values())))
        width = max(len(name) for name in [title, *table])
        lines.append("  ".join([title.ljust(width), *columns]))
        for name, row in table.items():
            cells = [f"{row[column]:g}".rjust(len(column)) for column in columns]
            lines.append("  ".join([name.ljust(width), *cells]))
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    tools.run(main)
