"""Rows of WebDataset shards: consecutive tar members with the same name up to the first dot of the
file name form a sample."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from pipeline.corpus.readers import content
from pipeline.corpus.readers.archive import Archive, Member
from pipeline.corpus.readers.base import (
    NoRowsError,
    RawFile,
    Reader,
    has_nested,
    nested,
    require_columns,
)
from pipeline.corpus.readers.formats.jsonl import parse_json_object
from pipeline.corpus.row import Row, Unreadable
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import InputError

BINARY_EXTENSIONS = ("png", "jpg", "jpeg", "npy")
"""Extensions of members whose content is bytes; all others are text."""
METADATA = re.compile(r"__[^/]*__/")  # a folder without samples, as webdataset defines it
USTAR_OFFSET = 257
MEMBERS_TO_CHECK = 1000
"""Number of members at the start of an archive from which the split of names is determined."""
MAX_KEYS = 1 << 20
"""Maximum number of sample keys that are remembered to detect members that are not adjacent."""

Split = Callable[[str], tuple[str, str]]
"""Splits a member's file name into the sample's key and the extension."""


class WebDataset(Reader):
    """Reads the samples of a tar archive, one per row. A mark is a byte offset.

    A column is the extension of a sample's member, or else a key of its .json member, possibly
    nested. The value is None for a member that is not a regular file, or whose name points outside
    the archive's root.

    A name is split at its first dot. If then no member has the extension of a column, but some have
    it after a later dot, keys contain dots, such as `doc.1` in `doc.1.txt`.
    """

    suffixes = (".tar",)
    seeks = True

    @classmethod
    def recognizes(cls, name: str, head: bytes = b"") -> bool:
        return super().recognizes(name) or head[USTAR_OFFSET:].startswith(b"ustar")

    def __init__(self, file: RawFile, columns: Sequence[str], settings: CorpusSettings) -> None:
        super().__init__(file, columns, settings)
        self._archive = Archive(file.stream, file.name)
        self.size = self._archive.size
        self._start, self._row_number = 0, 1
        self._stop: int | None = None
        self._split = self._choose_split()

    def list_columns(self) -> list[str]:
        found: dict[str, None] = {}
        for sample in islice(self._samples(), MEMBERS_TO_CHECK):
            found |= dict.fromkeys(sample)
            if "json" in sample and isinstance(values := self._parsed(sample["json"]), dict):
                found |= dict.fromkeys(values)
        found.pop("json", None)
        return list(found)

    def seek(self, start: int, stop: int, row: int) -> None:
        self._start, self._stop, self._row_number = start, stop, row

    def rows(self) -> Iterator[Row]:
        records = map(self._record, self._samples())
        if self._stop is None:
            rows = require_columns(records, self.columns, self.file.name)
        else:
            rows = (values for values, _ in records)
        for values in rows:
            if isinstance(values, Unreadable):
                yield Row(self._row_number, None, 0, *values)
            else:
                yield Row(self._row_number, values)
            self._row_number += 1
        if self._row_number == 1:
            raise NoRowsError(
                f"{self.file.name}: has no samples, as no member is named KEY.EXTENSION; remove it "
                "from the input"
            )

    def _choose_split(self) -> Split:
        """Return the function that splits the names of members, determined from the first ones."""
        members = islice(self._archive.members(0, None), MEMBERS_TO_CHECK)
        names = [member.name.rpartition("/")[2] for member in members]
        wanted = {*self.columns, "json"}
        if wanted & {_at_first_dot(name)[1] for name in names}:
            return _at_first_dot
        return _at_last_dot if wanted & {_at_last_dot(name)[1] for name in names} else _at_first_dot

    def _key_and_extension(self, name: str) -> tuple[str, str]:
        """Split a member's name as webdataset does; ("", "") if the member belongs to no sample."""
        folder, _, file_name = name.rpartition("/")
        key, extension = self._split(file_name)
        if not key or not extension or METADATA.match(name):
            return "", ""
        return f"{folder}/{key}", extension

    def _samples(self) -> Iterator[dict[str, Member]]:
        """Yield each sample as a dict from extension to member."""
        sample: dict[str, Member] = {}
        sample_key = ""
        seen: set[int] = set()
        for member in self._archive.members(self._start, self._stop):
            key, extension = self._key_and_extension(member.name)
            if not key:
                continue
            if sample and key != sample_key:
                self.mark = self.position = member.start
                yield sample
                sample = {}
                if hash(key) in seen:
                    raise InputError(
                        f"{self.file.name}, byte {member.start}: {member.name!r} is not next to "
                        "the other members of its sample; sort the archive's members by name "
                        "(tar --sort=name)"
                    )
            if not sample and len(seen) < MAX_KEYS:
                seen.add(hash(key))
            if extension in sample:
                raise InputError(
                    f"{self.file.name}, byte {member.start}: {member.name!r} is the sample's "
                    f"second .{extension} member; give each sample a unique name"
                )
            sample_key = key
            sample[extension] = member
        self.mark = self.position = self.size if self._stop is None else self._stop
        if sample:
            yield sample

    def _record(self, sample: dict[str, Member]) -> tuple[dict[str, Any] | Unreadable, list[str]]:
        """Return a dict from column to value, and the names of all columns of the sample.

        The .json member is read only if a column is not the extension of a member.
        """
        values: dict[str, Any] = {}
        if "json" in sample and any(column not in sample for column in self.columns):
            parsed = self._parsed(sample["json"])
            if isinstance(parsed, Unreadable):
                detail = f"the member {sample['json'].name!r}: {parsed.detail}"
                return Unreadable(parsed.reason, detail), list(sample)
            values = parsed
        paths = [column for column in self.columns if has_nested(values, column)]
        names = list(dict.fromkeys([*sample, *values, *paths]))
        own = {column: nested(values, column) for column in self.columns}
        own |= {c: self._value(c, sample[c]) for c in self.columns if c in sample}
        return own, names

    def _parsed(self, member: Member) -> dict[str, Any] | Unreadable:
        """Return the content of a .json member; an empty dict if it is no regular file."""
        text = self._text(member)
        return {} if text is None else parse_json_object(text)

    def _value(self, extension: str, member: Member) -> str | bytes | None:
        """Return a member's content as bytes or text, depending on its last extension."""
        if extension.rpartition(".")[2] not in BINARY_EXTENSIONS:
            return self._text(member)
        return self._archive.read(member) if member.readable else None

    def _text(self, member: Member) -> str | None:
        if not member.readable:
            return None
        data = self._archive.read(member)
        try:
            if encoding := content.encoding_of(data, self.settings.encoding, member.name):
                data = b"".join(content.utf8_chunks([data], encoding, member.name))
        except InputError:
            return content.UNDECODABLE
        return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def _at_first_dot(file_name: str) -> tuple[str, str]:
    key, _, extension = file_name.partition(".")
    return key, extension.lower()


def _at_last_dot(file_name: str) -> tuple[str, str]:
    key, _, extension = file_name.rpartition(".")
    return key, extension.lower()
