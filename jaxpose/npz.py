"""Read untrusted .npz files: no code is executed, and all errors have one type."""

import os
import zipfile
import zlib
from collections.abc import Container

import numpy as np

from jaxpose._compat import npz_error_reason
from jaxpose.storage import open_path

MAX_BYTES = 2**30  # unpacked; the paper's PoseNet has 59 MB in float32, MPII's test persons 4 MB

# What NumPy raises for files that are truncated, encrypted, contain objects, or state a wrong size.
_DAMAGE = (
    *(OSError, ValueError, KeyError, EOFError, MemoryError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error),
)


def read_npz(
    path: str | os.PathLike, *, names: Container[str] | None = None
) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file; pickled objects are refused.

    Args:
      path: the file, on this machine or in a bucket.
      names: names of the arrays to read; the others are skipped. By default, all are read.

    Returns:
      The arrays by name.

    Raises:
      FileNotFoundError: there is no such file.
      JaxposeError: the bucket cannot be reached.
      ValueError: the file is corrupt or not an .npz file, or it unpacks to more than ``MAX_BYTES``;
        the message is the reason in one line.
    """
    path = open_path(path)
    try:
        # Opened here, since np.load does not close a file that it cannot read.
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is not an .npz file, or it is truncated")
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):  # an .npy file followed by a zip archive
                raise ValueError("it is not an .npz file")
            with archive:
                if sum(entry.file_size for entry in archive.zip.infolist()) > MAX_BYTES:
                    raise ValueError(f"it unpacks to more than {MAX_BYTES} bytes")
                wanted = [name for name in archive.files if names is None or name in names]
                return {name: archive[name] for name in wanted}
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        raise ValueError(npz_error_reason(error)) from None
