"""Pictures as a prepared data set has them: whole, RGB, upright, the source's own bytes if so."""

import collections
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from PIL import Image, ImageOps

from tfds_builders.sources import Files, ReadError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
KEPT_FORMATS = ("JPEG", "MPO", "PNG")  # MPO: a JPEG with further pictures behind it
ORIENTATION = 0x0112  # EXIF's tag
UPRIGHT = 1
MAX_PIXELS = 100_000_000
QUALITY = 95  # of what has to be encoded again

Tag = TypeVar("Tag")
Result = TypeVar("Result")


class Picture(NamedTuple):
    """An encoded picture.

    Attributes:
      data: JPEG or PNG, three channels of 8 bits, no orientation to apply.
      width: pixels.
      height: pixels.
      encoded_again: whether `data` differ from the source's bytes.
    """

    data: bytes
    width: int
    height: int
    encoded_again: bool


def size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, upright, from the header alone. Raises ReadError."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            sideways = image.getexif().get(ORIENTATION, UPRIGHT) in (5, 6, 7, 8)
            return (height, width) if sideways else (width, height)
    except Exception as error:  # Pillow raises whatever its formats' readers stumble over
        raise ReadError(_reason(error)) from error


def prepare(data: bytes) -> Picture:
    """Checks that a picture decodes to its end, and encodes it again only where it has to.

    Raises:
      ReadError: the picture is truncated or no picture; the message says why.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _prepare(data, image)
    except ReadError:
        raise
    except Exception as error:  # Pillow raises whatever its formats' readers stumble over
        raise ReadError(_reason(error)) from error


def _prepare(data: bytes, image: Image.Image) -> Picture:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ReadError(f"{width} x {height} is more than {MAX_PIXELS:,} pixels")
    if _kept(data, image):
        # An eighth of the size takes a fifth of the time and still reads the data to their end.
        # (Of fewer than eight rows or columns nothing would be left.)
        small = min(width, height) < 8
        if not small:
            image.draft("RGB", (width // 8, height // 8))
        image.load()
        how = cv2.IMREAD_COLOR if small else cv2.IMREAD_REDUCED_COLOR_8
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how)
        if pixels is None:
            raise ReadError("OpenCV cannot decode it")
        return Picture(data, width, height, encoded_again=False)
    if image.mode.startswith("I"):  # 16 bits: Pillow would clip, not scale
        upright = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype("u1"))
    else:
        upright = ImageOps.exif_transpose(image)
    upright = upright.convert("RGB")
    encoded = io.BytesIO()
    if image.format in ("JPEG", "MPO"):
        upright.save(encoded, "JPEG", quality=QUALITY, subsampling=0)
    else:
        upright.save(encoded, "PNG")
    return Picture(encoded.getvalue(), *upright.size, encoded_again=True)


def _kept(data: bytes, image: Image.Image) -> bool:
    """Whether every decoder gives the same three channels of 8 bits for these bytes."""
    if image.format not in KEPT_FORMATS or image.mode != "RGB":
        return False
    if image.format == "PNG" and (data[24] != 8 or "transparency" in image.info):
        return False  # byte 24: bits per channel
    if image.format == "PNG" and not _chunks_end_within(data):
        return False  # OpenCV would allocate what they say, up to 4 GB
    return image.getexif().get(ORIENTATION, UPRIGHT) == UPRIGHT


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
    if "cannot identify" in str(error):
        return "no picture"
    return " ".join(str(error).split()) or type(error).__name__


def read_all(
    requests: Iterable[tuple[Tag, Files, str]], process: Callable[[bytes, Tag], Result]
) -> Iterator[tuple[Tag, str, Result | ReadError]]:
    """Reads files one after the other and processes them in threads, a few ahead.

    Arguments:
      requests: (tag, files, name); sorted here into the order in which reading is fastest.
      process: takes a file's bytes and its tag, in a thread; may raise ReadError.

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

        def read_ahead(count):
            for tag, files, name in itertools.islice(ordered, count):
                try:
                    task = pool.submit(process, files.read(name), tag)
                except ReadError as error:
                    task = futures.Future()
                    task.set_exception(error)
                waiting.append((tag, name, task))

        try:
            read_ahead(4 * workers)
            while waiting:
                tag, name, task = waiting.popleft()
                try:
                    result = task.result()
                except ReadError as error:
                    result = error
                yield tag, name, result
                read_ahead(1)
        finally:
            for _, _, task in waiting:
                task.cancel()
