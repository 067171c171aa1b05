"""Private interfaces and error texts of libraries, all in one place.

Libraries offer nothing public for what stands here. Each entry says what to look for in a new
release and when it can be removed; the versions are those it was written against.
"""

import logging
import os
import re
import time
from typing import Any

from jaxpose.errors import first_line
from jaxpose.optional import import_optional

logger = logging.getLogger(__name__)

# Orbax 0.12 writes a checkpoint to a folder of such a name and renames it when it is complete. Its
# post_finalization_callback runs just before that and is not told the folder. Remove when the
# callback receives the path.
ORBAX_UNFINISHED = "*.orbax-checkpoint-tmp*"

# On object storage, which cannot rename a folder, Orbax 0.12 writes this file of a checkpoint last.
# Remove when Orbax can move a checkpoint.
ORBAX_COMMIT_FILE = "commit_success.txt"


def disable_orbax_preemption(manager: Any) -> None:
    """Keep an Orbax manager from asking JAX's runtime whether a preemption was announced.

    Orbax 0.12 asks in every ``save``, from a thread of its own and by its own step, and the runtime
    answers only one caller: the processes would miss the step that ``runtime.processes.Preemption``
    agreed on. google/orbax#3406 describes the call, for the case that the runtime's service is off.
    Remove when ``CheckpointManagerOptions`` has a switch for it.
    """
    manager.reached_preemption = lambda step: False


def tensorboard_events() -> tuple[Any, Any]:
    """TensorboardX's protocol buffers (``Event``, ``SessionLog``) and its writer of event files.

    The public ``SummaryWriter`` of tensorboardX 2.6 hands records to a thread; when a full disk
    ends that thread, the tenth record after it blocks forever. ``EventsWriter`` writes in the
    caller's thread and raises its errors. Remove when ``SummaryWriter`` reports a failed write.
    """
    protocol = import_optional("tensorboardX.proto.event_pb2", extra="train")
    writers = import_optional("tensorboardX.event_file_writer", extra="train")
    return protocol, writers.EventsWriter


def end_grain_threads() -> None:
    """End Grain's threads that free shared memory, after the iterators that started them.

    Grain 0.2 starts them with the first worker processes and never ends them; at the end of the
    interpreter they fail (as in google/grain#398). Without them an array is freed by the thread
    that drops it. Remove when closing an iterator of ``mp_prefetch`` ends them.
    """
    try:
        from grain._src.python.ipc.shared_memory_array import SharedMemoryArray

        pool = SharedMemoryArray._del_thread_pool
        if pool is not None:
            pool.close()
            pool.join()  # before the pool is forgotten: what it still has to free counts on it
            SharedMemoryArray._disable_async_del()
    except (ImportError, AttributeError):  # a release without these names
        pass


def is_grain_worker_death(error: Exception) -> bool:
    """Whether Grain reports that a worker process was killed.

    Grain 0.2 raises a plain RuntimeError, in ``dataset/transformations/process_prefetch.py``.
    Remove when it has a type of its own.
    """
    return "terminated unexpectedly" in str(error)


def tensorstore_reason(text: str) -> str | None:
    """The operating system's message within an error of TensorStore 0.1, if there is one.

    TensorStore raises ValueError with the message behind file names, followed by
    ``[os_error_code='...'``. Remove when it raises OSError with an ``errno``.
    """
    match = re.search(r": ([^:\[\n]+) \[os_error_code", text)
    return match[1] if match else None


def is_closed_event_loop(error: BaseException | None) -> bool:
    """Whether asyncio complains of a loop that Orbax closed while a failed write was pending.

    Orbax 0.12 leaves coroutines behind when TensorStore fails; Python reports each when it is
    collected. Remove when a save to a full disk prints nothing beside its exception.
    """
    return str(error) == "Event loop is closed"


def npz_error_reason(error: Exception) -> str:
    """Why NumPy cannot read an .npz file, in one line.

    For pickled Python objects NumPy 2 raises ValueError with advice to pass ``allow_pickle``.
    Remove when it has a type of its own for them.
    """
    if "allow_pickle" in str(error):
        return "it holds Python objects, which are never loaded"
    return first_line(error)


def is_cut_off_hdf5(error: Exception) -> bool:
    """Whether HDF5 refused a file because its end is missing.

    h5py 3 raises OSError without an ``errno`` for it, as for files of another format. Remove when
    the two can be told apart.
    """
    return "truncated" in str(error)


def lacks_get_config(error: AttributeError) -> bool:
    """Whether ml_collections looked in vain for a config file's ``get_config``.

    ml_collections 1.1 lets the AttributeError of the module through, like that of an unknown field.
    ``error.name`` is not set for it. Remove when it raises an error of its own.
    """
    return "get_config" in str(error)


def unknown_config_field(error: AttributeError) -> tuple[str, str | None]:
    """The field that ml_collections does not know, and its suggestion of another.

    ml_collections 1.1 names the field without its section, first in a message that may be a repr,
    and suggests one by ``Did you mean "..."``. Remove when the error carries both as attributes.
    """
    message = str(error)
    close = re.search(r'Did you mean "(\w+)"', message)
    return re.findall(r"\w+", message)[0], close and close[1]


def config_error_reason(error: Exception) -> str:
    """The line that says what is wrong, of an error of absl or ml_collections about a flag.

    ml_collections 1.1 puts a whole traceback into the message, whose last line is the reason.
    Remove when the message is that line.
    """
    text = error.args[0] if isinstance(error, KeyError) else error
    lines = str(text).strip().splitlines() or [repr(error)]
    return lines[-1].strip().removeprefix("ValueError: ")


def system_error_reason(text: str, numbers: tuple[int, ...]) -> str | None:
    """The first of the operating system's messages that a library's error text contains.

    Orbax 0.12 and TensorStore 0.1 turn OSError into other types. Remove with
    ``tensorstore_reason``.
    """
    return next((os.strerror(n) for n in numbers if os.strerror(n) in text), None)


def patient_filesystem(base: type, seconds: float) -> type:
    """A gcsfs file system that repeats requests for so long while the store does not answer.

    gcsfs 2026.10 gives up after six tries, about half a minute; the number is bound where its
    methods are decorated, and ``gcsfs.retry`` is not in its documentation.
    Remove when the number of tries can be set.
    """
    retry = import_optional("gcsfs.retry", extra="cloud")

    class Patient(base):
        """`base`, with more tries."""

        async def _request(self, method, path, *args, **kwargs):
            end = time.monotonic() + seconds
            while True:
                try:
                    return await super()._request(method, path, *args, **kwargs)
                except Exception as error:
                    if not (retry.is_retriable(error) or isinstance(error, TimeoutError)):
                        raise
                    if time.monotonic() > end:
                        raise OSError(f"object storage does not answer: {error}") from error
                    logger.warning("object storage does not answer (%s); trying again", error)

    return Patient
