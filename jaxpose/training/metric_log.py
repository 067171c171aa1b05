"""Logs of a training run: metrics.jsonl, TensorBoard events, a progress bar."""

import contextlib
import json
import math
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

from jaxpose import _compat
from jaxpose.errors import JaxposeError
from jaxpose.paths import is_remote
from jaxpose.runtime.progress import progress_bar
from jaxpose.storage import replace_file

# In records written before 0.1.0. Remove in 1.0.
_OLD_METRIC = "score"  # old spelling


class RunLog:
    """Write one JSON line per record; TensorBoard events are a copy.

    ``metrics.jsonl`` is authoritative. On resume it is truncated to the records up to the restored
    step, so that the log of a resumed run has no duplicates. NaN is written as null. On object
    storage, files cannot grow: ``metrics.jsonl`` and the event file are kept in a temporary folder,
    and ``upload`` copies them before each checkpoint.
    """

    def __init__(self, workdir: pathlib.Path, *, step: int, num_steps: int, active: bool = True):
        self._active = active
        self._bar: Any = None
        if not active:
            return
        self._workdir, self._temporary = workdir, None
        records = [r for r in read_records(workdir / "metrics.jsonl") if r["step"] <= step]
        if is_remote(workdir):
            self._temporary = tempfile.TemporaryDirectory()
            workdir = pathlib.Path(self._temporary.name)
        self._path = workdir / "metrics.jsonl"
        with self._one_line_errors():
            _replace_lines(self._path, records)
            self._file = self._path.open("a", encoding="utf-8")
            self._events = _Events(workdir / "tensorboard", purge_step=step + 1 if step else None)
        self._bar = progress_bar(
            initial=step, total=num_steps, unit="step", dynamic_ncols=True, file=sys.stderr,
            mininterval=1.0, disable=None if sys.stderr.isatty() else True, extra="train",
        )  # fmt: skip

    def write(self, kind: str, step: int, values: dict) -> None:
        """Append one record; nested dicts of numbers become TensorBoard scalars a/b/c."""
        if not self._active:
            return
        record = {"kind": kind, "step": step, "time": round(time.time(), 3), **_plain(values)}
        with self._one_line_errors():
            self._file.write(json.dumps(record, allow_nan=False) + "\n")
            self._file.flush()
            self._events.write(step, dict(_scalars(kind, values)))

    def progress(self, step: int, text: str) -> None:
        """Move the bar; without a terminal, print a line."""
        if not self._active:
            return
        if self._bar.disable:
            print(f"step {step}/{self._bar.total}: {text}", file=sys.stderr, flush=True)
        else:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)

    def info(self, text: str, *, everywhere: bool = False) -> None:
        """Print a line above the bar, on the logging process only or on all of them."""
        if not self._active:
            if everywhere:
                print(text, file=sys.stderr, flush=True)
            return
        if self._bar.disable:
            print(text, file=sys.stderr, flush=True)
        else:
            self._bar.write(text, file=sys.stderr)

    def upload(self) -> None:
        """Copy the files to object storage, so that they are there when a checkpoint is saved."""
        if not self._active or self._temporary is None:
            return
        with self._one_line_errors():
            for file in (self._path, *(self._path.parent / "tensorboard").iterdir()):
                name = file.relative_to(self._path.parent).as_posix()
                replace_file(self._workdir / name, file.read_bytes())

    def close(self) -> None:
        """Flush, upload and close everything."""
        if not self._active:
            return
        with self._one_line_errors(), contextlib.ExitStack() as stack:
            if self._temporary is not None:
                stack.callback(self._temporary.cleanup)
                stack.callback(self.upload)
            stack.callback(self._bar.close)
            stack.callback(self._events.close)
            stack.callback(self._file.close)
            self._file.flush()
            os.fsync(self._file.fileno())

    @contextlib.contextmanager
    def _one_line_errors(self):
        try:
            yield
        except OSError as error:
            raise JaxposeError(
                f"{self._workdir / self._path.name} or TensorBoard's copy cannot be written "
                f"({error.strerror or error}); free disk space or fix the permissions, then re-run "
                "the command"
            ) from error


class _Events:
    """TensorBoard's event file, written synchronously."""

    def __init__(self, folder: pathlib.Path, *, purge_step: int | None):
        self._proto, writer_class = _compat.tensorboard_events()
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = writer_class(str(folder / "events"), f".{os.getpid()}")
        if purge_step is not None:
            start = self._proto.SessionLog(status=self._proto.SessionLog.START)
            self._put(step=purge_step, session_log=start)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        values = [{"tag": name, "simple_value": value} for name, value in scalars.items()]
        self._put(step=step, summary={"value": values})

    def _put(self, **fields) -> None:
        self._writer.write_event(self._proto.Event(wall_time=time.time(), **fields))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def read_records(path: pathlib.Path) -> list[dict]:
    """Read the records of a metrics.jsonl; an incomplete last line is ignored.

    Raises:
      JaxposeError: any other line is not a record.
    """
    if not path.exists():
        return []
    text = path.read_bytes().decode(errors="replace")
    # A power failure may leave a tail of zero bytes.
    lines = [line for line in text.splitlines() if line.strip("\0 ")]
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            record["step"] = int(record["step"])
            if record.get("kind") == "validation" and _OLD_METRIC in record:
                record["metric"] = record.pop(_OLD_METRIC)
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break
            raise JaxposeError(
                f"{path} has a line that is not a record ({line[:40]!r}); delete that line, or the "
                "file"
            ) from None
        records.append(record)
    return records


def _replace_lines(path: pathlib.Path, records: list[dict]) -> None:
    """Rewrite the file atomically, so that a killed process leaves the old or the new one."""
    lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode()
    if path.exists() and path.read_bytes() == lines:
        return
    replace_file(path, lines)


def _plain(value):
    """Convert to plain Python numbers; non-finite ones become None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, bool)) or value is None:
        return value
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, float) and not math.isfinite(number):
        return None
    return number


def _scalars(prefix: str, values: dict):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _scalars(f"{prefix}/{name}", value)
        elif not isinstance(value, (str, bool, list, tuple)) and value is not None:
            yield f"{prefix}/{name}", float(value)
