"""Multi-process runs: initialization, communication, and preemption."""

import itertools
import os
import signal
import sys
import threading

import jax
import numpy as np

from jaxpose.errors import JaxposeError, UsageError, first_line
from jaxpose.optional import import_optional

HEARTBEAT_SECONDS = 100  # JAX's default; a computer network may stall for a minute
# How long a process waits at its end for the others. Process 0 alone writes the report, which reads
# all training examples; JAX's default of 5 minutes would kill it. Dead processes miss heartbeats.
_SHUTDOWN_SECONDS = 24 * 60 * 60
_BARRIERS = itertools.count()
_CLUSTER_VARIABLES = (
    "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "JOB_COMPLETION_INDEX", "TPU_WORKER_HOSTNAMES",
    "MEGASCALE_COORDINATOR_ADDRESS", "JAX_COORDINATOR_ADDRESS",
)  # fmt: skip


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
) -> None:
    """Initialize ``jax.distributed``; does nothing for a single process.

    Without arguments, SLURM, Open MPI, Kubernetes and Cloud TPU are detected as in
    ``jax.distributed.initialize``.

    Args:
      coordinator: host:port of process 0.
      num_processes: number of processes of the run.
      process_id: number of this process, from 0.
      heartbeat_seconds: if a process sends no heartbeat for this many seconds, the runtime stops
        the others.

    Raises:
      UsageError: only some of ``coordinator``, ``num_processes`` and ``process_id`` are given, or
        ``heartbeat_seconds`` is below 1.
      JaxposeError: the other processes cannot be reached.
    """
    given = [coordinator is not None, num_processes is not None, process_id is not None]
    if any(given) and not all(given):
        raise UsageError(
            "give --coordinator, --num_processes and --process_id together, or none of them"
        )
    if heartbeat_seconds < 1:
        raise UsageError(f"--heartbeat_seconds is {heartbeat_seconds}; it must be 1 or more")
    if not any(given) and not _in_cluster():
        return
    try:
        jax.distributed.initialize(
            coordinator_address=coordinator,
            num_processes=num_processes,
            process_id=process_id,
            heartbeat_timeout_seconds=heartbeat_seconds,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise JaxposeError(
            f"the processes of this run could not find each other: {first_line(error)}; check that "
            f"{coordinator or 'the coordinator'} is reachable from every process"
        ) from error


def _in_cluster() -> bool:
    """Whether a launcher's environment variables indicate several processes."""
    alone = {"SLURM_NTASKS": "1", "OMPI_COMM_WORLD_SIZE": "1"}
    for name in _CLUSTER_VARIABLES:
        value = os.environ.get(name, "")
        if name == "TPU_WORKER_HOSTNAMES":
            if "," in value:
                return True
        elif value and value != alone.get(name):
            return True
    return False


def gather_over_processes(values: np.ndarray) -> np.ndarray:
    """Gather values [...] of the P processes, in their own precision, as [P, ...]."""
    values = np.asarray(values)
    if jax.process_count() == 1:
        return values[None]
    from jax.experimental import multihost_utils

    # As bytes: JAX would convert float64 to float32, so results would depend on the number of
    # processes.
    mine = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    gathered = np.ascontiguousarray(multihost_utils.process_allgather(mine)).view(values.dtype)
    return gathered.reshape(len(gathered), *values.shape)


def sum_over_processes(values: np.ndarray) -> np.ndarray:
    """Sum values [...] over all processes in their own precision; returns an array [...]."""
    if jax.process_count() == 1:
        return values
    return gather_over_processes(values).sum(axis=0, dtype=values.dtype)


def barrier() -> None:
    """Wait for the other processes in the runtime's barrier; does nothing for a single process.

    Use it before the first collective operation: on CPUs, that operation fails if another process
    starts it more than 30 seconds later, while the barrier waits for 5 minutes (Orbax's default).
    """
    if jax.process_count() > 1:
        multihost = import_optional("orbax.checkpoint.multihost", extra="train")
        # Passing the processes selects the runtime's barrier instead of a sum over devices; barrier
        # names cannot be reused.
        everybody = set(range(jax.process_count()))
        multihost.sync_global_processes(f"jaxpose {next(_BARRIERS)}", processes=everybody)


def same_everywhere(value: int) -> bool:
    """Whether every process has the same number; True for a single process."""
    if jax.process_count() == 1:
        return True
    from jax.experimental import multihost_utils

    return bool((multihost_utils.process_allgather(np.int32(value)) == value).all())


def abort(status: int) -> None:
    """Exit immediately after a failure in a multi-process run.

    A normal exit would deadlock: this process would wait for the others in the runtime's barrier
    while they wait for it in a collective. When its heartbeat stops, the runtime stops the others.
    Does nothing for a single process or before initialization.
    """
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class Preemption:
    """Detect SIGTERM, on all processes at the same step.

    A context manager. With one process, the first SIGTERM asks the loop to save and stop, a second
    one kills the process. With several processes, JAX's runtime catches the signal, at any
    time of the run, and chooses the same step for all of them.
    """

    def __init__(self):
        self._asked = threading.Event()
        self._before = None
        self._times = 0

    def __enter__(self):
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            self._before = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, *_):
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _handle(self, number, frame):
        if self._asked.is_set():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        self._asked.set()

    def reached(self) -> bool:
        """Whether to save and stop after this step. Every process calls it after every step."""
        if jax.process_count() == 1:
            return self._asked.is_set()
        from jax.experimental import multihost_utils

        # The runtime chooses the number after the largest one that was queried so far, and returns
        # True for that number only. Queries are counted from the start of the process, not by
        # training step, so that the first query handles a signal that was received before it.
        self._times += 1
        return multihost_utils.reached_preemption_sync_point(self._times)
