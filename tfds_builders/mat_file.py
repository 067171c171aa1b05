"""A bounds-checked reader of MATLAB's .mat files of version 5 to 7.

SciPy's reader crashes with a segmentation fault on some corrupt files (found by changing bytes),
so this module parses the format itself ("MAT-File Format", The MathWorks, Level 5). A file is a
header of 128 bytes and a list of elements. An element is a type, a length in bytes, and its data.
An array is an element that contains other elements: its class, its shape, its name and its content.
The content of structs and cells is read on demand. An element that extends beyond its container is
an error.
"""

import math
import struct
import zlib
from typing import NamedTuple

import numpy as np

from tfds_builders.errors import BuildError

MAX_BYTES = 2**30  # maximum uncompressed size; MPII's annotations have about 0.2 GB
HEADER = 128

# Types of elements.
INT8, UINT8, INT32, UINT32, MATRIX, COMPRESSED = 1, 2, 5, 6, 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
NUMBERS |= {12: "i8", 13: "u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}

# Classes of arrays.
CELL, STRUCT, CHAR = 1, 2, 4
NUMERIC = range(6, 16)
COMPLEX = 0x0800  # a flag next to the class


class Malformed(Exception):
    """The file does not match the format or the caller's expectations."""


class Array(NamedTuple):
    """An array of MATLAB; the content of structs and cells is read on demand.

    Attributes:
      kind: "number", "text", "struct", "cell" or "other".
      shape: two or more sizes.
      values: numbers as a flat array in column-major order, or a text as ``str``.
      fields: names of a struct's fields.
      children: byte ranges of the elements of a cell, or of each field of each element of a struct.
      reader: reader of the file.
    """

    kind: str
    shape: tuple[int, ...]
    values: np.ndarray | str | None = None
    fields: tuple[str, ...] = ()
    children: tuple[tuple[int, int], ...] = ()
    reader: "_Reader | None" = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def numbers(self) -> np.ndarray:
        """Return the numbers in their shape. Raises Malformed if the array is not numeric."""
        if self.kind != "number":
            raise Malformed(f"{self.kind} instead of numbers")
        return self.values.reshape(self.shape, order="F")

    def cell(self, index: int) -> "Array":
        """Return an element of a cell array, in column-major order. Raises Malformed."""
        if self.kind != "cell" or not 0 <= index < len(self.children):
            raise Malformed(
                f"{self._named()} instead of a cell array with {index + 1} or more elements"
            )
        return self.reader.array(*self.children[index])[1]

    def field(self, index: int, name: str) -> "Array | None":
        """Return a field of a struct's element, None if it has no such field. Raises Malformed."""
        if self.kind != "struct" or not 0 <= index < self.size:
            raise Malformed(
                f"{self._named()} instead of a struct array with {index + 1} or more elements"
            )
        if self.fields.count(name) > 1:
            raise Malformed(f"duplicate field {name}")
        if name not in self.fields:
            return None
        place = index * len(self.fields) + self.fields.index(name)
        return self.reader.array(*self.children[place])[1]

    def _named(self) -> str:
        return f"{self.kind} of size {'x'.join(map(str, self.shape))}"


EMPTY = Array("number", (0, 0), np.zeros(0))


def read(data: bytes, variable: str, where: str) -> Array:
    """Read one variable of a .mat file.

    Args:
      data: content of the file.
      variable: name of the variable.
      where: name of the file, for messages.

    Raises:
      BuildError: the file is not a .mat file, is corrupt, or lacks the variable.
    """
    if data[:8] == b"\x89HDF\r\n\x1a\n" or data[:11] == b"MATLAB 7.3 ":
        raise BuildError(f"{where} is a MATLAB 7.3 file; load it in MATLAB and save it with '-v7'")
    try:
        found = [array for name, array in _variables(data) if name == variable]
    except Malformed as error:
        raise BuildError(
            f"{where} is not an intact .mat file ({error}); download it again"
        ) from error
    if len(found) != 1:
        raise BuildError(
            f"{where} has {'no' if not found else 'more than one'} variable {variable!r}; "
            "is it the release's file?"
        )
    return found[0]


def _variables(data: bytes):
    if len(data) <= HEADER or data[126:128] not in (b"IM", b"MI"):
        raise Malformed("no header of version 5")
    order = "<" if data[126:128] == b"IM" else ">"
    file = _Reader(data, order)
    start = HEADER
    while start < len(data):
        kind, first, end, start = file.element(start, len(data))
        if kind == COMPRESSED:
            inner = _Reader(_inflate(data[first:end]), order)
            kind, first, end, _ = inner.element(0, len(inner.data))
        else:
            inner = file
        if kind != MATRIX:
            raise Malformed(f"an element of type {kind} instead of an array")
        yield inner.array(first, end)


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, MAX_BYTES)
    except zlib.error as error:
        raise Malformed(str(error)) from error
    if not stream.eof:
        raise Malformed(
            f"more than {MAX_BYTES:,} bytes when uncompressed"
            if stream.unconsumed_tail
            else "unexpected end of file"
        )
    return inflated


class _Reader:
    """The elements of a buffer in one byte order."""

    def __init__(self, data: bytes, order: str):
        self.data = data
        self.order = order
        self._words = struct.Struct(f"{order}II")
        self._types = {kind: np.dtype(code).newbyteorder(order) for kind, code in NUMBERS.items()}

    def element(self, start: int, limit: int) -> tuple[int, int, int, int]:
        """Return type, start and end of the element at ``start``, and the start of the next one."""
        if start + 8 > limit:
            raise Malformed("unexpected end of file")
        kind, length = self._words.unpack_from(self.data, start)
        if kind >> 16:  # a small element: type, length and up to four bytes of data in eight bytes
            kind, length, first, after = kind & 0xFFFF, kind >> 16, start + 4, start + 8
            if length > 4:
                raise Malformed(f"a small data element with {length} bytes, but the maximum is 4")
        else:
            first = start + 8
            padding = 0 if kind == COMPRESSED else -length % 8
            after = first + length + padding
        if first + length > limit:
            raise Malformed("an element that exceeds its container")
        return kind, first, first + length, min(after, limit)

    def array(self, start: int, end: int) -> tuple[str, Array]:
        """Return name and content of the array in that byte range. Raises Malformed."""
        if start == end:
            return "", EMPTY
        kind, first, last, start = self.element(start, end)
        if kind != UINT32 or last - first != 8:
            raise Malformed("an array without a class")
        flags = self._words.unpack_from(self.data, first)[0]
        shape, start = self._shape(start, end)
        kind, first, last, start = self.element(start, end)
        if kind not in (INT8, UINT8):
            raise Malformed("an array without a name")
        name = self.data[first:last].decode("latin-1")
        array_class = flags & 0xFF
        if array_class == STRUCT:
            return name, self._struct(shape, start, end)
        if array_class == CELL:
            return name, Array(
                "cell", shape, children=self._children(math.prod(shape), start, end), reader=self
            )
        if array_class == CHAR:
            return name, self._text(shape, start, end)
        if array_class in NUMERIC and not flags & COMPLEX:
            return name, self._numbers(shape, start, end)
        return name, Array("other", shape)

    def _shape(self, start: int, end: int) -> tuple[tuple[int, ...], int]:
        kind, first, last, after = self.element(start, end)
        if kind != INT32 or not 8 <= last - first <= 64 or (last - first) % 4:
            raise Malformed("an array without a shape")
        shape = struct.unpack_from(f"{self.order}{(last - first) // 4}i", self.data, first)
        if min(shape) < 0:
            raise Malformed(f"an array with a negative size: shape {shape}")
        return shape, after

    def _children(self, count: int, start: int, end: int) -> tuple[tuple[int, int], ...]:
        if count * 8 > end - start:
            raise Malformed(f"{count} elements in only {end - start} bytes")
        children = []
        for _ in range(count):
            kind, first, last, start = self.element(start, end)
            if kind != MATRIX:
                raise Malformed(f"an element of type {kind} instead of an array")
            children.append((first, last))
        return tuple(children)

    def _struct(self, shape: tuple[int, ...], start: int, end: int) -> Array:
        kind, first, last, start = self.element(start, end)
        if kind != INT32 or last - first != 4:
            raise Malformed("a struct without the length of its field names")
        (length,) = struct.unpack_from(f"{self.order}i", self.data, first)
        kind, first, last, start = self.element(start, end)
        if kind not in (INT8, UINT8) or (last > first and (length < 1 or (last - first) % length)):
            raise Malformed("a struct without field names")
        names = (self.data[i : i + length] for i in range(first, last, max(1, length)))
        fields = tuple(name.split(b"\0")[0].decode("latin-1") for name in names)
        if not fields and math.prod(shape) > 1:
            raise Malformed("a struct array without fields")
        children = self._children(math.prod(shape) * len(fields), start, end)
        return Array("struct", shape, fields=fields, children=children, reader=self)

    def _text(self, shape: tuple[int, ...], start: int, end: int) -> Array:
        kind, first, last, _ = self.element(start, end)
        if kind not in TEXTS:
            raise Malformed(f"text of the unsupported type {kind}")
        if math.prod(shape) > last - first:
            raise Malformed(f"{math.prod(shape)} characters in only {last - first} bytes")
        if math.prod(shape) != max(shape, default=0) and math.prod(shape):
            return Array("other", shape)  # several lines
        encoding = TEXTS[kind]
        if encoding in ("utf-16", "utf-32"):
            encoding += "-le" if self.order == "<" else "-be"
        try:
            return Array("text", shape, self.data[first:last].decode(encoding))
        except UnicodeDecodeError as error:
            raise Malformed(f"text that is not valid {encoding}") from error

    def _numbers(self, shape: tuple[int, ...], start: int, end: int) -> Array:
        kind, first, last, _ = self.element(start, end)
        if kind not in self._types:
            raise Malformed(f"numbers of the unsupported type {kind}")
        dtype = self._types[kind]
        if math.prod(shape) * dtype.itemsize != last - first:
            raise Malformed(
                f"{math.prod(shape)} numbers of {dtype.itemsize} bytes in {last - first} bytes"
            )
        return Array("number", shape, np.frombuffer(self.data, dtype, math.prod(shape), first))
