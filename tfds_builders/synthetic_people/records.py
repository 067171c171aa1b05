"""Render many images, in several processes, and encode them as records of the schema."""

import concurrent.futures
import functools
import multiprocessing
import os
from collections.abc import Iterator
from typing import Any

from tfds_builders.synthetic_people import canvas, scene

MIN_PARALLEL_IMAGES = 200  # below this number, rendering takes less time than starting processes
_CHUNK = 25


def record(
    index: int, *, seed: int, split: str, size: int, difficulty: scene.Difficulty, quality: int
) -> dict[str, Any]:
    """Render one record of the schema, ``image`` as JPEG bytes; arguments as ``scene.render``."""
    example = scene.render(seed, split, index, size=size, difficulty=difficulty)
    return {
        "image": canvas.encode_jpeg(example.image, quality),
        "image_name": f"{split}_{index:06d}.jpg",
        "person": 0,
        "keypoints": example.keypoints,
        "labeled": example.labeled,
        "visible": example.visible,
        "box": example.box,
        "center": example.center,
        "scale": example.scale,
        "head_size": example.head_size,
        "separated": True,
    }


def records(count: int, *, workers: int | None = None, **drawing: Any) -> Iterator[dict[str, Any]]:
    """Yield the records of images 0 to ``count`` - 1, in order.

    Args:
        count: number of images.
        workers: number of processes that draw; 0 draws in this process. None means one per
            processor, at most 16, or 0 for MIN_PARALLEL_IMAGES images or fewer. With any number
            above 0, or None, a script needs ``if __name__ == "__main__":``, because each process
            imports it.
        **drawing: the keyword arguments of ``record``.
    """
    if workers is None:
        workers = min(os.cpu_count() or 1, 16) if count > MIN_PARALLEL_IMAGES else 0
    draw = functools.partial(record, **drawing)
    if workers == 0:
        yield from map(draw, range(count))
        return
    # spawn: the building process runs threads, which a fork would break
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            yield from pool.map(draw, range(count), chunksize=_CHUNK)
        finally:
            pool.shutdown(cancel_futures=True)
