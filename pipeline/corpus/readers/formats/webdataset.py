"""Rows of WebDataset shards: consecutive tar members with the same name up to the first dot of the
file name form a sample."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.corpus.readers.archive import Archive, Member
from pipeline.corpus.readers.base import RawFile, Reader, require_columns
from pipeline.corpus.readers.formats.jsonl import parse_json_object
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import InputError

BINARY_EXTENSIONS = ("png", "jpg", "jpeg", "npy")
"""Extensions of members whose content is bytes; all others are text."""
METADATA = re.compile(r"__[^/]*__/")  # a folder without samples, as webdataset defines it


class WebDataset(Reader):
    """Reads the samples of a tar archive, one per row. A mark is a byte offset.

    A column is the extension of a sample's member, or else a key of its .json member. The value is
    None for a member that is not a regular file, or whose name points outside the archive's root.
    """

    suffixes = (".tar",)
    seeks = True

    def __init__(self, file: RawFile, columns: Sequence[str], settings: CorpusSettings) -> None:
        super().__init__(file, columns, settings)
        self._archive = Archive(file.stream, file.name)
        self.size = self._archive.size
        self._start, self._row_number = 0, 1
        self._stop: int | None = None

    def seek(self, start: int, stop: int, row: int) -> None:
        self._start, self._stop, self._row_number = start, stop, row

    def rows(self) -> Iterator[Row]:
        records = map(self._record, self._samples())
        if self._stop is None:
            rows = require_columns(records, self.columns, self.file.name)
        else:
            rows = (values for values, _ in records)
        for values in rows:
            yield Row(self._row_number, values)
            self._row_number += 1
        if self._row_number == 1:
            raise InputError(
                f"{self.file.name}: has no samples, as no member is named KEY.EXTENSION; remove it "
                "from the input"
            )

    def _samples(self) -> Iterator[dict[str, Member]]:
        """Yield each sample as a dict from extension to member."""
        sample: dict[str, Member] = {}
        sample_key = ""
        for member in self._archive.members(self._start, self._stop):
            key, extension = _key_and_extension(member.name)
            if not key:
                continue
            if sample and key != sample_key:
                self.mark = self.position = member.start
                yield sample
                sample = {}
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

    def _record(self, sample: dict[str, Member]) -> tuple[dict[str, Any], list[str]]:
        """Return a dict from column to value, and the names of all columns of the sample.

        The .json member is read only if a column is not the extension of a member.
        """
        values: dict[str, Any] = {}
        if "json" in sample and any(column not in sample for column in self.columns):
            values = self._json_object(sample["json"])
        names = [*sample, *values]
        values |= {c: self._value(c, sample[c]) for c in self.columns if c in sample}
        return {column: values.get(column) for column in self.columns}, names

    def _json_object(self, member: Member) -> dict[str, Any]:
        text = self._text(member)
        if text is None:
            return {}
        return parse_json_object(text, f"{self.file.name}, member {member.name!r}")

    def _value(self, extension: str, member: Member) -> str | bytes | None:
        """Return a member's content as bytes or text, depending on its last extension."""
        if extension.rpartition(".")[2] not in BINARY_EXTENSIONS:
            return self._text(member)
        return self._archive.read(member) if member.readable else None

    def _text(self, member: Member) -> str | None:
        if not member.readable:
            return None
        data = self._archive.read(member).removeprefix(b"\xef\xbb\xbf")
        return data.decode("utf-8", "surrogateescape")


def _key_and_extension(name: str) -> tuple[str, str]:
    """Split a member's name as webdataset does; ("", "") if the member belongs to no sample."""
    folder, _, file_name = name.rpartition("/")
    stem, _, extension = file_name.partition(".")
    if not stem or not extension or METADATA.match(name):
        return "", ""
    return f"{folder}/{stem}", extension.lower()
