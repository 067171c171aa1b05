"""Allow only one launch at a time on object storage (no file locks), by renewing a lease.

The holder rewrites the object ``.lease`` every few seconds; the write fails if another process has
written the object in between. A launch that finds a lease observes it and takes it over only if it
stays unchanged. No clocks are compared.
"""

import contextlib
import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from jaxpose.errors import JaxposeError, first_line
from jaxpose.optional import import_optional
from jaxpose.runtime.phases import phase, repeated

NAME = ".lease"
RENEW_SECONDS = 10.0
RENEWALS_TO_EXPIRE = 5  # missed renewals after which a lease counts as expired


@contextlib.contextmanager
def hold_lease(folder: str, *, lost: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lease of a run's folder while the context lasts.

    Args:
      folder: its URL, in the form that TensorStore accepts: ``gs://BUCKET/PATH``.
      lost: called from another thread with a one-line message if another launch has taken over
        the lease. This can happen after this process was suspended or disconnected from the store
        for a long time. By default the process exits, because it must not write anything more.

    Raises:
      JaxposeError: another launch holds it, or the folder cannot be written.
    """
    try:
        lease = _Lease(folder)
        lease.acquire()
    except JaxposeError:
        raise
    except Exception as error:  # TensorStore's exceptions depend on the status of the request
        raise JaxposeError(
            f"workdir {folder} cannot be written ({first_line(error)}); check your access to it, "
            "or choose another --workdir"
        ) from error

    def renew() -> bool:
        try:
            held = lease.renew()
        except Exception:  # the store is unreachable, so nobody else can take the lease
            return True
        if not held:
            (lost or _end_process)(
                f"another launch has taken over {folder} while this one was suspended or could "
                "not reach the folder; this launch is stopping"
            )
        return held

    try:
        with repeated(renew, seconds=RENEW_SECONDS):
            yield
    finally:
        with contextlib.suppress(Exception):  # it expires by itself
            lease.release()


def _end_process(line: str) -> None:
    print(f"error: {line}", file=sys.stderr, flush=True)
    os._exit(1)


class _Lease:
    """The lease object of a folder; ``generation`` is the version that this process wrote."""

    def __init__(self, folder: str):
        tensorstore = import_optional("tensorstore", extra="cloud")
        self._folder = folder
        self._store = tensorstore.KvStore.open(folder.rstrip("/") + "/").result()
        self._id = uuid.uuid4().hex
        self._generation = b""

    def acquire(self) -> None:
        found = self._read()
        if found.state == "value":
            found = self._watch(found)
        if not self._write(found.stamp.generation):
            raise JaxposeError(_taken(self._folder, self._read()))

    def _watch(self, found: Any) -> Any:
        """Wait until the lease that was found is released or expires."""
        with phase(
            f"{_owner(found)} holds the lease of {self._folder}; checking whether it is still "
            "running"
        ):
            for _ in range(RENEWALS_TO_EXPIRE):
                time.sleep(RENEW_SECONDS)
                now = self._read()
                if now.state != "value":
                    return now
                if now.stamp.generation != found.stamp.generation:
                    raise JaxposeError(_taken(self._folder, now))
        return found

    def renew(self) -> bool:
        """Renew the lease. Returns False if another launch holds it."""
        if self._write(self._generation):
            return True
        # A write that was retried after a network error may have succeeded the first time.
        found = self._read()
        if self._id.encode() not in found.value:
            return False
        self._generation = found.stamp.generation
        return True

    def release(self) -> None:
        self._store.write(NAME, None, if_equal=self._generation).result()

    def _read(self) -> Any:
        return self._store.read(NAME).result()

    def _write(self, generation: bytes) -> bool:
        """Overwrite the object if its version is still ``generation``; return whether it was."""
        owner = {"id": self._id, "host": socket.gethostname(), "process": os.getpid()}
        stamp = self._store.write(NAME, json.dumps(owner).encode(), if_equal=generation).result()
        if not stamp.generation:
            return False
        self._generation = stamp.generation
        return True


def _owner(found: Any) -> str:
    try:
        owner = json.loads(found.value)
        return f"another launch (process {owner['process']} on {owner['host']})"
    except (ValueError, KeyError, TypeError):
        return "another launch"


def _taken(folder: str, found: Any) -> str:
    return f"{_owner(found)} is using {folder}; wait for it to finish, or choose another --workdir"
