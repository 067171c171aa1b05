"""Checkpoints through Orbax: saving, restoring, falling back to the previous one.

A checkpoint folder contains one tree of arrays, its ``metadata`` and ``files.json``. The metadata
(JSON) consist of the network's arguments, joint names with flip pairs and limbs, the joints that
had labels in training, image size, crop rule, and a checksum over all of these and the tree.
``files.json`` has the size and checksum of every file, so that corruption is detected before Orbax
reads the tree. A workdir contains ``checkpoints/latest`` (complete training states, the newest two)
and ``checkpoints/best`` (the variables with the best validation metric).

Trees are NumPy arrays on the host, so that a checkpoint can be loaded with a different number of
devices or processes.

On object storage (``gs://``), Orbax writes under the final name and marks a complete checkpoint
with a file. No ``files.json`` is written there: object stores verify their objects themselves, and
reading the objects back would take as long as writing them.
"""

import collections
import contextlib
import errno
import functools
import json
import logging
import os
import pathlib
import re
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpose import _compat
from jaxpose.checkpoints import KINDS, packed
from jaxpose.checkpoints.metadata import CheckpointMetadata, read_json
from jaxpose.errors import JaxposeError, first_line
from jaxpose.network import SIZE_MULTIPLE, PoseNet, make_net
from jaxpose.optional import import_optional
from jaxpose.paths import is_remote
from jaxpose.runtime import processes
from jaxpose.storage import absolute, move_folder, open_path, remove_folder

FILES = "files.json"  # of a checkpoint
# Name of an old checkpoint's folder until the new checkpoint is complete: old step, new step.
ASIDE = re.compile(r"(\d+)\.replaced_by_(\d+)")
# Timeout of a save. Orbax measures it with the wall clock, which may jump: with the default of 20
# minutes, a save could then fail.
WRITE_SECONDS = 7 * 24 * 3600
MAX_CAUSES = 8  # exceptions in a chain that are searched for the reason
SYSTEM_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
MAX_LEAVES = 5  # differing leaves named in an error message
# Fields of training states written before 0.1.0, by their new names. Remove in 1.0.
_OLD_FIELDS = {"best_metric": "best_score"}  # old spelling
logger = logging.getLogger(__name__)


def open_manager(folder: pathlib.Path, *, keep: int):
    """Open an Orbax manager that keeps the newest ``keep`` checkpoints in a folder.

    ``save`` renames the checkpoints that it replaces, and deletes them when the new one is
    complete. If a ``save`` was interrupted, ``open_manager`` deletes them, or restores their names
    if the new checkpoint is incomplete.

    Raises:
      JaxposeError: the folder cannot be created or read.
    """
    ocp = import_optional("orbax.checkpoint", extra="train")
    managers = import_optional("orbax.checkpoint.checkpoint_managers", extra="train")
    folder = absolute(folder)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=managers.LatestN(keep),
        cleanup_tmp_directories=jax.process_index() == 0,
        # Process 0 runs the callback when all files are written, before the final rename.
        async_options=ocp.AsyncOptions(
            timeout_secs=WRITE_SECONDS,
            post_finalization_callback=(
                None if is_remote(folder) else functools.partial(_list_files, folder)
            ),
        ),
    )
    try:
        _settle(folder)
        processes.barrier()
        manager = ocp.CheckpointManager(folder, options=options)
    except OSError as error:
        raise _save_error(folder, error) from error
    _compat.disable_orbax_preemption(manager)
    return manager


def save(
    manager, step: int, tree: Any, metadata: CheckpointMetadata, *, wait: bool = False
) -> None:
    """Save a tree of host arrays as a step's checkpoint; writing continues in the background.

    The checkpoint appears under its name only when it is complete; with ``wait``, the call waits
    for this. Existing checkpoints of this step and of later steps (from before the run resumed from
    an older checkpoint) are replaced: they are renamed, and deleted when the new one is complete.

    Raises:
      JaxposeError: the folder cannot be written (disk full, no permission); existing checkpoints
        remain.
    """
    ocp = import_optional("orbax.checkpoint", extra="train")
    record = metadata.to_json()
    record["checksum"] = checksum(tree, record)
    try:
        aside = _set_aside(manager, step)
        manager.save(
            step,
            args=ocp.args.Composite(
                tree=ocp.args.StandardSave(tree), metadata=ocp.args.JsonSave(record)
            ),
            force=True,
        )
        if wait or aside:
            manager.wait_until_finished()
    except (OSError, ValueError, RuntimeError) as error:
        _settle(manager.directory)
        raise _save_error(manager.directory, error) from error
    if aside:
        _settle(manager.directory)


def _set_aside(manager, step: int) -> list[int]:
    """Rename the checkpoints of this and later steps, including those that Orbax cannot read.

    With `keep=1`, there may be no other checkpoints, so the renamed ones are deleted only when the
    new one is complete.

    Returns:
      The steps that this process renamed.
    """
    folder = manager.directory
    later = []
    if jax.process_index() == 0:
        later = [s for s in checkpoint_steps(folder) if s >= step]
        for s in later:
            _rename(folder / str(s), folder / f"{s}.replaced_by_{step}")
    for s in [s for s in manager.all_steps() if s >= step]:
        manager.delete(s)  # on every process, for Orbax's list of steps; the files are kept
    return later


def _settle(folder: pathlib.Path) -> None:
    """Delete what ``save`` renamed, or rename it back if the new checkpoint is incomplete."""
    if jax.process_index() != 0 or not folder.is_dir():
        return
    complete = checkpoint_steps(folder)
    for path in list(folder.iterdir()):
        if match := ASIDE.fullmatch(path.name):
            step, replacement = match.groups()
            if int(replacement) in complete:
                remove_folder(path)
            else:
                _rename(path, folder / step)


def _rename(checkpoint: pathlib.Path, target: pathlib.Path) -> None:
    move_folder(checkpoint, target, marker=_compat.ORBAX_COMMIT_FILE)


def _list_files(folder: pathlib.Path) -> None:
    """Record the files of the checkpoint that is about to be finalized."""
    for unnamed in folder.glob(_compat.ORBAX_UNFINISHED):
        found = {name: (file.stat().st_size, _crc(file)) for name, file in _files(unnamed).items()}
        (unnamed / FILES).write_text(json.dumps(found), encoding="utf-8")


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The files of a checkpoint's tree and metadata, by their paths in the checkpoint."""
    found = (f for part in ("tree", "metadata") for f in (folder / part).rglob("*"))
    return {f.relative_to(folder).as_posix(): f for f in sorted(found) if f.is_file()}


def _crc(file: pathlib.Path) -> int:
    found = 0
    with file.open("rb") as content:
        while piece := content.read(2**20):
            found = zlib.crc32(piece, found)
    return found


def checksum(tree: Any, record: dict[str, Any]) -> int:
    """Compute a CRC-32 over the names and values in a tree and its metadata."""
    covered = {key: value for key, value in record.items() if key != "checksum"}
    found = zlib.crc32(json.dumps(covered, sort_keys=True).encode())
    for name, leaf in sorted(_named_leaves(tree).items()):
        found = zlib.crc32(np.ascontiguousarray(leaf), zlib.crc32(name.encode(), found))
    return found


def finish(manager) -> None:
    """Wait for the background write and close the manager.

    Raises:
      JaxposeError: the write failed.
    """
    try:
        manager.wait_until_finished()
    except (OSError, ValueError, RuntimeError) as error:
        raise _save_error(manager.directory, error) from error
    finally:
        manager.close()


def _save_error(folder, error: Exception) -> JaxposeError:
    return JaxposeError(
        f"cannot save a checkpoint in {folder}: {_reason(error)}; free disk space or fix the "
        "permissions, then re-run the command (earlier checkpoints are intact)"
    )


def _reason(error: Exception) -> str:
    """Return the operating system's message for an error, otherwise the error's first line.

    TensorStore's messages begin with long file names, and errors are often chained; the operating
    system's message comes last.
    """
    texts, cause = [], error
    while cause is not None and len(texts) < MAX_CAUSES:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    text = "\n".join(texts)
    of_system = _compat.tensorstore_reason(text) or _compat.system_error_reason(text, SYSTEM_ERRORS)
    return of_system or first_line(error)


def restore_newest(
    folder: pathlib.Path, like: Any, *, free: str = ""
) -> tuple[Any, CheckpointMetadata] | None:
    """Restore the newest readable checkpoint of a folder as (tree, metadata), or None.

    Unreadable checkpoints are reported in a warning and skipped.

    Args:
      folder: the folder of ``open_manager``.
      like: a tree of arrays with the expected structure, shapes and dtypes.
      free: name of a field of ``like`` that holds a flat dict. Its keys may differ from the
        checkpoint's: entries that the checkpoint lacks are taken from ``like``, and entries that
        only the checkpoint has are dropped.

    Returns:
      (tree, metadata), or None if the folder contains no checkpoint.

    Raises:
      JaxposeError: none of the folder's checkpoints can be read, or one belongs to another network.
    """
    steps = checkpoint_steps(folder)
    if not steps:
        return None
    for step in steps:
        try:
            return _read(folder / str(step), like, free=free)
        except JaxposeError:
            raise
        except Exception as error:  # Orbax and TensorStore raise many kinds for a corrupt file
            logger.warning(
                "checkpoint %s cannot be read (%s); trying the previous one",
                folder / str(step),
                _reason(error),
            )
    raise JaxposeError(
        f"no checkpoint in {folder} can be read (tried steps {', '.join(map(str, steps))}); choose "
        "a new --workdir; if you have another checkpoint, start from it with "
        "--config.init_from=PATH"
    )


def checkpoint_steps(folder: pathlib.Path) -> list[int]:
    """Return the steps of the complete checkpoints in a folder, newest first."""
    if not folder.is_dir():
        return []
    found = [f for f in folder.iterdir() if f.name.isdigit() and f.is_dir()]
    if is_remote(folder):
        utils = import_optional("orbax.checkpoint.utils", extra="train")
        found = [f for f in found if utils.is_checkpoint_finalized(f)]
    return sorted((int(f.name) for f in found), reverse=True)


def find(path: str | os.PathLike, *, which: str = "best") -> pathlib.Path:
    """Find the checkpoint for a path or a name.

    Args:
      path: a workdir, a single checkpoint folder, a packed checkpoint, or the name of a network
        that the package ships; a checkpoint at a path of that name takes precedence.
      which: checkpoint to use from a workdir, "best" or "latest".

    Returns:
      The checkpoint's folder or packed file.

    Raises:
      JaxposeError: there is no checkpoint.
    """
    if which not in KINDS:
        raise JaxposeError(f"unknown checkpoint {which!r}; choose one of {', '.join(KINDS)}")
    path = open_path(path)
    if (path / "tree").is_dir() or path.suffix == ".npz":
        return path
    for name in dict.fromkeys((which, *KINDS)):
        for folder in (path / "checkpoints" / name, path / name, path):
            steps = checkpoint_steps(folder)
            if steps and (folder / str(steps[0]) / "tree").is_dir():
                return folder / str(steps[0])
    shipped = packed.names()
    if str(path) in shipped:
        return packed.path(str(path))
    raise JaxposeError(
        f"no checkpoint in {path}; give a workdir of a training run, a single checkpoint folder, a "
        f"packed checkpoint (.npz) or the name of a shipped network ({', '.join(shipped)})"
    )


def load(
    path: str | os.PathLike, *, which: str = "best"
) -> tuple[dict, CheckpointMetadata, pathlib.Path]:
    """Load the variables of a checkpoint for prediction.

    Args:
      path: as in ``find``.
      which: checkpoint to use from a workdir, "best" or "latest".

    Returns:
      (variables {"params", "batch_stats"}, metadata, the path that was read). If the checkpoint is
      a complete training state with averaged variables, those are returned.

    Raises:
      JaxposeError: there is no checkpoint, or it cannot be read.
    """
    folder = find(path, which=which)
    try:
        if folder.suffix == ".npz":
            return *packed.unpack(folder), folder
        tree, metadata = _read(folder, None)
        if "opt_state" in tree and tree.get("ema"):
            tree = tree["ema"]
        variables = {"params": tree["params"], "batch_stats": tree["batch_stats"]}
    except JaxposeError:
        raise
    except Exception as error:  # as in restore_newest
        raise JaxposeError(
            f"checkpoint {folder} cannot be read ({_reason(error)}); use another checkpoint of the "
            "run"
        ) from error
    return variables, metadata, folder


class Network(NamedTuple):
    """A network of a checkpoint, for prediction.

    Attributes:
      net: the module.
      variables: its {"params", "batch_stats"}.
      metadata: what the checkpoint records.
      source: the checkpoint's folder or packed file.
    """

    net: PoseNet
    variables: dict
    metadata: CheckpointMetadata
    source: pathlib.Path


def load_network(
    path: str | os.PathLike, *, which: str = "best", dtype: str = "float32"
) -> Network:
    """Load a checkpoint's network, with its variables checked against the module.

    Args:
      path: as in ``find``.
      which: checkpoint to use from a workdir, "best" or "latest".
      dtype: name of the dtype of the computation.

    Raises:
      JaxposeError: there is no checkpoint, it cannot be read, or its variables do not match its
        network.
    """
    variables, metadata, source = load(path, which=which)
    net = make_net(metadata.network, dtype=dtype)
    images = jnp.zeros((1, SIZE_MULTIPLE, SIZE_MULTIPLE, 3))
    _check_leaves(_shapes(variables), jax.eval_shape(net.init, jax.random.key(0), images), source)
    return Network(net, variables, metadata, source)


def _read(folder: pathlib.Path, like: Any, *, free: str = "") -> tuple[Any, CheckpointMetadata]:
    """Read (tree, metadata) of one checkpoint, with `like` and `free` as in `restore_newest`.

    Raises:
      JaxposeError: it belongs to another network, or was written by a newer version of jaxpose.
      Exception: the checkpoint is corrupt; Orbax and TensorStore raise many types.
    """
    record = read_json(folder)
    metadata = CheckpointMetadata.from_json(record, folder)
    _check_files(folder)
    ocp = import_optional("orbax.checkpoint", extra="train")
    path = absolute(folder / "tree")
    with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
        stored = handler.metadata(path).tree
        if like is None:
            like = _zeros(stored)
        wanted = getattr(like, free) if free else {}
        if free:
            like = like._replace(**{free: _zeros(stored[free])})
        asked = _with_stored_names(like, stored)
        _check_leaves(_shapes(stored), asked, folder)
        arrays = jax.tree.map(np.asarray, asked)
        tree = handler.restore(path, args=ocp.args.StandardRestore(arrays))
    if checksum(tree, record) != record.get("checksum"):
        raise ValueError("its content does not match its checksum")
    if asked is not like:
        tree = type(like)(*tree)
    if free:
        found = getattr(tree, free)
        tree = tree._replace(**{free: {name: found.get(name, wanted[name]) for name in wanted}})
    return tree, metadata


def _with_stored_names(like: Any, stored: Any) -> Any:
    """Return the tree with the field names of the checkpoint, which may be older than 0.1.0."""
    fields = getattr(like, "_fields", ())
    old = {field: name for field, name in _OLD_FIELDS.items() if field in fields and name in stored}
    if not old:
        return like
    return collections.namedtuple("Stored", [old.get(field, field) for field in fields])(*like)


def _zeros(stored: Any) -> Any:
    """A tree of zeros with the structure, shapes and dtypes that Orbax's metadata give."""
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), stored)


def _check_files(folder: pathlib.Path) -> None:
    """Raise a ValueError that names a corrupt file.

    Orbax reads all files concurrently; if one read fails, the others are left pending and later
    report a closed event loop. Corrupt files are therefore detected before Orbax reads them.
    Checkpoints without ``files.json`` (written before 0.1.0; supported until 1.0) are verified only
    by the checksum of their content.
    """
    if not (folder / FILES).exists():
        return
    listed = json.loads((folder / FILES).read_text(encoding="utf-8"))
    if not isinstance(listed, dict):
        raise ValueError(f"{FILES} is not a list of files")
    present = _files(folder)
    for name, (size, crc) in listed.items():
        if name not in present:
            raise ValueError(f"{name} is missing")
        if present[name].stat().st_size != size:
            raise ValueError(f"{name} has {present[name].stat().st_size} bytes, not {size}")
        if _crc(present[name]) != crc:
            raise ValueError(f"{name} is corrupt (checksum mismatch)")


def _named_leaves(tree: Any) -> dict[str, Any]:
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in _named_leaves(tree).items()}


def _check_leaves(stored: dict[str, tuple], like: Any, folder: pathlib.Path) -> None:
    expected = _shapes(like)
    lines = [
        f"{name} is {stored.get(name, 'absent')} in the checkpoint and "
        f"{expected.get(name, 'absent')} in this network"
        for name in sorted(expected.keys() | stored.keys())
        if expected.get(name) != stored.get(name)
    ]
    if lines:
        more = f" (and {len(lines) - MAX_LEAVES} more)" if len(lines) > MAX_LEAVES else ""
        raise JaxposeError(
            f"checkpoint {folder} belongs to another network: {'; '.join(lines[:MAX_LEAVES])}"
            f"{more}. Use the config of the checkpoint, or set --config.init_from to load only the "
            "variables that match"
        )
