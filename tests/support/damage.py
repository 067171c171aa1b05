"""Files damaged byte by byte, and what may come of reading them: an answer or one line."""

import numpy as np

from jaxpose.errors import JaxposeError
from tfds_builders.errors import BuildError
from tfds_builders.mat_file import Malformed
from tfds_builders.sources import ReadError

REFUSED = object()
EXTREMES = [b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x01\0\0\0", b"\0\0\x01"]


def attempt(function, *arguments, **options):
    """What it returns; REFUSED after one line of error. Any other exception fails the test."""
    try:
        return function(*arguments, **options)
    except (JaxposeError, BuildError, ReadError, Malformed) as error:
        assert str(error).strip() and "\n" not in str(error), repr(error)
        return REFUSED


def damage(rng: np.random.Generator, data: bytes) -> bytes:
    """A good file, changed in some of the ways in which files break or are broken."""
    content = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        size = len(content)
        # Headers say how the rest is read, so they get more than their share.
        place = int(rng.integers(0, min(size, size if rng.random() < 0.7 else 200) + 1))
        length = int(rng.integers(1, 65))
        match rng.integers(0, 6):
            case 0:
                for i in rng.integers(0, size, rng.integers(1, 9)) if size else ():
                    content[i] ^= 1 << int(rng.integers(0, 8))
            case 1:
                del content[place:]
            case 2:
                del content[place : place + length]
            case 3:
                content[place:place] = rng.bytes(length)
            case 4:
                content[place:place] = content[place : place + length]
            case _:
                extreme = EXTREMES[rng.integers(0, len(EXTREMES))]
                content[place : place + len(extreme)] = extreme
    return bytes(content)


def cases(name: str, seeds: list[bytes], count: int):
    """So many damaged files, in turn of each good one; the same ones for a name every time."""
    rng = np.random.default_rng([*name.encode()])
    for number in range(count):
        yield damage(rng, seeds[number % len(seeds)])
