"""Rows of WebDataset shards: a sample is the neighbors in a tar whose names agree up to a dot."""

import re
from collections.abc import Iterator, Sequence
from typing import IO, Any

from pipeline.corpus.readers.archive import Archive, Member
from pipeline.corpus.readers.text import having, json_object
from pipeline.corpus.row import Row
from pipeline.errors import InputError

BYTES = ("png", "jpg", "jpeg", "npy")
"""Extensions of what is no text."""
METADATA = re.compile(r"__[^/]*__/")  # a folder of no samples, as webdataset has it


class TarReader:
    """A row a sample.

    A column is an extension of the sample's members, or else a key of its .json member. What is
    no regular file has no value, nor has one whose name leads out of the archive's folder.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[str], name: str) -> None:
        self._archive, self._columns, self._name = Archive(file, name), columns, name
        self.size = self._archive.size
        self.mark = 0  # the byte that the headers of the next sample begin at
        self._stop: int | None = None
        self._row = 1

    @property
    def position(self) -> int:
        """How far of `size` the reader has come."""
        return self.mark

    def seek(self, start: int, stop: int, row: int) -> None:
        """Go on at the mark `start`, whose row has the number `row`, and end at the mark `stop`."""
        self.mark, self._stop, self._row = start, stop, row

    def __iter__(self) -> Iterator[Row]:
        records = map(self._record, self._samples())
        if self._stop is None:
            rows = having(records, self._columns, self._name)
        else:
            rows = (values for values, _ in records)
        for values in rows:
            yield Row(self._row, values)
            self._row += 1
        if self._row == 1:
            raise InputError(
                f"{self._name}: holds no sample, that is no member named KEY.EXTENSION; "
                "take it out of the input"
            )

    def _samples(self) -> Iterator[dict[str, Member]]:
        """The members of each sample by their extensions."""
        sample: dict[str, Member] = {}
        key = ""
        for member in self._archive.members(self.mark, self._stop):
            its_key, extension = _key_and_extension(member.name)
            if not its_key:
                continue
            if sample and its_key != key:
                self.mark = member.start
                yield sample
                sample = {}
            if extension in sample:
                raise InputError(
                    f"{self._name}, byte {member.start}: {member.name!r} is the sample's second "
                    f"member .{extension}; give each sample a name of its own"
                )
            key = its_key
            sample[extension] = member
        self.mark = self.size if self._stop is None else self._stop
        if sample:
            yield sample

    def _record(self, sample: dict[str, Member]) -> tuple[dict[str, Any], list[str]]:
        """Column -> value, and the names of all the columns that were met."""
        values: dict[str, Any] = {}
        if "json" in sample and any(column not in sample for column in self._columns):
            values = self._object(sample["json"])
        names = [*sample, *values]
        values |= {c: self._value(c, sample[c]) for c in self._columns if c in sample}
        return {column: values.get(column) for column in self._columns}, names

    def _object(self, member: Member) -> dict[str, Any]:
        text = self._text(member)
        return {} if text is None else json_object(text, f"{self._name}, member {member.name!r}")

    def _value(self, extension: str, member: Member) -> str | bytes | None:
        """Of what is no text its bytes as they are."""
        if extension.rpartition(".")[2] not in BYTES:
            return self._text(member)
        return self._archive.read(member) if member.readable else None

    def _text(self, member: Member) -> str | None:
        if not member.readable:
            return None
        data = self._archive.read(member).removeprefix(b"\xef\xbb\xbf")
        return data.decode("utf-8", "surrogateescape")


def _key_and_extension(name: str) -> tuple[str, str]:
    """What webdataset takes for them; "" if the member belongs to no sample."""
    folder, _, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    if not stem or not extension or METADATA.match(name):
        return "", ""
    return f"{folder}/{stem}", extension.lower()
