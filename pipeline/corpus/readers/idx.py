"""Values of idx files, as MNIST has them: two zeros, the type of a number, the number of
dimensions, their sizes, then the numbers, all of them with the most significant byte first.

Of one dimension there is a number a row, which may be a label. Of three (rows, y, x) or four (rows,
y, x, channel) unsigned bytes there is an image a row: its value is an idx file of that image alone,
so that it says its own size.
"""

import struct
from collections.abc import Iterator
from math import prod
from typing import IO, Any

from pipeline.errors import InputError

ZEROS = b"\0\0"
"""What an idx file begins with, and neither a text nor a PNG nor a JPEG."""
TYPES = {0x08: "B", 0x09: "b", 0x0B: "h", 0x0C: "i", 0x0D: "f", 0x0E: "d"}
BYTES, FLOATS = 0x08, (0x0D, 0x0E)
IMAGE_LIMIT = 1 << 26  # bytes


class IdxReader:
    """The values of a file that begins with `ZEROS`. Raises InputError if it is another than its
    header says."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name = stream, name
        magic = stream.read(4)
        if len(magic) < 4 or magic[2] not in TYPES or not magic[3]:
            raise InputError(
                f"{name}: begins with the bytes {magic.hex(' ')}, which no idx file does (00 00, "
                "then 08 for bytes, then the number of dimensions), nor a text; fetch it anew"
            )
        kind, dimensions = magic[2], magic[3]
        sizes = stream.read(4 * dimensions)
        if len(sizes) < 4 * dimensions:
            raise InputError(f"{name}: ends inside its header, so it is cut short; fetch it anew")
        self.rows, *shape = struct.unpack(f">{dimensions}I", sizes)
        self.images = dimensions > 1
        self.floats = kind in FLOATS
        self._number = struct.Struct(">" + TYPES[kind])
        self._header = ZEROS + bytes([BYTES, dimensions - 1]) + sizes[4:]
        self._bytes = prod(shape) * self._number.size  # of a row
        if self.images and (kind != BYTES or dimensions not in (3, 4)):
            raise InputError(
                f"{name}: is an idx file of {dimensions} dimensions and type {kind:02x}; labels "
                "have 1, images 3 or 4 and type 08, unsigned bytes"
            )
        if not 0 < self._bytes <= IMAGE_LIMIT:
            size = " x ".join(map(str, shape))
            raise InputError(
                f"{name}: says that its images have {size} bytes; they need 1 to {IMAGE_LIMIT:,}"
            )
        if not self.rows:
            raise InputError(f"{name}: holds no row; take it out of the input")

    def __iter__(self) -> Iterator[Any]:
        for row in range(self.rows):
            data = self._stream.read(self._bytes)
            if len(data) < self._bytes:
                raise InputError(
                    f"{self._name}: ends after {row:,} of the {self.rows:,} rows that its header "
                    "says, so it is cut short; fetch it anew"
                )
            yield self._header + data if self.images else self._number.unpack(data)[0]
        if self._stream.read(1):
            raise InputError(
                f"{self._name}: goes on after the {self.rows:,} rows that its header says; fetch "
                "it anew"
            )


def shape_of(value: bytes) -> tuple[int, ...]:
    """The size of an image that an idx file gave (y, x), or (y, x, channel); () if it is none."""
    if len(value) < 4 or not value.startswith(ZEROS + bytes([BYTES])) or value[3] not in (2, 3):
        return ()
    start = offset(value)
    if len(value) < start:
        return ()
    shape = struct.unpack(f">{value[3]}I", value[4:start])
    return shape if len(value) == start + prod(shape) else ()


def offset(value: bytes) -> int:
    """The byte of an image at which its pixels begin."""
    return 4 + 4 * value[3]
