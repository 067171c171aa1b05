"""Networks in one file: those that the package ships, and any checkpoint packed to half its size.

A packed checkpoint is an .npz of the variables by name, kernels in float16 and the rest in float32,
and its metadata as JSON text. Every command that takes a checkpoint takes one.
"""

import json
import os
import pathlib
import zipfile
import zlib

import flax
import numpy as np

from jaxpose._compat import npz_error_reason
from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.errors import JaxposeError
from jaxpose.storage import open_path

FOLDER = pathlib.Path(__file__).parent / "weights"
METADATA = "metadata"
MAX_BYTES = 2**30  # unpacked; PoseNet of the paper has 59 MB in float32

# What NumPy raises for files that are cut off, hold objects, or lie about their size.
_DAMAGE = (
    *(OSError, ValueError, KeyError, EOFError, MemoryError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError),
)


def names() -> list[str]:
    """Names of the networks that this package ships."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def path(name: str) -> pathlib.Path:
    """The file of a network that the package ships.

    Raises:
      JaxposeError: there is none of that name; the message lists those that are there.
    """
    file = FOLDER / f"{name}.npz"
    if name not in names():
        raise JaxposeError(
            f"no network {name!r} comes with this package ({', '.join(names()) or 'none does'}); "
            "give a checkpoint"
        )
    return file


def pack(variables: dict, metadata: CheckpointMetadata, path: str | os.PathLike) -> pathlib.Path:
    """Write variables {"params", "batch_stats"} and a checkpoint's metadata as one file.

    Kernels are rounded to float16 (relative error up to 5e-4); shifts and statistics stay float32.

    Args:
      variables: as `store.load` gives them.
      metadata: as `store.load` gives it.
      path: ends in .npz; a file that is there is replaced in one move.
    """
    path = pathlib.Path(path)
    if path.suffix != ".npz":
        raise JaxposeError(f"a packed checkpoint is called NAME.npz, not {path.name}")
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    arrays = {
        name: np.asarray(value, np.float16 if np.ndim(value) > 1 else np.float32)
        for name, value in flat.items()
    }
    wide = [name for name, value in arrays.items() if not np.isfinite(value).all()]
    if wide:
        raise JaxposeError(f"{wide[0]} has values that float16 cannot hold")
    arrays[METADATA] = np.array(json.dumps(metadata.to_json()))
    temporary = path.with_suffix(".new.npz")
    np.savez_compressed(temporary, allow_pickle=False, **arrays)
    os.replace(temporary, path)
    return path


def unpack(path: str | os.PathLike) -> tuple[dict, CheckpointMetadata]:
    """What `pack` wrote, as (variables of float32 arrays, metadata). Nothing in it is executed.

    Raises:
      JaxposeError: the file is missing, corrupt, no packed checkpoint, or of a newer jaxpose.
    """
    try:
        # Opened here, since np.load leaves a file open that it cannot read.
        path = open_path(path)
        with path.open("rb") as file:
            if sum(entry.file_size for entry in zipfile.ZipFile(file).infolist()) > MAX_BYTES:
                raise ValueError(f"it unpacks to more than {MAX_BYTES} bytes")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        record = json.loads(str(arrays.pop(METADATA)))
        metadata = CheckpointMetadata.from_json(record, path)
        flat = {name: value.astype(np.float32) for name, value in arrays.items()}
        variables = flax.traverse_util.unflatten_dict(flat, sep="/")
        return {kind: variables[kind] for kind in ("params", "batch_stats")}, metadata
    except FileNotFoundError:
        raise JaxposeError(f"no file {path}; give a packed checkpoint") from None
    except _DAMAGE as error:
        raise JaxposeError(
            f"{path} is not a packed checkpoint ({npz_error_reason(error)})"
        ) from None
