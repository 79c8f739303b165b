"""Members of tar archives, which may come from untrusted sources.

Nothing is executed or extracted, and no link is followed. The headers are not parsed by
`tarfile.TarFile`, because it reports a damaged or truncated archive as complete, and a negative
size can cause an endless loop.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from typing import IO, NamedTuple

from pipeline.errors import InputError

BLOCK = tarfile.BLOCKSIZE
MAX_MEMBER_BYTES = 1 << 26
MAX_EXTENSION_BYTES = 1 << 20  # of a long name or of PAX records
PAX_TYPES = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)
EXTENSION_TYPES = (*PAX_TYPES, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
TYPES_WITHOUT_CONTENT = (
    tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)  # fmt: skip
RELEVANT_PAX_KEYS = re.compile(r"path$|size$|GNU\.sparse\.")
"""Keys of PAX records that change how a member is read; all others are ignored."""


class Member(NamedTuple):
    """A member of an archive, including the extended headers in front of its own header."""

    start: int  # byte offset of its first header
    name: str  # ends in a slash for a directory
    content: int  # byte offset of its content
    size: int  # bytes of its content
    readable: bool  # whether it is a regular file whose name stays inside the archive's root

    @property
    def stop(self) -> int:
        """Byte offset of the next member's first header."""
        return self.content + _round_up_to_block(self.size)


class Archive:
    """Reads a tar archive in USTAR, GNU or PAX format. `name` is the file's name in errors."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name
        self.size = file.seek(0, os.SEEK_END)

    def members(self, start: int, stop: int | None) -> Iterator[Member]:
        """Yield the members whose first header is in [start, stop), or up to the archive's end if
        `stop` is None.

        Raises InputError if the archive is damaged, or truncated before its end-of-archive blocks.
        """
        while (stop is None or start < stop) and (member := self._member(start)):
            yield member
            start = member.stop

    def read(self, member: Member) -> bytes:
        """Return the content of a readable member. Raises InputError if it is too large."""
        assert member.readable
        if member.size > MAX_MEMBER_BYTES:
            raise InputError(
                f"{self._name}, byte {member.start}: the member {member.name!r} has "
                f"{member.size:,} bytes, more than the limit of {MAX_MEMBER_BYTES:,}; split it, or "
                "use another column"
            )
        return self._read_at(member.content, member.size)

    def _member(self, start: int) -> Member | None:
        """Return the member whose first header is at `start`; None if the archive ends there."""
        offset = start
        records: dict[str, str] = {}
        while (header := self._header(offset)) and header.type in EXTENSION_TYPES:
            records |= self._extension(header, offset)
            offset += BLOCK + _round_up_to_block(header.size)
        if header is None:
            self._check_end(offset)
            return None
        name = records.get("path", header.name)
        if header.isdir():
            name = name.rstrip("/") + "/"
        if header.type == tarfile.GNUTYPE_SPARSE or any("sparse" in key for key in records):
            raise InputError(
                f"{self._name}, byte {start}: the member {name!r} is sparse, which is not "
                "supported; pack it without --sparse"
            )
        size = self._size(header, records, offset)
        if offset + BLOCK + size > self.size:
            raise self._truncated(f"inside the member {name!r}, which begins at byte {start}")
        inside_root = not name.startswith("/") and ".." not in name.split("/")
        return Member(start, name, offset + BLOCK, size, inside_root and header.isreg())

    def _size(self, header: tarfile.TarInfo, records: dict[str, str], offset: int) -> int:
        """Return a member's content size; its PAX records take precedence over its header."""
        if header.type in TYPES_WITHOUT_CONTENT:
            return 0
        try:
            size = int(records.get("size", header.size))
        except ValueError:
            raise self._damaged(offset, "a size is not a number") from None
        if size < 0:
            raise self._damaged(offset, "a size is negative")
        return size

    def _header(self, offset: int) -> tarfile.TarInfo | None:
        """Return the header at `offset`; None if there is a block of zeros."""
        block = self._read_at(offset, BLOCK)
        if len(block) < BLOCK:
            raise self._truncated("before the two blocks of zeros that end an archive")
        if not block.strip(b"\0"):
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise self._damaged(offset, str(error)) from None

    def _extension(self, header: tarfile.TarInfo, offset: int) -> dict[str, str]:
        """Return, as PAX records, what an extended header specifies for the next member."""
        if not 0 <= header.size <= MAX_EXTENSION_BYTES:
            raise self._damaged(offset, f"an extended header has {header.size} bytes")
        data = self._read_at(offset + BLOCK, header.size)
        if len(data) < header.size:
            raise self._truncated(f"inside the extended header at byte {offset}")
        if header.type == tarfile.GNUTYPE_LONGNAME:
            return {"path": data.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
        if header.type not in PAX_TYPES:
            return {}
        try:
            records = {k: value for k, value in _pax_records(data) if RELEVANT_PAX_KEYS.match(k)}
        except ValueError:
            raise self._damaged(offset, "a PAX record has an invalid length") from None
        if records and header.type == tarfile.XGLTYPE:
            raise self._damaged(offset, f"a global header sets {min(records)!r} for every member")
        return records

    def _check_end(self, offset: int) -> None:
        """Raise InputError unless two blocks of zeros are at `offset` and no data follows them."""
        if self.size < offset + 2 * BLOCK:
            raise self._truncated(
                "before the second of the two blocks of zeros that end an archive"
            )
        while data := self._read_at(offset, MAX_EXTENSION_BYTES):
            if data.strip(b"\0"):
                raise InputError(
                    f"{self._name}, byte {offset}: more data follows the archive's end and would "
                    "be ignored; if archives were concatenated, list each as its own file"
                )
            offset += len(data)

    def _read_at(self, offset: int, size: int) -> bytes:
        try:
            self._file.seek(offset)
            return self._file.read(size)
        except OSError as error:
            raise InputError(f"{self._name}: cannot be read: {error.strerror}") from None

    def _truncated(self, where: str) -> InputError:
        return InputError(
            f"{self._name}: ends at byte {self.size} {where}, so it is cut short; download it again"
        )

    def _damaged(self, offset: int, reason: str) -> InputError:
        return InputError(
            f"{self._name}, byte {offset}: is not a valid tar archive: {reason}; download it again"
        )


def _round_up_to_block(size: int) -> int:
    """Round a number of bytes up to a multiple of the block size."""
    return -(-size // BLOCK) * BLOCK


def _pax_records(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the key and value of each PAX record, which is "LENGTH KEY=VALUE" and a newline.

    Raises ValueError if a length is invalid.
    """
    start = 0
    while start < len(data):
        space = data.index(b" ", start)
        end = start + int(data[start:space])
        if not space < end <= len(data):
            raise ValueError
        key, _, value = data[space + 1 : end - 1].decode("utf-8", "surrogateescape").partition("=")
        yield key, value
        start = end
