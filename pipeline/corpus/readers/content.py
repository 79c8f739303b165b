"""Decompresses input files and decodes text to UTF-8.

Compression is recognized by the first bytes of a file, independent of its name; UTF-16 and UTF-32
are recognized by a byte order mark.
"""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, cast

from pipeline.errors import InputError

HEAD_BYTES = 1 << 16
"""Number of bytes at the start of the content by which formats are recognized."""
CHUNK_BYTES = 1 << 20
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""Errors of reading a damaged or truncated file."""
SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
"""Suffixes of compressed files. Compression is recognized without them, too."""
TAR_SUFFIXES = {".tgz": ".tar", ".tbz2": ".tar", ".txz": ".tar"}
ARCHIVES = {b"PK\3\4": "zip", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "RAR"}
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
"""Byte order marks with their encodings. UTF-32 is first, because its mark begins with UTF-16's."""
UNDECODABLE = "\udcff"
"""Takes the place of bytes that cannot be decoded; in UTF-8, it is the invalid byte 0xFF."""


class _Unowned(io.RawIOBase):
    """Wraps a file, which stays open when the stream that reads it is closed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _open_zstd(file: IO[bytes]) -> IO[bytes]:
    import pyarrow as pa  # not needed to open a dataset, which imports this module

    stream: Any = pa.input_stream(_Unowned(file), compression="zstd")
    return io.BufferedReader(stream)


OPENERS: Mapping[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b\x08": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _open_zstd,
}
"""By the first bytes of a compressed file."""
BZIP2_BLOCKS = (b"1AY&", b"\x17rE8")
"""Bytes 4 to 7 of a bzip2 file, after a digit: the first block, or the end of an empty file."""


def is_compressed(head: bytes) -> bool:
    """Return whether a file whose first bytes are `head` is compressed."""
    return _opener(head) is not None


def plain_name(name: str) -> str:
    """Return a file's name without the suffix of its compression and a URL's query."""
    name = name.partition("?")[0] if "://" in name else name
    for suffix, plain in (*((s, "") for s in SUFFIXES), *TAR_SUFFIXES.items()):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)] + plain
    return name


def decompressed(file: IO[bytes], name: str) -> IO[bytes]:
    """Return a stream of a file's decompressed content; the file itself if it is not compressed.

    Closing the stream leaves the file open. Raises InputError for an archive of several files, such
    as zip.
    """
    head = file.read(8)
    file.seek(0)
    for magic, kind in ARCHIVES.items():
        if head.startswith(magic):
            raise InputError(
                f"{name}: is a {kind} archive; extract its files, and use them as input"
            )
    opener = _opener(head)
    return cast(IO[bytes], opener(file)) if opener else file


def read_head(file: IO[bytes], name: str) -> bytes:
    """Return the first bytes of a file's decompressed content, and rewind the file.

    Raises InputError if they cannot be read.
    """
    with read_errors(name):
        stream = decompressed(file, name)
        head = stream.read(HEAD_BYTES)
        file.seek(0)
    if stream is not file and is_compressed(head):
        raise InputError(f"{name}: is compressed twice; decompress it once")
    return head


def encoding_of(head: bytes, encoding: str, name: str) -> str:
    """Return the encoding of a text; empty for UTF-8, which needs no conversion.

    A byte order mark takes precedence over `encoding`. Raises InputError for a text that looks like
    UTF-16 but has neither, and for one without a mark in an encoding that needs it.
    """
    for mark, marked in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return marked
    if head.startswith(codecs.BOM_UTF8):
        return ""
    codec = codecs.lookup(encoding).name
    if codec in ("utf-16", "utf-32"):
        if not head:
            return ""
        raise InputError(
            f"{name}: has no byte order mark; set corpus.encoding={codec}-le, or {codec}-be"
        )
    if codec != "utf-8":
        return encoding
    sample = head[:512]
    for order, offset in (("be", 0), ("le", 1)):
        if len(sample) > 3 and sample[offset::2].count(0) * 4 > len(sample):
            raise InputError(
                f"{name}: looks like UTF-16 without a byte order mark; set "
                f"corpus.encoding=utf-16-{order}"
            )
    return ""


def utf8_chunks(chunks: Iterable[bytes], encoding: str, name: str) -> Iterator[bytes]:
    """Convert the chunks of a text to UTF-8. An invalid sequence becomes one byte 0xFF.

    Raises InputError if decoding cannot continue after an invalid sequence.
    """
    decoder = codecs.getincrementaldecoder(encoding)("headrace.mark")
    chunks = iter(chunks)
    while True:
        chunk = next(chunks, None)
        try:
            text = decoder.decode(chunk or b"", final=chunk is None)
        except UnicodeError as error:
            raise InputError(
                f"{name}: cannot be decoded by corpus.encoding={encoding}: {error}; set the "
                "encoding of this file"
            ) from None
        yield text.encode("utf-8", "headrace.mark")
        if chunk is None:
            return


def read_chunks(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """Yield a stream's content. Raises InputError if it is damaged or truncated."""
    with read_errors(name):
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


@contextmanager
def read_errors(name: str) -> Iterator[None]:
    """Convert errors of reading a file to InputError."""
    try:
        yield
    except READ_ERRORS as error:
        raise damaged(name, error) from None


def damaged(name: str, error: BaseException) -> InputError:
    """Return the error for a file that cannot be read."""
    return InputError(f"{name}: is damaged or truncated: {error}; download it again")


def _opener(head: bytes) -> Callable[[IO[bytes]], Any] | None:
    if head.startswith(b"BZh") and head[4:8] not in BZIP2_BLOCKS:
        return None  # a text that begins with the same bytes
    return next((opener for magic, opener in OPENERS.items() if head.startswith(magic)), None)


def _mark_undecodable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return the replacement of an invalid sequence: a string in decoding, a byte in encoding."""
    if isinstance(error, UnicodeEncodeError):
        return b"\xff", error.end
    assert isinstance(error, UnicodeDecodeError)
    return UNDECODABLE, error.end


codecs.register_error("headrace.mark", _mark_undecodable)
