"""What a run writes while it goes on: metrics.jsonl, TensorBoard events, a progress bar."""

import json
import math
import os
import pathlib
import sys
import time

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional

# Differ between runs that are else identical.
TIME_FIELDS = ("time", "seconds", "images_per_second")


class RunLog:
    """Writes one JSON line per record; `metrics.jsonl` is the truth, TensorBoard a copy of it.

    On resume the file is cut back to the records of the restored step, so that it reads as if
    nothing had happened. A NaN is written as null.
    """

    def __init__(self, workdir: pathlib.Path, *, step: int, num_steps: int, active: bool = True):
        self._active = active
        self._bar = None
        if not active:
            return
        path = workdir / "metrics.jsonl"
        records = [record for record in read_records(path) if record["step"] <= step]
        _replace_lines(path, records)
        self._file = path.open("a", encoding="utf-8")
        tensorboard = import_optional("tensorboardX", extra="train")
        self._events = tensorboard.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=step + 1 if step else None
        )
        tqdm = import_optional("tqdm", extra="train")
        self._bar = tqdm.tqdm(
            initial=step, total=num_steps, unit="step", dynamic_ncols=True, file=sys.stderr,
            mininterval=1.0, disable=None if sys.stderr.isatty() else True,
        )  # fmt: skip

    def write(self, kind: str, step: int, values: dict) -> None:
        """Append one record; nested dicts of numbers become TensorBoard scalars a/b/c."""
        if not self._active:
            return
        record = {"kind": kind, "step": step, "time": round(time.time(), 3), **_plain(values)}
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()
        for name, value in _scalars(kind, values):
            self._events.add_scalar(name, value, step)

    def progress(self, step: int, text: str) -> None:
        """Move the bar; without a terminal, print a line."""
        if not self._active:
            return
        if self._bar.disable:
            print(f"step {step}/{self._bar.total}: {text}", file=sys.stderr, flush=True)
        else:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if not self._active:
            return
        if self._bar.disable:
            print(text, file=sys.stderr, flush=True)
        else:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Flush and close everything."""
        if not self._active:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._events.close()
        self._bar.close()


def read_records(path: pathlib.Path) -> list[dict]:
    """The records of a metrics.jsonl; a last line cut off by a kill is left out.

    Raises:
      JaxposeError: another line is no record.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    # A power failure may leave a tail of zero bytes.
    lines = [line for line in text.splitlines() if line.strip("\0 ")]
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            record["step"] = int(record["step"])
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break
            raise JaxposeError(
                f"{path} has a line that is no record ({line[:40]!r}); delete that line, or the "
                "file"
            ) from None
        records.append(record)
    return records


def _replace_lines(path: pathlib.Path, records: list[dict]) -> None:
    """Rewrite the file in one move, so that a kill leaves the old one or the new one."""
    lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode()
    if path.exists() and path.read_bytes() == lines:
        return
    temporary = path.with_suffix(".jsonl.new")
    temporary.write_bytes(lines)
    os.replace(temporary, path)


def _plain(value):
    """Plain Python numbers; those that are not finite become None."""
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
