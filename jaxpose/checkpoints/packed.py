"""Packed checkpoints: one file per checkpoint, the format of the networks that jaxpose ships.

A packed checkpoint is an .npz file. It contains the variables by name (kernels in float16, the rest
in float32), and the metadata as JSON text. Every command that takes a checkpoint accepts one.
"""

import contextlib
import io
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import flax
import numpy as np

from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.errors import JaxposeError
from jaxpose.npz import read_npz
from jaxpose.paths import local_path
from jaxpose.storage import check_folder, open_path, replace_file, write_errors

FOLDER = pathlib.Path(__file__).parent / "weights"
METADATA = "metadata"
NOT_POSE = frozenset({"finder"})  # files of `FOLDER` that are not checkpoints of a pose network


def names() -> list[str]:
    """Return the names of the pose networks that this package ships."""
    return sorted({path.stem for path in FOLDER.glob("*.npz")} - NOT_POSE)


def path(name: str) -> pathlib.Path:
    """Return the path of a network that the package ships.

    Raises:
      JaxposeError: there is no network of that name; the message lists the available ones.
    """
    file = FOLDER / f"{name}.npz"
    if name not in names():
        raise JaxposeError(
            f"jaxpose ships no network {name!r} (available: {', '.join(names()) or 'none'}); give "
            "the path of a checkpoint"
        )
    return file


def pack(variables: dict, metadata: CheckpointMetadata, path: str | os.PathLike) -> pathlib.Path:
    """Write variables {"params", "batch_stats"} and a checkpoint's metadata as one file.

    Kernels are rounded to float16 (relative error up to 5e-4); batch norm's parameters and
    statistics stay float32.

    Args:
      variables: variables as returned by ``store.load``.
      metadata: metadata as returned by ``store.load``.
      path: must end in .npz; an existing file is replaced atomically.

    Returns:
      The path of the file.

    Raises:
      JaxposeError: the path has another suffix, its folder does not exist, the file cannot be
        written, the metadata are malformed or contradictory (such as another number of joints
        than the network's), or a value is outside the range of float16.
    """
    record = metadata.to_json()
    try:
        CheckpointMetadata.from_json(record, pathlib.Path(path))
    except ValueError as error:
        raise JaxposeError(f"cannot pack the checkpoint: {error}") from error
    return pack_record(variables, record, path)


def pack_record(variables: dict, record: dict, path: str | os.PathLike) -> pathlib.Path:
    """Like ``pack``, with any JSON record in place of a checkpoint's metadata."""
    path = checked_path(path)
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    arrays = {
        name: np.asarray(value, np.float16 if np.ndim(value) > 1 else np.float32)
        for name, value in flat.items()
    }
    wide = [name for name, value in arrays.items() if not np.isfinite(value).all()]
    if wide:
        raise JaxposeError(
            f"cannot pack the checkpoint: {wide[0]} has values that float16 cannot represent (not "
            "finite, or larger than 65504); use the checkpoint folder instead"
        )
    arrays[METADATA] = np.array(json.dumps(record))
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    with write_errors(path):
        replace_file(path, content.getvalue())
    return path


def checked_path(path: str | os.PathLike) -> pathlib.Path:
    """Check the path of a packed checkpoint to write.

    Raises:
      JaxposeError: it does not end in .npz, its folder does not exist, or it is a URL.
    """
    path = pathlib.Path(local_path(path))
    if path.suffix != ".npz":
        raise JaxposeError(f"the name of a packed checkpoint must end in .npz, not {path.name}")
    check_folder(path)
    return path


def unpack(path: str | os.PathLike) -> tuple[dict, CheckpointMetadata]:
    """Read a file written by ``pack`` as (variables as float32 arrays, metadata).

    No code in the file is executed.

    Raises:
      JaxposeError: the file is missing, corrupt, not a packed checkpoint, or written by a newer
        version of jaxpose.
    """
    with _named_errors(path):
        arrays, record = _read(path)
        metadata = CheckpointMetadata.from_json(record, open_path(path))
        return _variables(arrays), metadata


def unpack_record(path: str | os.PathLike) -> tuple[dict, Any]:
    """Read a file written by ``pack_record`` as (variables, record); errors as in ``unpack``."""
    with _named_errors(path):
        arrays, record = _read(path)
        return _variables(arrays), record


def _read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], Any]:
    arrays = read_npz(open_path(path))
    return arrays, json.loads(str(arrays.pop(METADATA)))


def _variables(arrays: dict[str, np.ndarray]) -> dict:
    flat = {name: value.astype(np.float32) for name, value in arrays.items()}
    variables = flax.traverse_util.unflatten_dict(flat, sep="/")
    return {kind: variables[kind] for kind in ("params", "batch_stats")}


@contextlib.contextmanager
def _named_errors(path: str | os.PathLike) -> Iterator[None]:
    """Raise errors that name the file if it is missing or not a packed checkpoint."""
    try:
        yield
    except FileNotFoundError:
        raise JaxposeError(f"no file {path}; give a packed checkpoint") from None
    except KeyError as error:
        raise JaxposeError(f"{path} is not a packed checkpoint (it has no {error})") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise JaxposeError(f"{path} is not a packed checkpoint ({reason})") from None
