"""Check a data set's images. Those that are not upright RGB are re-encoded, others are kept."""

import collections
import contextlib
import io
import itertools
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from tfds_builders.sources import Files, ReadError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
KEPT_FORMATS = ("JPEG", "MPO", "PNG")  # MPO: a JPEG followed by further images
HEIC_BRANDS = frozenset(  # in the first box of HEIC files
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
ORIENTATION = 0x0112  # EXIF's tag
UPRIGHT = 1
UNKNOWN = None  # the orientation of an EXIF block that cannot be read
TRANSPOSE = {  # operation that turns an image upright, by orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DEPTHS = (8, 10, 12, 14, 16)  # bits per gray level
MAX_PIXELS = 160_000_000  # as in jaxpose.data.images
QUALITY = 95  # JPEG quality of re-encoded images

Tag = TypeVar("Tag")
Result = TypeVar("Result")


class EncodedImage(NamedTuple):
    """An encoded image.

    Attributes:
      data: JPEG or PNG, three channels of 8 bits, no orientation to apply.
      width: width in pixels.
      height: height in pixels.
      encoded_again: whether ``data`` differs from the source's bytes.
    """

    data: bytes
    width: int
    height: int
    encoded_again: bool


def size(data: bytes) -> tuple[int, int]:
    """Read width and height (of the upright image, in pixels) from the header. Raises ReadError."""
    try:
        with _opened(data) as image:
            width, height = image.size
            return (height, width) if _orientation(image) in (5, 6, 7, 8) else (width, height)
    except Exception as error:  # Pillow's decoders raise various exceptions
        raise ReadError(_reason(error)) from error


def orientation(data: bytes) -> int | None:
    """Read the EXIF orientation (``UPRIGHT``, or a key of ``TRANSPOSE``) of an intact image."""
    with _opened(data) as image:
        return _orientation(image)


def prepare(data: bytes) -> EncodedImage:
    """Check that an image decodes completely, and re-encode it only if necessary.

    Raises:
      ReadError: the data is truncated or not an image; the message gives the reason.
    """
    try:
        with _opened(data) as image:
            return _prepare(data, image)
    except ReadError:
        raise
    except Exception as error:  # Pillow's decoders raise various exceptions
        brands = {data[place : place + 4] for place in range(8, 40, 4)}
        if data[4:8] == b"ftyp" and brands & HEIC_BRANDS and b"avif" not in brands:
            raise ReadError("a HEIC image; convert it to JPEG or PNG first") from error
        if data[:4] in TIFF_STARTS:
            raise ReadError("a TIFF image; convert it to JPEG or PNG first") from error
        raise ReadError(_reason(error)) from error


class _Ignored:
    """A context manager that ignores Pillow's warnings about files that it can read.

    Several threads may use it at once: Python's warning filters are global to the process, so the
    first thread sets them and the last one restores them.
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


_ignored = _Ignored()


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    with _ignored, Image.open(io.BytesIO(data), formats=FORMATS) as image:
        yield image


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ORIENTATION, UPRIGHT)
    except Exception:  # Pillow raises various exceptions for a corrupt block
        return UNKNOWN


def _prepare(data: bytes, image: Image.Image) -> EncodedImage:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ReadError(f"{width} x {height} is more than {MAX_PIXELS:,} pixels")
    if _kept(data, image):
        # Decoding at an eighth of the size takes a fifth of the time and still reads all the data.
        # (An image with fewer than eight rows or columns would vanish.)
        small = min(width, height) < 8
        if not small:
            image.draft("RGB", (width // 8, height // 8))
        image.load()
        how = cv2.IMREAD_COLOR if small else cv2.IMREAD_REDUCED_COLOR_8
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how)
        if pixels is None:
            raise ReadError("OpenCV cannot decode it")
        return EncodedImage(data, width, height, encoded_again=False)
    deep_colors = image.format == "PNG" and data[24] == 16 and not image.mode.startswith("I")
    upright = Image.fromarray(_to_8_bits(image)) if image.mode.startswith("I") else image
    # Not ImageOps.exif_transpose, which rewrites the EXIF block and fails for values that it cannot
    # encode.
    if (method := TRANSPOSE.get(_orientation(image))) is not None:
        upright = upright.transpose(method)
    upright = upright.convert("RGB")
    if deep_colors and np.asarray(upright).max() < 2**6:  # Pillow keeps the upper 8 of 16 bits
        raise ReadError(
            "its 16-bit colors use only the lower bits; save it with 8 bits per channel first"
        )
    encoded = io.BytesIO()
    if image.format in ("JPEG", "MPO"):
        upright.save(encoded, "JPEG", quality=QUALITY, subsampling=0)
    else:
        upright.save(encoded, "PNG")
    return EncodedImage(encoded.getvalue(), *upright.size, encoded_again=True)


def _kept(data: bytes, image: Image.Image) -> bool:
    """Whether every decoder gives the same three channels of 8 bits for these bytes."""
    if image.format not in KEPT_FORMATS or image.mode != "RGB":
        return False
    if image.format == "PNG" and (data[24] != 8 or "transparency" in image.info):
        return False  # byte 24: bits per channel
    if image.format == "PNG" and not _chunks_end_within(data):
        return False  # OpenCV would allocate the declared length, up to 4 GB
    return _orientation(image) == UPRIGHT


def _to_8_bits(image: Image.Image) -> np.ndarray:
    """Reduce gray levels of more than 8 bits [H, W] to uint8.

    The smallest of ``DEPTHS`` that holds the highest level is taken as the number of bits, because
    cameras store 12 bits in 16. The lowest bits are dropped. (Pillow would clip the levels.)
    """
    levels = np.asarray(image)
    low, high = levels.min(), levels.max()
    if not 0 <= low <= high < 2 ** DEPTHS[-1]:
        raise ReadError(
            f"its gray levels range from {low} to {high}, outside the 16-bit range 0 to 65535"
        )
    depth = next(depth for depth in DEPTHS if high < 2**depth)
    return (levels.astype(np.uint16) >> (depth - 8)).astype(np.uint8)


def _chunks_end_within(data: bytes) -> bool:
    """Whether every chunk of a PNG, up to its last one, ends within the data."""
    place = 8
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if length > len(data) - place - 8:
            return False
        if data[place + 4 : place + 8] == b"IEND":
            break
        place += length + 12
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return " ".join(str(error).split()) or type(error).__name__


def read_all(
    requests: Iterable[tuple[Tag, Files, str]], process: Callable[[bytes, Tag], Result]
) -> Iterator[tuple[Tag, str, Result | ReadError]]:
    """Read files one after the other and process them in threads, with prefetching.

    Args:
      requests: (tag, files, name) triples in any order; the files are read in the fastest order.
      process: function of a file's bytes and its tag, called in a thread; may raise ReadError.

    Yields:
      (tag, name, result or the ReadError), in the order of reading.
    """
    places: dict[int, dict[str, int]] = {}
    numbers: dict[int, int] = {}

    def place(request):
        _, files, name = request
        if id(files) not in places:
            places[id(files)] = {other: i for i, other in enumerate(files.names)}
            numbers[id(files)] = len(numbers)
        return numbers[id(files)], places[id(files)][name]

    workers = min(8, os.cpu_count() or 1)
    ordered = iter(sorted(requests, key=place))
    with futures.ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque = collections.deque()

        def prefetch(count):
            for tag, files, name in itertools.islice(ordered, count):
                try:
                    task = pool.submit(process, files.read(name), tag)
                except ReadError as error:
                    task = futures.Future()
                    task.set_exception(error)
                waiting.append((tag, name, task))

        try:
            prefetch(4 * workers)
            while waiting:
                tag, name, task = waiting.popleft()
                try:
                    result = task.result()
                except ReadError as error:
                    result = error
                yield tag, name, result
                prefetch(1)
        finally:
            for _, _, task in waiting:
                task.cancel()
