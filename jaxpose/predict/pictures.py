"""Photos as arrays, whatever a person gives, and back into files."""

import contextlib
import os
import pathlib
from typing import Any

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional

JPEG_QUALITY = 92
MOST_PIXELS = 200_000_000  # of a photo; a larger one is refused before it is decoded


def as_picture(image: Any) -> np.ndarray:
    """A photo as RGB uint8 [H, W, 3], upright.

    Args:
      image: a path, a PIL image, or an array uint8 [H, W, 3] (or [H, W] grey).

    Raises:
      JaxposeError: it cannot be read, is too large, or has another shape or type.
    """
    image = _as_array(image)
    if isinstance(image, np.ndarray):
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=-1)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or not image.size:
            raise JaxposeError(
                f"the picture is an array {image.dtype} {image.shape}; give uint8 [height, width, "
                "3] in RGB"
            )
        return np.ascontiguousarray(image)
    pil = import_optional("PIL.Image", extra="predict")
    ops = import_optional("PIL.ImageOps", extra="predict")
    is_path = isinstance(image, str | os.PathLike)
    name = str(pathlib.Path(image)) if is_path else "the picture"
    try:
        with pil.open(image) if is_path else contextlib.nullcontext(image) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise JaxposeError(
                    f"{name} has {opened.width}x{opened.height} pixels, more than {MOST_PIXELS}; "
                    "reduce it first"
                )
            upright = ops.exif_transpose(opened)
            if upright.mode.startswith("I"):  # 16 bits: Pillow would clip, not scale
                grey = np.asarray(upright, np.float64)
                upright = pil.fromarray((grey / 257.0).clip(0, 255).astype(np.uint8))
            return np.ascontiguousarray(np.asarray(upright.convert("RGB")))
    except JaxposeError:
        raise
    except pil.DecompressionBombError:
        raise JaxposeError(f"{name} has more pixels than Pillow takes; reduce it first") from None
    except FileNotFoundError:
        raise JaxposeError(f"no file {name}; give a picture") from None
    except Exception as error:  # Pillow's decoders raise many kinds for a broken file
        if name.lower().endswith((".heic", ".heif")):
            raise JaxposeError(
                f"{name} is a HEIC picture; turn it into JPEG or PNG first"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise JaxposeError(f"{name} cannot be read as a picture ({reason})") from error


def save_picture(picture: np.ndarray, path: pathlib.Path) -> None:
    """Write uint8 [H, W, 3] RGB as the PNG or JPEG that the name says."""
    pil = import_optional("PIL.Image", extra="predict")
    pil.fromarray(picture).save(path, quality=JPEG_QUALITY)


def _as_array(image: Any) -> Any:
    """Arrays of other libraries as NumPy's; paths and PIL images unchanged, nothing else."""
    if isinstance(image, np.ndarray | str | os.PathLike) or hasattr(image, "getexif"):
        return image
    kind = f"{type(image).__module__}.{type(image).__qualname__}".removeprefix("builtins.")
    if isinstance(image, list | tuple):
        raise JaxposeError(f"the image is a {kind}; call this once for each image")
    if not hasattr(image, "__array__"):
        raise JaxposeError(
            f"the image is a {kind}; give a path, a PIL image or an array (encoded bytes: "
            "PIL.Image.open(io.BytesIO(data)))"
        )
    try:
        return np.asarray(image)
    except Exception as error:  # tensors on a GPU, tracers: each library raises its own kind
        raise JaxposeError(
            f"the image is a {kind} that NumPy cannot read; give an array in the CPU's memory"
        ) from error
