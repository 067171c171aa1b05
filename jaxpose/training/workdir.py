"""A run's folder: lock it for one launch, and check the config and data that it belongs to."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping

import jax

from jaxpose.checkpoints import KINDS, store
from jaxpose.errors import JaxposeError
from jaxpose.paths import is_remote
from jaxpose.storage import absolute, open_path, replace_file
from jaxpose.training.lease import hold_lease

# Renamed config fields from before 0.1.0; workdirs that contain them are rejected with a clear
# error. Remove in 1.0.
_OLD_FIELDS = ("rematerialise",)  # old spelling
_RENAMED_FIELDS = {"score": "metric"}  # old spelling, which is read
_ADDED_FIELDS = {"network": {"window": 0}}  # with the values that runs of older versions had
MAX_FIELDS = 6  # fields listed in an error
# Config fields (or sections) that may change when a run is resumed.
FREE_FIELDS = (
    "num_epochs", "log_every_steps", "checkpoint_every_minutes", "max_minutes", "data_dir",
    "workers", "report", "eval", "test",
)  # fmt: skip


@contextlib.contextmanager
def prepare_workdir(workdir: str | pathlib.Path, config: dict) -> Iterator[pathlib.Path]:
    """Create or open a workdir and lock it: check and write the config, refuse a second launch.

    The config is compared with the one in the folder only if the folder contains a checkpoint.
    Without one, there is nothing to resume, so a corrected command replaces the config of a start
    that failed.

    Args:
      workdir: folder of the run; created if missing.
      config: plain and JSON-serializable.

    Raises:
      JaxposeError: the workdir cannot be written, another launch is using it, or it belongs to a
        run with a different config.
    """
    workdir = absolute(open_path(workdir, "workdir"))
    if jax.process_index() != 0:
        yield workdir
        return
    with hold_lease(str(workdir)) if is_remote(workdir) else _hold_lock(workdir):
        _check_and_write(workdir / "config.json", config)
        yield workdir


@contextlib.contextmanager
def _hold_lock(workdir: pathlib.Path) -> Iterator[None]:
    """Create a local workdir and lock it."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / ".lock").open("a+")
    except OSError as error:
        raise JaxposeError(
            f"workdir {workdir} cannot be written ({error.strerror}); choose another --workdir"
        ) from error
    with lock:
        _hold(lock, workdir)
        try:
            yield
        finally:
            lock.seek(0)
            lock.truncate()


def _hold(lock, workdir: pathlib.Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows does not have it; a second launch is not noticed there
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise JaxposeError(
            f"another launch (process {lock.read().strip() or 'unknown'}) is using {workdir}; wait "
            "for it to finish, or choose another --workdir"
        ) from None
    except OSError:  # a network file system without locks
        return
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()


def _check_and_write(path: pathlib.Path, config: dict) -> None:
    """Raise an error if the workdir has a different config, otherwise write this one."""
    text = json.dumps(config, indent=1, sort_keys=True) + "\n"
    if path.exists() and _has_checkpoint(path.parent):
        read = _read_config(path)
        stored = {_RENAMED_FIELDS.get(name, name): value for name, value in read.items()}
        for section, added in _ADDED_FIELDS.items():
            if isinstance(stored.get(section), dict):
                stored[section] = {**added, **stored[section]}
        old = [name for name in _OLD_FIELDS if name in stored and name not in config]
        if old:
            raise JaxposeError(
                f"workdir {path.parent} was written by an older version (its config has "
                f"{', '.join(old)}) and cannot be resumed; choose another --workdir, and add "
                f"--config.init_from={path.parent} to start from its weights"
            )
        changed = differences(stored, json.loads(text))
        if changed:
            more = f" (and {len(changed) - MAX_FIELDS} more)" if len(changed) > MAX_FIELDS else ""
            raise JaxposeError(
                f"workdir {path.parent} belongs to a run with a different config: "
                f"{'; '.join(changed[:MAX_FIELDS])}{more}. "
                "Use the same config, or choose another --workdir"
            )
    _write(path, text)


def check_data(workdir: pathlib.Path, persons: Mapping[str, int], *, resumed: bool) -> None:
    """Raise an error if the training data of a resumed run have changed, otherwise record them.

    The number of persons determines the batches and the steps of an epoch, so with other data, a
    run would resume at another place of its epoch and of the learning-rate schedule. The record is
    ``data.json``; a run that has none (from before 0.1.0) gets one.

    Args:
      workdir: folder of the run.
      persons: number of persons of each training split, by the name of the data set.
      resumed: whether the run resumes from a checkpoint of ``workdir``.

    Raises:
      JaxposeError: a number has changed, or the record cannot be written.
    """
    path = workdir / "data.json"
    record = dict(persons)
    stored = _read_data(path) if resumed else {}
    changed = [
        f"{name} had {stored[name]} training persons when the run started, but has {count} now"
        for name, count in record.items()
        if stored.get(name, count) != count
    ]
    if changed:
        raise JaxposeError(
            f"the data of the run in {workdir} have changed ({'; '.join(changed)}), so its epochs "
            "and learning-rate schedule would change: prepare the same data again, choose another "
            f"--workdir with --config.init_from={workdir}, or delete {path} to resume with the new "
            "data"
        )
    if stored != record and jax.process_index() == 0:
        _write(path, json.dumps(record, indent=1) + "\n")


def _read_data(path: pathlib.Path) -> dict[str, int]:
    """Read the record of ``check_data``; empty if there is none that can be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(path: pathlib.Path, text: str) -> None:
    try:
        replace_file(path, text)
    except OSError as error:
        raise JaxposeError(
            f"{path} cannot be written ({error.strerror or error}); free disk space or choose "
            "another --workdir"
        ) from error


def _has_checkpoint(workdir: pathlib.Path) -> bool:
    folders = (workdir / "checkpoints" / kind for kind in KINDS)
    return any(store.checkpoint_steps(folder) for folder in folders)


def _read_config(path: pathlib.Path) -> dict:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"it contains a {type(config).__name__}")
    except (OSError, ValueError) as error:
        raise JaxposeError(
            f"{path} is not a valid config ({error}); restore the run's config or choose another "
            "--workdir"
        ) from error
    return config


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Describe the fields in which two configs differ, except ``FREE_FIELDS``, one line each."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        name = prefix + key
        if name in FREE_FIELDS:
            continue
        a, b = old.get(key, "absent"), new.get(key, "absent")
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, name + ".")
        elif a != b:
            lines.append(f"{name} is {a!r} in the workdir but {b!r} in this command")
    return lines
