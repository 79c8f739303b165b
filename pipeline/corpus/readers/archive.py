"""The members of a tar, which may come from anyone: nothing is run, unpacked or followed.

The headers are walked here and not by `tarfile.TarFile`, which takes an archive that is damaged or
cut for one that ends there, and can be led in circles by a negative size.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from typing import IO, NamedTuple

from pipeline.errors import InputError

BLOCK = tarfile.BLOCKSIZE
MEMBER_LIMIT = 1 << 26  # bytes of a member that is read
EXTENSION_LIMIT = 1 << 20  # bytes of a long name or of PAX records
PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)
EXTENSIONS = (*PAX, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
WITHOUT_CONTENT = (
    tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)  # fmt: skip
BEARING = re.compile(r"path$|size$|GNU\.sparse\.")  # keys of PAX records that change the reading


class Member(NamedTuple):
    """A member, with the extended headers that go before its own."""

    start: int  # byte of the first header
    name: str  # that of a folder ends in a slash
    content: int  # byte that it begins at
    size: int
    readable: bool  # a regular file whose name stays inside the archive's folder

    @property
    def stop(self) -> int:
        """The byte of the next header."""
        return self.content + _whole_blocks(self.size)


class Archive:
    """A tar of any dialect: USTAR, GNU or PAX."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name
        self.size = file.seek(0, os.SEEK_END)

    def members(self, start: int, stop: int | None) -> Iterator[Member]:
        """Those that begin at `start` or later and before `stop`, or up to the archive's end.

        Raises InputError where the archive is damaged, or is cut before the end that it must have.
        """
        while (stop is None or start < stop) and (member := self._member(start)):
            yield member
            start = member.stop

    def read(self, member: Member) -> bytes:
        """The content of a member."""
        assert member.readable
        if member.size > MEMBER_LIMIT:
            raise InputError(
                f"{self._name}, byte {member.start}: the member {member.name!r} has "
                f"{member.size:,} bytes, more than the {MEMBER_LIMIT:,} that a text may have; "
                "split it, or name another column"
            )
        return self._at(member.content, member.size)

    def _member(self, start: int) -> Member | None:
        """The member whose headers begin at `start`; None if the archive ends there."""
        place = start
        records: dict[str, str] = {}
        while (header := self._header(place)) and header.type in EXTENSIONS:
            records |= self._extension(header, place)
            place += BLOCK + _whole_blocks(header.size)
        if header is None:
            self._check_end(place)
            return None
        name = records.get("path", header.name)
        if header.isdir():
            name = name.rstrip("/") + "/"
        if header.type == tarfile.GNUTYPE_SPARSE or any("sparse" in key for key in records):
            raise InputError(
                f"{self._name}, byte {start}: the member {name!r} is sparse, which is not read; "
                "pack it without --sparse"
            )
        size = self._size(header, records, place)
        if place + BLOCK + size > self.size:
            raise self._cut(f"inside the member {name!r}, which begins at byte {start}")
        inside = not name.startswith("/") and ".." not in name.split("/")
        return Member(start, name, place + BLOCK, size, inside and header.isreg())

    def _size(self, header: tarfile.TarInfo, records: dict[str, str], place: int) -> int:
        """Bytes of a member's content, where its PAX records overrule its header."""
        if header.type in WITHOUT_CONTENT:
            return 0
        try:
            size = int(records.get("size", header.size))
        except ValueError:
            raise self._damaged(place, "a size is no number") from None
        if size < 0:
            raise self._damaged(place, "a size is negative")
        return size

    def _header(self, place: int) -> tarfile.TarInfo | None:
        """The header at `place`; None if a block of zeros is there."""
        block = self._at(place, BLOCK)
        if len(block) < BLOCK:
            raise self._cut("before the two blocks of zeros that end an archive")
        if not block.strip(b"\0"):
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise self._damaged(place, str(error)) from None

    def _extension(self, header: tarfile.TarInfo, place: int) -> dict[str, str]:
        """What an extended header says of the next member, as PAX records."""
        if not 0 <= header.size <= EXTENSION_LIMIT:
            raise self._damaged(place, f"an extended header has {header.size} bytes")
        data = self._at(place + BLOCK, header.size)
        if len(data) < header.size:
            raise self._cut(f"inside the extended header at byte {place}")
        if header.type == tarfile.GNUTYPE_LONGNAME:
            return {"path": data.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
        if header.type not in PAX:
            return {}
        try:
            records = {key: value for key, value in _pax_records(data) if BEARING.match(key)}
        except ValueError:
            raise self._damaged(place, "a PAX record has a wrong length") from None
        if records and header.type == tarfile.XGLTYPE:
            raise self._damaged(place, f"a global header sets {min(records)!r} of every member")
        return records

    def _check_end(self, place: int) -> None:
        """Raises InputError unless two blocks of zeros are at `place`, and nothing comes after."""
        if self.size < place + 2 * BLOCK:
            raise self._cut("before the second of the two blocks of zeros that end an archive")
        while data := self._at(place, EXTENSION_LIMIT):
            if data.strip(b"\0"):
                raise InputError(
                    f"{self._name}, byte {place}: more follows on the archive's end, and would be "
                    "left out; were archives joined, give each as a file of its own"
                )
            place += len(data)

    def _at(self, place: int, size: int) -> bytes:
        try:
            self._file.seek(place)
            return self._file.read(size)
        except OSError as error:
            raise InputError(f"{self._name}: cannot be read: {error.strerror}") from None

    def _cut(self, where: str) -> InputError:
        return InputError(
            f"{self._name}: ends at byte {self.size} {where}, so it is cut short; fetch it anew"
        )

    def _damaged(self, place: int, why: str) -> InputError:
        return InputError(f"{self._name}, byte {place}: is no whole tar: {why}; fetch it anew")


def _whole_blocks(size: int) -> int:
    """Bytes of the blocks that `size` bytes take."""
    return -(-size // BLOCK) * BLOCK


def _pax_records(data: bytes) -> Iterator[tuple[str, str]]:
    """Key and value of each record, "LENGTH KEY=VALUE" and a line end.

    Raises ValueError where a length is wrong.
    """
    place = 0
    while place < len(data):
        space = data.index(b" ", place)
        end = place + int(data[place:space])
        if not space < end <= len(data):
            raise ValueError
        key, _, value = data[space + 1 : end - 1].decode("utf-8", "surrogateescape").partition("=")
        yield key, value
        place = end
