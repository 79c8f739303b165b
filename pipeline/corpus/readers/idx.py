"""Values of idx files, the format of MNIST: two zero bytes, the data type, the number of
dimensions, the size of each dimension, then the values. All numbers are big-endian.

A file of one dimension has a number per row, such as a label. A file of unsigned bytes with three
dimensions (rows, y, x) or four (rows, y, x, channel) has an image per row. The value of such a row
is an idx file of this image alone, so it includes the image's shape.
"""

import struct
from collections.abc import Iterator
from math import prod
from typing import IO, Any

from pipeline.errors import InputError

ZEROS = b"\0\0"
"""The first bytes of an idx file; no text, PNG or JPEG begins with them."""
STRUCT_FORMATS = {0x08: "B", 0x09: "b", 0x0B: "h", 0x0C: "i", 0x0D: "f", 0x0E: "d"}
UNSIGNED_BYTE, FLOAT_TYPES = 0x08, (0x0D, 0x0E)
MAX_IMAGE_BYTES = 1 << 26


class IdxReader:
    """Iterates over the values of a file that begins with `ZEROS`.

    `images` and `floats` are true if the values are images or floating-point numbers. Raises
    InputError if the header is invalid or does not match the content.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name = stream, name
        magic = stream.read(4)
        if len(magic) < 4 or magic[2] not in STRUCT_FORMATS or not magic[3]:
            raise InputError(
                f"{name}: begins with the bytes {magic.hex(' ')}, which is neither text nor an idx "
                "header (00 00, a type such as 08 for unsigned bytes, the number of dimensions); "
                "download it again"
            )
        dtype, dimensions = magic[2], magic[3]
        sizes = stream.read(4 * dimensions)
        if len(sizes) < 4 * dimensions:
            raise InputError(
                f"{name}: ends inside its header, so it is cut short; download it again"
            )
        self.rows, *shape = struct.unpack(f">{dimensions}I", sizes)
        self.images = dimensions > 1
        self.floats = dtype in FLOAT_TYPES
        self._number = struct.Struct(">" + STRUCT_FORMATS[dtype])
        self._image_header = ZEROS + bytes([UNSIGNED_BYTE, dimensions - 1]) + sizes[4:]
        self._row_bytes = prod(shape) * self._number.size
        if self.images and (dtype != UNSIGNED_BYTE or dimensions not in (3, 4)):
            raise InputError(
                f"{name}: is an idx file with {dimensions} dimensions and type {dtype:02x}; labels "
                "need 1 dimension, images need 3 or 4 dimensions and type 08 (unsigned bytes)"
            )
        if not 0 < self._row_bytes <= MAX_IMAGE_BYTES:
            size = " x ".join(map(str, shape))
            raise InputError(
                f"{name}: its header declares images of {size} bytes; an image must have 1 to "
                f"{MAX_IMAGE_BYTES:,} bytes"
            )
        if not self.rows:
            raise InputError(f"{name}: has no rows; remove it from the input")

    def __iter__(self) -> Iterator[Any]:
        for row in range(self.rows):
            data = self._stream.read(self._row_bytes)
            if len(data) < self._row_bytes:
                raise InputError(
                    f"{self._name}: ends after {row:,} of the {self.rows:,} rows that its header "
                    "declares, so it is cut short; download it again"
                )
            yield self._image_header + data if self.images else self._number.unpack(data)[0]
        if self._stream.read(1):
            raise InputError(
                f"{self._name}: has data after the {self.rows:,} rows that its header declares; "
                "download it again"
            )


def image_shape(value: bytes) -> tuple[int, ...]:
    """Return the shape of an image from an idx file, (y, x) or (y, x, channel); () if the value is
    not such an image."""
    magic = ZEROS + bytes([UNSIGNED_BYTE])
    if len(value) < 4 or not value.startswith(magic) or value[3] not in (2, 3):
        return ()
    start = pixel_offset(value)
    if len(value) < start:
        return ()
    shape = struct.unpack(f">{value[3]}I", value[4:start])
    return shape if len(value) == start + prod(shape) else ()


def pixel_offset(value: bytes) -> int:
    """Return the byte offset of the pixels in an image from an idx file."""
    return 4 + 4 * value[3]
