"""Read photos as RGB arrays from files, PIL images and arrays, and write images to files."""

import contextlib
import os
import pathlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxpose.data.images import MAX_PIXELS, to_8_bits
from jaxpose.errors import JaxposeError, first_line
from jaxpose.optional import import_optional
from jaxpose.paths import local_path
from jaxpose.storage import write_errors, written_file

JPEG_QUALITY = 92
WRITTEN = frozenset(".jpeg .jpg .png".split())  # suffixes of images that can be written
ORIENTATION = 0x0112  # EXIF's tag
HEIC_BRANDS = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)


def as_image(image: Any) -> np.ndarray:
    """Read a photo as RGB uint8 [H, W, 3], upright.

    Gray images with more than 8 bits are converted to 8: floats in [0, 1] are multiplied by 255,
    other values are reduced by ``to_8_bits``.

    Args:
      image: a path, a PIL image, or an array uint8 [H, W, 3] (or [H, W], gray).

    Raises:
      JaxposeError: the photo cannot be read, is too large, or has another shape or type.

    Example:
      >>> as_image(np.zeros((48, 64), np.uint8)).shape
      (48, 64, 3)
    """
    image = _as_array(image)
    if isinstance(image, np.ndarray):
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=-1)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or not image.size:
            raise JaxposeError(
                f"the image is an array {image.dtype} {image.shape}; give uint8 [height, width, "
                "3] in RGB"
            )
        return np.ascontiguousarray(image)
    pil = import_optional("PIL.Image", extra="predict")
    is_path = isinstance(image, str | os.PathLike)
    if is_path:
        image = local_path(image)
        if is_heic(image):
            _register_heic(image)
    name = image if is_path else "the image"
    try:
        with (
            warnings_of_pillow_ignored,
            _opened(image) if is_path else contextlib.nullcontext(image) as opened,
        ):
            if opened.width * opened.height > MAX_PIXELS:  # before it is decoded
                raise JaxposeError(
                    f"{name} has {opened.width}x{opened.height} pixels, more than {MAX_PIXELS:,}; "
                    "resize it first"
                )
            deep_colors = _has_deep_colors(opened)
            upright = upright_image(opened)
            if upright.mode.startswith(("I", "F")):  # Pillow would clip, not scale
                return np.repeat(_gray(np.asarray(upright), name)[..., None], 3, axis=-1)
            array = np.asarray(upright.convert("RGB"))
            if deep_colors and array.max() < 2**6:
                raise JaxposeError(
                    f"{name} has 16-bit colors of which only the lower bits are used; save it with "
                    "8 bits per channel first"
                )
            return np.ascontiguousarray(array)
    except JaxposeError:
        raise
    except pil.DecompressionBombError:
        most = min(MAX_PIXELS, 2 * pil.MAX_IMAGE_PIXELS)
        raise JaxposeError(f"{name} has more than {most:,} pixels; resize it first") from None
    except FileNotFoundError:
        raise JaxposeError(f"no file {name}; give an image") from None
    except Exception as error:  # Pillow's decoders raise many kinds for a corrupt file
        raise JaxposeError(f"{name} cannot be read as an image ({first_line(error)})") from error


@contextlib.contextmanager
def _opened(path: Any) -> Iterator[Any]:
    """Open an image file with Pillow.

    By its name, Pillow would map an uncompressed TIFF into memory with the width and height after
    the EXIF orientation, which scrambles the pixels.
    """
    pil = import_optional("PIL.Image", extra="predict")
    with open(path, "rb") as file, pil.open(file) as image:
        yield image


def upright_image(image: Any) -> Any:
    """Apply the EXIF orientation of a PIL image.

    Unlike ``PIL.ImageOps.exif_transpose``, this does not re-encode the EXIF block: encoding fails
    for some blocks that Pillow can read. An unreadable orientation is ignored.
    """
    transpose = import_optional("PIL.Image", extra="predict").Transpose
    image.load()  # for a TIFF, Pillow applies the orientation here
    method = {
        2: transpose.FLIP_LEFT_RIGHT,
        3: transpose.ROTATE_180,
        4: transpose.FLIP_TOP_BOTTOM,
        5: transpose.TRANSPOSE,
        6: transpose.ROTATE_270,
        7: transpose.TRANSVERSE,
        8: transpose.ROTATE_90,
    }.get(_orientation(image))
    return image if method is None else image.transpose(method)


def exif_orientation(path: str | os.PathLike) -> int:
    """Read the EXIF orientation of a photo that ``as_image`` can read; 1 (upright) by default."""
    pil = import_optional("PIL.Image", extra="predict")
    with warnings_of_pillow_ignored, pil.open(local_path(path)) as image:
        return _orientation(image)


def _orientation(image: Any) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises many kinds for a corrupt block
        return 1


def _has_deep_colors(image: Any) -> bool:
    """Whether Pillow, which has no 16-bit color mode, will keep only the upper 8 of 16 bits."""
    decoders = getattr(image, "tile", None) or []  # gone once an image is decoded
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile) for tile in decoders)


def _gray(values: np.ndarray, name: str) -> np.ndarray:
    """Convert gray values [H, W] of any type to uint8; floats up to 1 are fractions of white."""
    low, high = values.min(), values.max()
    is_float = values.dtype.kind == "f"
    if is_float and 0 <= low <= high < 2:  # a little over 1 after resampling
        return np.rint(255.0 * values.clip(0, 1)).astype(np.uint8)
    if not 0 <= low <= high < 2**16 or (is_float and high < 2**7):
        raise JaxposeError(
            f"{name} has values from {low:g} to {high:g}, which is not a valid range for a photo; "
            "save it with 8 or 16 bits per channel"
        )
    return to_8_bits(values.astype(np.uint16))


def is_heic(path: str | os.PathLike) -> bool:
    """Whether a file's first bytes are HEIC; its name is ignored (phones name some ``.jpg``)."""
    try:
        with open(path, "rb") as file:
            return is_heic_data(file.read(32))
    except OSError:  # reported when the file is opened
        return False


def is_heic_data(data: bytes) -> bool:
    """Whether the data start like a HEIC file."""
    length = int.from_bytes(data[:4], "big")
    brands = {data[place : place + 4] for place in range(8, min(length, len(data)) - 3, 4)}
    return data[4:8] == b"ftyp" and bool(brands & HEIC_BRANDS) and b"avif" not in brands


def _register_heic(name: str) -> None:
    """Make Pillow read HEIC if pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        raise JaxposeError(
            f"{name} is a HEIC image; convert it to JPEG or PNG first, or run: "
            "pip install pillow-heif"
        ) from None
    pillow_heif.register_heif_opener()


class _Ignored:
    """A context that ignores Pillow's warnings about files that it can still read.

    Several threads may enter it at once: warning filters belong to the whole process, so the first
    thread sets them and the last one restores them.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._users = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._users += 1

    def __exit__(self, *_) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._filters.__exit__(None, None, None)


warnings_of_pillow_ignored = _Ignored()


def save_image(image: np.ndarray, path: pathlib.Path) -> None:
    """Write an image uint8 [H, W, 3] RGB atomically, as PNG or JPEG by the suffix of the path.

    Raises:
      JaxposeError: the file cannot be written; an existing file is left unchanged.
    """
    pil = import_optional("PIL.Image", extra="predict")
    with write_errors(path), written_file(path) as local:
        pil.fromarray(image).save(local, quality=JPEG_QUALITY)


def _as_array(image: Any) -> Any:
    """Convert other libraries' arrays to NumPy; paths and PIL images are returned unchanged."""
    if isinstance(image, np.ndarray | str | os.PathLike) or hasattr(image, "getexif"):
        return image
    kind = f"{type(image).__module__}.{type(image).__qualname__}".removeprefix("builtins.")
    if isinstance(image, list | tuple):
        raise JaxposeError(f"the image is a {kind}; call this once for each image")
    if not hasattr(image, "__array__"):
        raise JaxposeError(
            f"the image is a {kind}; give a path, a PIL image or an array (for encoded bytes, "
            "PIL.Image.open(io.BytesIO(data)))"
        )
    try:
        return np.asarray(image)
    except Exception as error:  # tensors on a GPU, tracers: each library raises its own kind
        raise JaxposeError(
            f"the image is a {kind} that NumPy cannot read; give an array in the CPU's memory"
        ) from error
