"""Decode JPEG and PNG images, at a reduced size where JPEG allows it.

A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size for a fraction of the work: each 8x8 block
becomes 4x4, 2x2 or 1 pixel. With the factor k = 2, 4 or 8, pixel c of the result covers
[c * k, (c + 1) * k) of the full image, clipped at its edge, as in ``geometry.reduce_by_area``.
(Verified for odd sizes. If chroma is subsampled along one axis only, libjpeg shifts the colors, so
those images are decoded at full size.)
"""

from typing import NamedTuple

import numpy as np

from jaxpose.optional import import_optional

PNG = b"\x89PNG\r\n\x1a\n"  # first bytes of the format
DEPTHS = (8, 10, 12, 14, 16)  # bits per channel
MAX_PIXELS = 160_000_000
"""Larger images are not decoded (480 MB as uint8 RGB). Below Pillow's own limit, 178,956,970."""


class Header(NamedTuple):
    """Information from the header of an image.

    Attributes:
      width, height: pixels.
      reducible: whether it can be decoded at a reduced size.
    """

    width: int
    height: int
    reducible: bool


def read_header(data: bytes) -> Header | None:
    """Read the size of a JPEG or PNG from its header.

    Args:
      data: the file's bytes.

    Returns:
      The header; None if the data is not a JPEG or PNG, is corrupt, or is too large.
    """
    if data[:2] == b"\xff\xd8":
        header = _jpeg_header(data)
    elif data[:8] == PNG:
        header = _png_header(data)
    else:
        return None
    if header is None or not 0 < header.width * header.height <= MAX_PIXELS:
        return None
    return header


def _png_header(data: bytes) -> Header | None:
    """Read the size of a PNG; None if one of its chunks does not end within the data.

    OpenCV allocates the length that a chunk declares, up to 4 GB for a corrupt file of 300 bytes.
    """
    if len(data) < 24:
        return None
    place = len(PNG)
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if length > len(data) - place - 8:
            return None
        if kind == b"IEND":
            break
        place += length + 12
    size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return Header(*size, reducible=False)


_NO_FRAME = (0xC4, 0xC8, 0xCC)  # not a frame, though between 0xC0 and 0xCF: DHT, JPG, DAC


def _jpeg_header(data: bytes) -> Header | None:
    place = 2
    while place + 4 <= len(data):
        marker = data[place + 1]
        if data[place] != 0xFF or marker == 0:  # bytes between segments, which libjpeg skips
            place = data.find(b"\xff", place + 1)
            if place < 0:
                return None
            continue
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # fill, no segment
            place += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            frame = data[place + 4 : place + 2 + length]
            if len(frame) < 9:
                return None
            height = int.from_bytes(frame[1:3], "big")
            width = int.from_bytes(frame[3:5], "big")
            sampling = frame[7]  # of the first component, horizontal and vertical
            return Header(width, height, reducible=sampling >> 4 == sampling & 15)
        place += 2 + length
    return None


def decode(data: bytes, *, reduction: int = 1) -> tuple[np.ndarray, int] | None:
    """Decode a JPEG or PNG; EXIF orientation is not applied (prepared data sets have none).

    A PNG of 16 bits is reduced to 8 by ``to_8_bits``.

    Args:
      data: the file's bytes.
      reduction: maximum reduction factor, a power of two.

    Returns:
      ``(image, reduced)``: uint8 [ceil(H / reduced), ceil(W / reduced), 3] RGB, and the power of
      two by which it is reduced; None if the image is corrupt.
    """
    header = read_header(data)
    if header is None:
        return None
    cv2 = import_optional("cv2", extra="train")
    reduced = min(reduction, 8) if header.reducible else 1
    scaled = {
        1: 0,
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
        4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    }[reduced]  # only the bit of the scale; RGB comes from the other flag
    flags = scaled | cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    expected = -(-header.height // reduced), -(-header.width // reduced)
    if image is None or image.shape[:2] != expected:
        return None
    return to_8_bits(image), reduced


def to_8_bits(levels: np.ndarray) -> np.ndarray:
    """Reduce levels of up to 16 bits to 8.

    Cameras store 10, 12 or 14 bits in 16 without recording it in the file, so the depth is inferred
    from the highest level.

    Args:
      levels: [...], integers from 0 to 65535.

    Returns:
      uint8 [...]: the upper 8 bits of the smallest depth (8, 10, 12, 14 or 16 bits) that holds
      every level.

    Example:
      >>> to_8_bits(np.array([0, 2048, 4095], np.uint16)).tolist()
      [0, 128, 255]
    """
    if levels.dtype == np.uint8:
        return levels
    high = levels.max(initial=0)
    depth = next(depth for depth in DEPTHS if high < 2**depth)
    return (levels.astype(np.uint16) >> (depth - 8)).astype(np.uint8)
