"""Private interfaces and error texts of libraries, all in one place.

The libraries have no public interface for what this module uses. Each entry names the version of
the library that it was tested with, what to check when a new version is released, and when the
entry can be removed.
"""

import logging
import os
import re
import time
from typing import Any

from jaxpose.errors import first_line
from jaxpose.optional import import_optional

logger = logging.getLogger(__name__)

# Orbax 0.12 writes a checkpoint to a folder with such a name, and renames the folder when the
# checkpoint is complete. Its post_finalization_callback runs just before the renaming, and does not
# receive the path of the folder. Remove when it does.
ORBAX_UNFINISHED = "*.orbax-checkpoint-tmp*"

# On object storage, which cannot rename a folder, Orbax 0.12 writes this file of a checkpoint last.
# Remove when Orbax can move a checkpoint.
ORBAX_COMMIT_FILE = "commit_success.txt"


def disable_orbax_preemption(manager: Any) -> None:
    """Keep an Orbax manager from asking JAX's runtime whether a preemption was announced.

    Orbax 0.12 asks in every ``save``, in its own thread and with its own step, but the runtime
    supports only one caller: the processes would miss the step that
    ``runtime.processes.Preemption`` chose for all of them. google/orbax#3406 is about this call
    while the runtime's service is off. Remove when ``CheckpointManagerOptions`` has a switch for
    it.
    """
    manager.reached_preemption = lambda step: False


def tensorboard_events() -> tuple[Any, Any]:
    """Return tensorboardX's protocol buffers (``Event``, ``SessionLog``) and event-file writer.

    The public ``SummaryWriter`` of tensorboardX 2.6 writes in a thread; after a full disk has ended
    that thread, the tenth record blocks forever. ``EventsWriter`` writes in the caller's thread and
    raises errors there. Remove when ``SummaryWriter`` reports failed writes.
    """
    protocol = import_optional("tensorboardX.proto.event_pb2", extra="train")
    writers = import_optional("tensorboardX.event_file_writer", extra="train")
    return protocol, writers.EventsWriter


def end_grain_threads() -> None:
    """Stop Grain's threads that free shared memory; call it after closing their iterators.

    Grain 0.2 starts them with the first worker processes and never stops them; they fail at
    interpreter exit (as in google/grain#398). After this call, an array is freed by the thread that
    releases it. Remove when closing an iterator of ``mp_prefetch`` stops them.
    """
    try:
        from grain._src.python.ipc.shared_memory_array import SharedMemoryArray

        pool = SharedMemoryArray._del_thread_pool
        if pool is not None:
            pool.close()
            pool.join()  # before the pool is released: pending frees still need it
            SharedMemoryArray._disable_async_del()
    except (ImportError, AttributeError):  # a release without these names
        pass


def is_grain_worker_death(error: Exception) -> bool:
    """Whether Grain reports that a worker process was killed.

    Grain 0.2 raises a plain RuntimeError, in ``dataset/transformations/process_prefetch.py``.
    Remove when it raises a specific type.
    """
    return "terminated unexpectedly" in str(error)


def tensorstore_reason(text: str) -> str | None:
    """Extract the operating system's message from an error of TensorStore 0.1, if any.

    TensorStore raises ValueError with the message after file names, followed by
    ``[os_error_code='...'``. Remove when it raises OSError with an ``errno``.
    """
    match = re.search(r": ([^:\[\n]+) \[os_error_code", text)
    return match[1] if match else None


def is_closed_event_loop(error: BaseException | None) -> bool:
    """Whether asyncio reports a loop that Orbax closed while a failed write was pending.

    Orbax 0.12 leaves coroutines pending when TensorStore fails; Python reports each one when it is
    garbage-collected. Remove when a save to a full disk prints only its exception.
    """
    return str(error) == "Event loop is closed"


def npz_error_reason(error: Exception) -> str:
    """Describe in one line why NumPy cannot read an .npz file.

    For pickled Python objects NumPy 2 raises ValueError with advice to pass ``allow_pickle``.
    Remove when NumPy raises a specific type for them.
    """
    if "allow_pickle" in str(error):
        return "it contains Python objects, which are never loaded"
    return first_line(error)


def is_truncated_hdf5(error: Exception) -> bool:
    """Whether HDF5 cannot open a file because it is truncated.

    h5py 3 raises OSError without an ``errno`` both for truncated files and for other formats.
    Remove when the two can be distinguished.
    """
    return "truncated" in str(error)


def lacks_get_config(error: AttributeError) -> bool:
    """Whether ml_collections did not find ``get_config`` in a config file.

    ml_collections 1.1 passes on the module's AttributeError, which has the same type as the error
    for an unknown field, and no ``error.name``. Remove when it raises a specific error.
    """
    return "get_config" in str(error)


def unknown_config_field(error: AttributeError) -> tuple[str, str | None]:
    """Return a config field that ml_collections does not know, and its suggestion.

    In ml_collections 1.1, the first word of the message, which may be a repr, is the field without
    its section; the suggestion follows ``Did you mean``. Remove when the error has both as
    attributes.
    """
    message = str(error)
    close = re.search(r'Did you mean "(\w+)"', message)
    return re.findall(r"\w+", message)[0], close and close[1]


def misspelled_config_field(error: BaseException) -> tuple[str, str | None] | None:
    """Return a field that a config file sets but the config does not have, and its suggestion.

    None for other errors. In ml_collections 1.1, the message contains all fields of the config.
    Remove when the error has both as attributes.
    """
    found = re.search(r'Key "(\w+)" does not exist and cannot be added', str(error))
    close = re.search(r'Did you mean "(\w+)"', str(error))
    return (found[1], close and close[1]) if found else None


def assigned_config_section(error: Exception) -> str | None:
    """Return the flag of a config's section that was assigned a value, None for other errors.

    ml_collections 1.1 raises the same type for all values that it cannot parse. Remove when it
    raises a specific error.
    """
    found = re.search(r"--(config\.[\w.]+)=.* as a ConfigDict", str(error), re.DOTALL)
    return found and found[1]


def config_error_reason(error: Exception) -> str:
    """Extract the reason from an error of absl or ml_collections about a flag.

    ml_collections 1.1 puts a full traceback into the message; the last line is the reason. Remove
    when the message is only that line.
    """
    text = error.args[0] if isinstance(error, KeyError) else error
    lines = str(text).strip().splitlines() or [repr(error)]
    return lines[-1].strip().removeprefix("ValueError: ")


def system_error_reason(text: str, numbers: tuple[int, ...]) -> str | None:
    """Find the operating system's message in a library's error text.

    Orbax 0.12 and TensorStore 0.1 convert OSError to other types. Remove with
    ``tensorstore_reason``.
    """
    return next((os.strerror(n) for n in numbers if os.strerror(n) in text), None)


def patient_filesystem(base: type, seconds: float) -> type:
    """Make a gcsfs class that retries requests for ``seconds`` while the store does not respond.

    gcsfs 2026.10 gives up after six tries, about half a minute; decorators of its methods fix this
    number, and ``gcsfs.retry`` is not documented. Remove when the number of tries can be set.
    """
    retry = import_optional("gcsfs.retry", extra="cloud")

    class Patient(base):
        """``base`` with more retries."""

        async def _request(self, method, path, *args, **kwargs):
            end = time.monotonic() + seconds
            while True:
                try:
                    return await super()._request(method, path, *args, **kwargs)
                except Exception as error:
                    if not (retry.is_retriable(error) or isinstance(error, TimeoutError)):
                        raise
                    if time.monotonic() > end:
                        raise OSError(
                            f"object storage has not responded for {seconds:.0f} s: {error}"
                        ) from error
                    logger.warning("object storage does not respond (%s); retrying", error)

    return Patient
