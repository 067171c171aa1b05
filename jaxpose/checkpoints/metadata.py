"""The metadata of a checkpoint: its format, and the keys that it must have."""

import json
import pathlib
from typing import Any

from jaxpose.errors import JaxposeError

FORMAT = 1
METADATA_KEYS = (
    "network", "joints", "flip_pairs", "limbs", "trained_joints", "image_size", "crop", "step"
)  # fmt: skip


def parse_metadata(folder: pathlib.Path) -> dict:
    """A checkpoint's metadata; a ValueError or OSError where it is broken."""
    metadata = json.loads((folder / "metadata" / "metadata").read_text(encoding="utf-8"))
    return check_metadata(metadata, (*METADATA_KEYS, "checksum"), folder)


def check_metadata(metadata: Any, keys: tuple[str, ...], folder: pathlib.Path) -> dict:
    """The metadata, if it has the keys and a format that we read; else a ValueError."""
    if not isinstance(metadata, dict) or not isinstance(metadata.get("format"), int):
        raise ValueError("its metadata is no description of a checkpoint")
    if metadata["format"] > FORMAT:
        raise JaxposeError(
            f"checkpoint {folder} has format {metadata['format']}, this jaxpose reads {FORMAT}; "
            "install the jaxpose that wrote it"
        )
    missing = [key for key in keys if key not in metadata]
    if missing:
        raise ValueError(f"its metadata lacks {', '.join(missing)}")
    return metadata
