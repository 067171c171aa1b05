"""Prefetch batches with Grain, in threads or in worker processes."""

import functools
import multiprocessing
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from jaxpose import _compat
from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional
from jaxpose.storage import use_gcsfs, uses_gcsfs

T = TypeVar("T")
_ENDLESS = 2**40  # steps; Grain needs a length
_RESTARTS = 3  # restarts of killed workers before an error is raised


class Batches(Generic[T]):
    """Iterator of batches that are prefetched in threads or worker processes.

    Workers that are killed (for example, out of memory) are restarted where they stopped, with a
    warning. After three restarts, an error is raised. ``close`` stops threads and workers; this
    also happens when the iterator is exhausted or garbage-collected and when the program exits.

    Args:
      maker: function from the number of a batch to the batch; picklable, so that it can be sent to
        worker processes.
      start: number of the first batch.
      stop: number after the last batch, or None for an endless iterator.
      workers: number of worker processes; 0 makes batches in threads of this process.
    """

    def __init__(self, maker: Callable[[int], T], *, start: int, stop: int | None, workers: int):
        self._maker = maker
        self._next = start
        self._stop = _ENDLESS if stop is None else stop
        self._workers = workers
        self._restarts = 0
        self._start()

    def _start(self) -> None:
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
                worker_init_fn=functools.partial(_start_worker, uses_gcsfs()),
            )
            iterator = iter(dataset)
        iterator.start_prefetch()
        self._iterator = iterator
        # Not __del__: at interpreter shutdown, the modules that it needs may be gone.
        self._end = weakref.finalize(self, _end, iterator, self._workers > 0)

    def __iter__(self) -> "Batches[T]":
        return self

    def __next__(self) -> T:
        if not self._end.alive or self._next >= self._stop:
            self.close()
            raise StopIteration
        while True:
            try:
                batch = next(self._iterator)
            except Exception as error:
                self.close()
                if not _compat.is_grain_worker_death(error):
                    raise
                self._start_again(error)
            else:
                self._next += 1
                return batch

    def _start_again(self, error: Exception) -> None:
        """Restart the workers at the missing batch; batches are deterministic, so this is exact."""
        if self._restarts == _RESTARTS:
            raise JaxposeError(
                f"input workers were killed {_RESTARTS + 1} times; memory or /dev/shm may be "
                "exhausted: use fewer workers, smaller batches, or workers=0"
            ) from error
        self._restarts += 1
        warnings.warn(
            f"an input worker was killed; restarting the workers at batch {self._next}",
            RuntimeWarning,
            stacklevel=3,
        )
        self._start()

    def close(self) -> None:
        """Stop threads and workers. Calling it again has no effect."""
        self._iterator = None
        self._end()


def _end(iterator, workers: bool) -> None:
    """Stop the threads or workers of an iterator."""
    iterator.close()
    if workers:
        _compat.end_grain_threads()


def _mark_flags_as_parsed() -> None:
    """Mark absl flags as parsed: Grain's workers read them, and only absl programs parse them."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _one_thread_per_call() -> None:
    """Disable OpenCV's threads, which would compete with the workers."""
    import_optional("cv2", extra="train").setNumThreads(1)


def _start_worker(remote: bool, worker: int, count: int) -> None:
    """Run first in every worker process, before the maker is unpickled there."""
    del worker, count
    _one_thread_per_call()
    if remote:
        use_gcsfs()
    # Ctrl-C and a cluster's SIGTERM reach the whole process group; only the main process acts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the main process is gone: a killed process cannot stop its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
