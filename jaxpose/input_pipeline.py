"""Prepared data sets to batches: decode, cut one random crop per person, stack, read ahead.

A batch is a pure function of its number: which persons it holds follows from (seed, epoch), what
happens to one of them from (seed, epoch, person, draw). Neither the number of workers nor that of
processes enters, and training resumes anywhere by its step.
"""

import functools
import math
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxpose.augment import Augmentation, color, sample
from jaxpose.decode import decode, read_header
from jaxpose.errors import JaxposeError
from jaxpose.geometry import (
    Crop,
    CropRule,
    apply_affine,
    crop_to_image,
    cut,
    example_crop,
    invert_affine,
    reduction,
)
from jaxpose.optional import import_optional
from jaxpose.prepared import PreparedSplit, annotations, open_split, read_example
from jaxpose.skeleton import flip_permutation, joint_index

__all__ = [
    "Batches",
    "PreparedSplit",
    "annotations",
    "evaluation_batches",
    "example_name",
    "open_split",
    "steps_per_epoch",
    "train_batches",
]

WeightedSplits = Sequence[tuple[PreparedSplit, float]]
"""(split, weight) pairs: each person of the split is drawn ``weight`` times an epoch on average."""

_ORDER, _SUBSET, _EXAMPLE = range(3)  # what a random key is for: no two purposes share numbers


def train_batches(
    splits: WeightedSplits,
    *,
    joints: Sequence[str],
    image_size: int,
    batch_size: int,
    rule: CropRule,
    augmentation: Augmentation,
    seed: int,
    start_step: int = 0,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> "Batches":
    """Endless batches of augmented crops.

    An epoch draws each person of a split ``floor(weight)`` times, and a random subset of its
    persons once more, so that the mean is ``weight``; all draws of an epoch are shuffled together.
    What does not fill a batch at an epoch's end is dropped.

    Args:
      splits: (split, weight) pairs.
      joints: J names, the network's order. Joints are matched by name; those that a data set does
        not annotate are not ``known``.
      image_size: S, pixels of a crop's side.
      batch_size: of all processes together.
      rule: how a person's crop is found.
      augmentation: how far it is changed at random.
      seed: of order and augmentation, 0 to 2**32 - 1.
      start_step: number of the first batch; ``steps_per_epoch`` of them make an epoch.
      workers: processes that make batches; 0 uses threads of this process.
      process_index: which contiguous share of every batch this process makes ...
      process_count: ... of how many.

    Returns:
      An iterator of dicts, B = batch_size / process_count rows each: ``image`` uint8 [B, S, S, 3],
      ``keypoints`` float32 [B, J, 2] in [0, 1] of the crop (0 where not labelled), ``labelled``
      bool [B, J] (known position inside the crop), ``known`` bool [B, J], ``weight`` float32 [B],
      ``index`` int64 [B] (position in the concatenation of the splits, see ``example_name``),
      ``readable`` bool [B] (False where the picture did not decode: black, weight 0, nothing
      labelled or known) and ``crop_to_image`` float64 [B, 2, 3]. Close it when done.

    Raises:
      JaxposeError: an epoch has no full batch, the batch does not divide among the processes, a
        weight is not positive, a number is out of range.
    """
    _check_share(batch_size, process_index, process_count)
    if not 0 <= seed < 2**32:
        raise JaxposeError(f"seed {seed} does not fit; use 0 to 2**32 - 1")
    steps = steps_per_epoch(splits, batch_size)
    if not steps:
        raise JaxposeError(
            f"the splits give {sum(_draw_counts(splits))} persons an epoch, fewer than one batch "
            f"of {batch_size}; lower the batch size or raise a weight"
        )
    plan = _TrainPlan(
        sizes=tuple(len(split.source) for split, _ in splits),
        weights=tuple(float(weight) for _, weight in splits),
        seed=seed,
        steps=steps,
        batch_size=batch_size,
        share=_share(batch_size, process_index, process_count),
    )
    maker = _BatchMaker(
        plan, _readers(splits, joints), image_size, len(joints), rule, augmentation
    )
    return Batches(maker, start=start_step, stop=None, workers=workers)


def evaluation_batches(
    split: PreparedSplit,
    *,
    joints: Sequence[str],
    image_size: int,
    batch_size: int,
    rule: CropRule,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> "Batches":
    """Every person of a split once, in order, nothing random.

    Args:
      split: the split.
      joints, image_size, batch_size, rule, workers, process_index, process_count: as
        ``train_batches`` has them.

    Returns:
      An iterator of ceil(N / batch_size) dicts as ``train_batches`` gives; the same number in
      every process. Rows beyond the last person are padding: black, ``index`` -1, weight 0,
      nothing known, ``readable``.

    Raises:
      JaxposeError: the batch does not divide among the processes.
    """
    _check_share(batch_size, process_index, process_count)
    size = len(split.source)
    plan = _EvaluationPlan(size, batch_size, _share(batch_size, process_index, process_count))
    maker = _BatchMaker(
        plan, _readers([(split, 1.0)], joints), image_size, len(joints), rule, None
    )
    return Batches(maker, start=0, stop=-(-size // batch_size), workers=workers)


def steps_per_epoch(splits: WeightedSplits, batch_size: int) -> int:
    """Full batches of an epoch of ``train_batches``, all processes together.

    Raises:
      JaxposeError: a weight is not a positive number.
    """
    return sum(_draw_counts(splits)) // batch_size


def example_name(splits: WeightedSplits, index: int) -> str:
    """What a person is called whom a batch's ``index`` names, for messages.

    Args:
      splits: those that ``train_batches`` was given; ``[(split, 1.0)]`` for
        ``evaluation_batches``.
      index: of a row.

    Returns:
      Such as ``"im0001.jpg (person 0 of lspet train)"``.
    """
    for split, _ in splits:
        if index < len(split.source):
            example = read_example(split, index)
            name = example["image_name"]
            name = name.decode() if isinstance(name, bytes) else str(name)
            return f"{name} (person {int(example['person'])} of {split.name} {split.split})"
        index -= len(split.source)
    raise IndexError(index)


def _check_share(batch_size: int, process_index: int, process_count: int) -> None:
    if batch_size < 1 or batch_size % process_count:
        raise JaxposeError(
            f"batch size {batch_size} does not divide among {process_count} processes; "
            f"use a multiple of {process_count}"
        )
    if not 0 <= process_index < process_count:
        raise JaxposeError(f"process {process_index} is none of {process_count}; count from 0")


def _share(batch_size: int, process_index: int, process_count: int) -> tuple[int, int]:
    rows = batch_size // process_count
    return process_index * rows, (process_index + 1) * rows


def _draw_counts(splits: WeightedSplits) -> list[int]:
    """Draws of each split in an epoch."""
    for split, weight in splits:
        if not (math.isfinite(weight) and weight > 0):
            raise JaxposeError(
                f"weight {weight} of {split.name} {split.split} is not a positive number; "
                "leave the data set out instead"
            )
    return [_copies(len(split.source), weight)[2] for split, weight in splits]


def _copies(size: int, weight: float) -> tuple[int, int, int]:
    """Whole copies, persons drawn once more, and draws in all."""
    whole = math.floor(weight)
    more = round((weight - whole) * size)
    return whole, more, whole * size + more


def _rng(purpose: int, *key: int) -> np.random.Generator:
    # Always five words below 2**32: shorter entropy is padded, and keys would collide.
    words = (purpose, *key, *(0,) * (4 - len(key)))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


@functools.lru_cache(maxsize=4)
def epoch_draws(
    sizes: tuple[int, ...], weights: tuple[float, ...], seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Who is drawn in an epoch, in which order.

    Args:
      sizes: persons of each split.
      weights: of each split.
      seed: of the run.
      epoch: from 0.

    Returns:
      ``(index, draw)``, int64 [D] each: position in the concatenation of the splits, and which
      time of the epoch this is for that person, from 0.
    """
    indices, draws = [], []
    first = 0
    for number, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        whole, more, _ = _copies(size, weight)
        chosen = _rng(_SUBSET, seed, epoch, number).permutation(size)[:more]
        indices += [np.tile(np.arange(size), whole), chosen]
        draws += [np.repeat(np.arange(whole), size), np.full(more, whole)]
        indices[-2:] = [part + first for part in indices[-2:]]
        first += size
    order = _rng(_ORDER, seed, epoch).permutation(sum(map(len, indices)))
    return np.concatenate(indices)[order], np.concatenate(draws)[order]


class _Row(NamedTuple):
    """One row of a batch: whom it holds, and the randomness that is theirs."""

    index: int
    rng: np.random.Generator | None


class _TrainPlan(NamedTuple):
    """The rows of each batch of training that this process makes."""

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    seed: int
    steps: int
    batch_size: int
    share: tuple[int, int]

    def rows(self, step: int) -> list[_Row]:
        epoch, batch = divmod(step, self.steps)
        index, draw = epoch_draws(self.sizes, self.weights, self.seed, epoch)
        first = batch * self.batch_size
        chosen = range(first + self.share[0], first + self.share[1])
        return [
            _Row(int(index[i]), _rng(_EXAMPLE, self.seed, epoch, int(index[i]), int(draw[i])))
            for i in chosen
        ]


class _EvaluationPlan(NamedTuple):
    """The rows of each batch of evaluation that this process makes; -1 pads."""

    size: int
    batch_size: int
    share: tuple[int, int]

    def rows(self, step: int) -> list[_Row]:
        first = step * self.batch_size
        chosen = range(first + self.share[0], first + self.share[1])
        return [_Row(i if i < self.size else -1, None) for i in chosen]


class _Reader(NamedTuple):
    """A split, and where the network's joints stand among its own.

    ``order`` [J] holds indices into the split's joints (-1: it has none), ``mirrored`` the same for
    a mirrored person; ``known`` [J] tells whether the split annotates the joint.
    """

    split: PreparedSplit
    order: np.ndarray
    mirrored: np.ndarray
    known: np.ndarray


def _readers(splits: WeightedSplits, joints: Sequence[str]) -> list[_Reader]:
    readers = []
    for split, _ in splits:
        order = joint_index(split.joints, joints)
        exchanged = flip_permutation(split.joints, split.flip_pairs)
        annotated = np.array(split.annotated or (True,) * len(split.joints))
        readers.append(
            _Reader(
                split,
                order,
                np.where(order < 0, -1, exchanged[order]),
                (order >= 0) & annotated[order],
            )
        )
    return readers


class _BatchMaker(NamedTuple):
    """Makes the batch of a step; a value that travels to the workers."""

    plan: _TrainPlan | _EvaluationPlan
    readers: list[_Reader]
    image_size: int
    num_joints: int
    rule: CropRule
    augmentation: Augmentation | None

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        rows = self.plan.rows(step)
        batch = _empty_batch(len(rows), self.image_size, self.num_joints)
        for place, row in enumerate(rows):
            if row.index >= 0:
                self._fill(batch, place, row)
        return batch

    def _fill(self, batch: dict[str, np.ndarray], place: int, row: _Row) -> None:
        """Writes one person into a row of the batch."""
        batch["index"][place] = row.index
        reader, example = self._read(row.index)
        header = read_header(example["image"])
        if header is not None:
            example = {**example, "picture_size": (header.width, header.height)}
        crop = example_crop(example, self.rule)
        if self.augmentation is not None:
            crop = sample(row.rng, crop, self.augmentation)
        matrix = crop_to_image(crop)
        batch["crop_to_image"][place] = matrix
        decoded = decode(example["image"], reduction=reduction(crop.side, self.image_size))
        if decoded is None:
            batch["readable"][place] = False
            return
        image, reduced = decoded
        target = cut(image, crop, self.image_size, reduced=reduced, out=batch["image"][place])
        if self.augmentation is not None:
            color(row.rng, target, self.augmentation.color)
        batch["weight"][place] = 1
        keypoints, labelled = _joints_in_crop(reader, example, crop, matrix)
        batch["keypoints"][place] = keypoints
        batch["labelled"][place] = labelled
        batch["known"][place] = reader.known

    def _read(self, index: int):
        for reader in self.readers:
            if index < len(reader.split.source):
                return reader, read_example(reader.split, index)
            index -= len(reader.split.source)
        raise IndexError(index)


def _joints_in_crop(
    reader: _Reader, example, crop: Crop, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints [J, 2] in the crop's coordinates by the network's joints, and ``labelled`` [J]."""
    order = reader.mirrored if crop.flip else reader.order
    points = apply_affine(invert_affine(matrix), np.asarray(example["keypoints"]))[order]
    inside = ((points >= 0) & (points <= 1)).all(axis=-1)
    labelled = np.asarray(example["labelled"], bool)[order] & (order >= 0) & inside
    return np.where(labelled[:, None], points, 0.0), labelled


def _empty_batch(rows: int, size: int, joints: int) -> dict[str, np.ndarray]:
    """A batch of nothing but padding."""
    return {
        "image": np.zeros((rows, size, size, 3), np.uint8),
        "keypoints": np.zeros((rows, joints, 2), np.float32),
        "labelled": np.zeros((rows, joints), bool),
        "known": np.zeros((rows, joints), bool),
        "weight": np.zeros(rows, np.float32),
        "index": np.full(rows, -1, np.int64),
        "readable": np.ones(rows, bool),
        "crop_to_image": np.tile(np.eye(2, 3), (rows, 1, 1)),
    }


_ENDLESS = 2**40  # steps; Grain wants a length
_RESTARTS = 3  # of workers that were killed, before we give up
_WORKER_DIED = "terminated unexpectedly"  # Grain has no type of its own for it


class Batches:
    """Iterator of batches that are made ahead, in threads or worker processes.

    Workers that are killed (out of memory, say) are started again where they stopped, with a
    warning; the third time it is an error. ``close`` ends them; the iterator does so itself at its
    end and when it is collected.
    """

    def __init__(
        self, maker: Callable[[int], dict], *, start: int, stop: int | None, workers: int
    ):
        self._maker = maker
        self._next = start
        self._stop = _ENDLESS if stop is None else stop
        self._workers = workers
        self._restarts = 0
        self._iterator = self._started()

    def _started(self):
        grain = import_optional("grain", extra="train")
        _one_thread_per_call()
        dataset = grain.MapDataset.range(self._next, self._stop).map(self._maker)
        if not self._workers:
            threads = min(4, os.cpu_count() or 1)
            options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
            iterator = iter(dataset.to_iter_dataset(options))
        else:
            _mark_flags_as_parsed()
            options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
            dataset = dataset.to_iter_dataset(options).mp_prefetch(
                grain.MultiprocessingOptions(self._workers, per_worker_buffer_size=2),
                worker_init_fn=_start_worker,
            )
            iterator = iter(dataset)
        iterator.start_prefetch()
        return iterator

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._iterator is None or self._next >= self._stop:
            self.close()
            raise StopIteration
        while True:
            try:
                batch = next(self._iterator)
            except Exception as error:
                self.close()
                if _WORKER_DIED not in str(error):
                    raise
                self._start_again(error)
            else:
                self._next += 1
                return batch

    def _start_again(self, error: Exception) -> None:
        """Deterministic batches make this exact: the new workers begin with the missing one."""
        if self._restarts == _RESTARTS:
            raise JaxposeError(
                f"input workers were killed {_RESTARTS + 1} times; is memory short? "
                "use fewer workers, or workers=0"
            ) from error
        self._restarts += 1
        warnings.warn(
            f"an input worker was killed; starting the workers again at batch {self._next}",
            RuntimeWarning,
            stacklevel=3,
        )
        self._iterator = self._started()

    def close(self) -> None:
        """Ends threads and workers; closing twice does nothing more."""
        iterator, self._iterator = getattr(self, "_iterator", None), None
        if iterator is not None:
            iterator.close()
            if self._workers:
                _end_deleting_threads()

    def __del__(self):
        self.close()


def _end_deleting_threads() -> None:
    """Ends Grain's threads that free shared memory, which it leaves running: freeing goes on
    without them, in whatever thread drops a batch."""
    try:
        from grain._src.python.ipc.shared_memory_array import SharedMemoryArray

        pool = SharedMemoryArray._del_thread_pool
        if pool is not None:
            pool.close()
            pool.join()  # before the pool is forgotten: what it still has to free counts on it
            SharedMemoryArray._disable_async_del()
    except (ImportError, AttributeError):  # another Grain, whose threads are its own affair
        pass


def _mark_flags_as_parsed() -> None:
    """Grain's workers read absl flags, which only programs that absl started have parsed."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _one_thread_per_call() -> None:
    """Workers are our parallelism: OpenCV's own threads would only fight them."""
    import_optional("cv2", extra="train").setNumThreads(1)


def _start_worker(worker: int, count: int) -> None:
    """Runs first in every worker process."""
    del worker, count
    _one_thread_per_call()
    # Ctrl-C and a cluster's SIGTERM reach the whole process group: the main process decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A main process that was killed cannot end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
