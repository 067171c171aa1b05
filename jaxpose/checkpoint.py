"""Checkpoints through Orbax: saving, restoring, falling back to the one before.

A checkpoint folder holds one tree and its `metadata` (JSON): the network's arguments, joint names
with their flip pairs and limbs, which joints were ever labelled in training, image size and crop
rule. A workdir holds `checkpoints/latest` (whole training states, the newest two) and
`checkpoints/best` (the variables that scored best).

Trees are NumPy arrays on the host, so that a checkpoint of one number of devices or processes
loads on any other.
"""

import logging
import pathlib
from typing import Any

import jax
import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional

FORMAT = 1
METADATA_KEYS = (
    "network", "joints", "flip_pairs", "limbs", "trained_joints", "image_size", "crop", "step"
)  # fmt: skip
logger = logging.getLogger(__name__)


def open_manager(folder: pathlib.Path, *, keep: int, create: bool = True):
    """Orbax's manager of a folder of checkpoints, the newest `keep` of which stay."""
    ocp = import_optional("orbax.checkpoint", extra="train")
    managers = import_optional("orbax.checkpoint.checkpoint_managers", extra="train")
    options = ocp.CheckpointManagerOptions(
        preservation_policy=managers.LatestN(keep),
        create=create,
        cleanup_tmp_directories=create and jax.process_index() == 0,
        read_only=not create,
    )
    return ocp.CheckpointManager(pathlib.Path(folder).absolute(), options=options)


def save(manager, step: int, tree: Any, metadata: dict, *, wait: bool = False) -> None:
    """Save a tree of host arrays under a step; the write goes on in the background.

    The checkpoint appears under its name only when it is whole. `wait` returns after that.

    Raises:
      JaxposeError: the folder cannot be written (disk full, no permission); what was there stays.
    """
    ocp = import_optional("orbax.checkpoint", extra="train")
    missing = [key for key in METADATA_KEYS if key not in metadata]
    assert not missing, missing
    try:
        if step in manager.all_steps():
            manager.delete(step)
        manager.save(
            step,
            args=ocp.args.Composite(
                tree=ocp.args.StandardSave(tree),
                metadata=ocp.args.JsonSave({"format": FORMAT, **metadata}),
            ),
            force=True,
        )
        if wait:
            manager.wait_until_finished()
    except (OSError, ValueError, RuntimeError) as error:
        raise _save_error(manager.directory, error) from error


def finish(manager) -> None:
    """Wait for the write in the background and close the manager."""
    try:
        manager.wait_until_finished()
    except (OSError, ValueError, RuntimeError) as error:
        raise _save_error(manager.directory, error) from error
    finally:
        manager.close()


def _save_error(folder, error: Exception) -> JaxposeError:
    reason = str(error).strip().splitlines()
    return JaxposeError(
        f"cannot save a checkpoint in {folder}: {reason[0][:200] if reason else error!r}; the ones "
        "before it are whole. Free space or mend the permissions, then start the same command again"
    )


def restore_newest(folder: pathlib.Path, like: Any) -> tuple[Any, dict] | None:
    """The newest readable checkpoint of a folder as (tree, metadata); None where there is none.

    One that cannot be read is named in a warning and the one before it is taken.

    Args:
      folder: of `open_manager`.
      like: a tree of arrays of the expected structure, shapes and dtypes.

    Raises:
      JaxposeError: checkpoints are there and none can be read, or one is of another network.
    """
    folder = pathlib.Path(folder)
    steps = checkpoint_steps(folder)
    if not steps:
        return None
    for step in steps:
        try:
            metadata = read_metadata(folder / str(step))
            _check_leaves(_stored_leaves(folder / str(step)), like, folder / str(step))
            return _read_tree(folder / str(step), like), metadata
        except JaxposeError:
            raise
        except Exception as error:  # Orbax and TensorStore raise many kinds for a broken file
            reason = (str(error).strip().splitlines() or [repr(error)])[0][:160]
            logger.warning(
                "checkpoint %s cannot be read (%s); trying the one before it", folder / str(step),
                reason,
            )  # fmt: skip
    raise JaxposeError(
        f"no checkpoint in {folder} can be read (tried steps {', '.join(map(str, steps))}); start "
        "in a new workdir, with --config.init_from where another checkpoint is left"
    )


def checkpoint_steps(folder: pathlib.Path) -> list[int]:
    """Steps of the finished checkpoints in a folder, newest first."""
    if not folder.is_dir():
        return []
    return sorted(
        (int(f.name) for f in folder.iterdir() if f.name.isdigit() and f.is_dir()), reverse=True
    )


def find(path: str | pathlib.Path, *, which: str = "best") -> pathlib.Path:
    """The checkpoint folder that a person means: a workdir's best (or "latest"), or itself.

    Raises:
      JaxposeError: nothing of that kind is there.
    """
    path = pathlib.Path(path).expanduser()
    if (path / "tree").is_dir():
        return path
    for name in dict.fromkeys((which, "best", "latest")):
        for folder in (path / "checkpoints" / name, path / name, path):
            steps = checkpoint_steps(folder)
            if steps and (folder / str(steps[0]) / "tree").is_dir():
                return folder / str(steps[0])
    raise JaxposeError(
        f"no checkpoint in {path}; give a workdir of a training run or a single checkpoint folder"
    )


def load(path: str | pathlib.Path, *, which: str = "best") -> tuple[dict, dict, pathlib.Path]:
    """Variables of a checkpoint for prediction.

    Args:
      path: a workdir, or a single checkpoint folder.
      which: "best" or "latest" of a workdir.

    Returns:
      (variables {"params", "batch_stats"}, metadata, the folder that was read).
    """
    folder = find(path, which=which)
    metadata = read_metadata(folder)
    try:
        tree = _read_tree(folder, None)
    except Exception as error:  # as in restore_newest
        reason = (str(error).strip().splitlines() or [repr(error)])[0][:160]
        raise JaxposeError(
            f"checkpoint {folder} cannot be read ({reason}); take another one of its run"
        ) from error
    if "opt_state" in tree:
        tree = tree["ema"] or {"params": tree["params"], "batch_stats": tree["batch_stats"]}
    return {"params": tree["params"], "batch_stats": tree["batch_stats"]}, metadata, folder


def read_metadata(folder: pathlib.Path) -> dict:
    """A checkpoint's metadata.

    Raises:
      JaxposeError: there is none, or it is of a newer jaxpose.
    """
    import json

    file = folder / "metadata" / "metadata"
    try:
        metadata = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"its metadata cannot be read: {error}") from error
    if metadata.get("format") != FORMAT:
        raise JaxposeError(
            f"checkpoint {folder} has format {metadata.get('format')!r}, this jaxpose reads "
            f"{FORMAT}; install the jaxpose that wrote it"
        )
    return metadata


def check_variables(variables: dict, like: Any, folder: pathlib.Path) -> None:
    """Raise a JaxposeError that names the leaves in which two trees of variables differ."""
    _check_leaves(_leaves(variables), like, folder)


def _leaves(tree: Any) -> dict[str, tuple]:
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(k, simple=True, separator="/"): np.shape(x) for k, x in flat}


def _stored_leaves(folder: pathlib.Path) -> dict[str, tuple]:
    ocp = import_optional("orbax.checkpoint", extra="train")
    with ocp.StandardCheckpointer() as reader:
        tree = reader.metadata(folder / "tree").item_metadata.tree
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(k, simple=True, separator="/"): tuple(x.shape) for k, x in flat
    }


def _check_leaves(stored: dict[str, tuple], like: Any, folder: pathlib.Path) -> None:
    expected = _leaves(like)
    lines = [
        f"{name} is {stored.get(name, 'absent')} there and {expected.get(name, 'absent')} here"
        for name in sorted(expected.keys() | stored.keys())
        if expected.get(name) != stored.get(name)
    ]
    if lines:
        more = f" (and {len(lines) - 5} more)" if len(lines) > 5 else ""
        raise JaxposeError(
            f"checkpoint {folder} is of another network: {'; '.join(lines[:5])}{more}. Use the "
            "config it was trained with, or --config.init_from to take over what matches"
        )


def _read_tree(folder: pathlib.Path, like: Any) -> Any:
    ocp = import_optional("orbax.checkpoint", extra="train")
    with ocp.StandardCheckpointer() as reader:
        path = (folder / "tree").absolute()
        if like is None:
            like = jax.tree.map(
                lambda x: np.zeros(x.shape, x.dtype), reader.metadata(path).item_metadata.tree
            )
        return reader.restore(path, jax.tree.map(np.asarray, like))
