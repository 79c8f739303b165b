"""Rows of what is no file of rows: files that lie side by side, and folders of images.

Preparing lays them out as a Parquet file, which has marks to go on from and is read as any other;
evaluation reads them as they come. Both hold a few rows at a time.
"""

import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.readers import folders
from pipeline.corpus.readers.idx import ZEROS, IdxReader
from pipeline.corpus.readers.text import Lines
from pipeline.corpus.worker_pool import advance
from pipeline.errors import InputError

GROUP_ROWS = 1024
GROUP_BYTES = 1 << 23
PACKED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\3\4": "zip"}
"""What begins with these bytes, and no text does."""
TABLES = (".csv", ".tsv", ".jsonl", ".parquet", ".tar", ".tgz", ".conll", ".conllu")
MISSING = object()

Record = dict[str, Any]


class Folder:
    """The images of a folder in the order of their paths: `image`, the bytes of a file, and
    `label`, the sub-folder that it is in."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._images = path, folders.images(path, name)
        self.types: dict[str, Any] = {"image": pa.binary(), "label": pa.string()}
        self.position = 0
        """Bytes that were read."""

    def __iter__(self) -> Iterator[Record]:
        for image in self._images:
            data = folders.content(self._path / image)
            self.position += len(data or b"")
            yield {"image": data, "label": image.partition("/")[0]}


class Compound:
    """Rows of files that lie side by side, a column each; `open_compound` opens them."""

    def __init__(self, sides: Mapping[str, "Side"]) -> None:
        self._sides = sides
        self.types = {column: side.type for column, side in sides.items()}

    @property
    def position(self) -> int:
        """Bytes that were read of all files."""
        return sum(side.position for side in self._sides.values())

    def __iter__(self) -> Iterator[Record]:
        """Raises InputError if one has more rows than another."""
        rows = 0
        for values in zip_longest(*self._sides.values(), fillvalue=MISSING):
            if any(value is MISSING for value in values):
                raise self._misaligned(rows, values)
            rows += 1
            yield dict(zip(self._sides, values, strict=True))
        if not rows:
            raise InputError(f"{self._names()}: hold no row; take them out of the input")

    def _misaligned(self, rows: int, values: tuple[Any, ...]) -> InputError:
        counts = [
            rows if value is MISSING else rows + 1 + sum(1 for _ in side)
            for value, side in zip(values, self._sides.values(), strict=True)
        ]
        told = ", ".join(
            f"{side.name} has {count:,}"
            for side, count in zip(self._sides.values(), counts, strict=True)
        )
        return InputError(
            f"{self._names()}: are misaligned: {told} rows, but row for row they belong together; "
            "give files of equally many rows"
        )

    def _names(self) -> str:
        return " and ".join(side.name for side in self._sides.values())


class Side:
    """The values of one column: of an idx file, which its first bytes tell, or the lines of a
    text."""

    def __init__(self, raw: IO[bytes], name: str, gzipped: bool) -> None:
        self.name = name
        self._raw = raw
        stream: Any = gzip.GzipFile(fileobj=raw) if gzipped else raw
        if gzipped:
            stream = io.BufferedReader(stream)
        with whole(name):
            head = stream.read(max(map(len, PACKED)))
            stream.seek(0)
        if packed := next((kind for magic, kind in PACKED.items() if head.startswith(magic)), None):
            remedy = "unpack it"
            if packed == "gzip" and not gzipped:
                remedy = f"name it {Path(name).name}.gz"
            raise InputError(f"{name}: is {packed} by its first bytes, so no text; {remedy}")
        self.type: Any = pa.string()
        if head.startswith(ZEROS):
            with whole(name):
                values = IdxReader(stream, name)
            self.type = pa.float64() if values.floats else pa.int64()
            if values.images:
                self.type = pa.binary()
            self.rest: Iterator[Any] = iter(values)
        else:
            self.rest = _lines(Lines(stream, name))

    @property
    def position(self) -> int:
        """Bytes of the file that were read."""
        return self._raw.tell()

    def __iter__(self) -> Iterator[Any]:
        with whole(self.name):
            yield from self.rest


def _lines(lines: Lines) -> Iterator[str]:
    for line in lines:
        lines.record.clear()
        yield line.rstrip("\r\n")


@contextmanager
def whole(name: str) -> Iterator[None]:
    """Turn what reading a file meets into an InputError."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: is not whole: {error}; fetch it anew") from None


@contextmanager
def open_compound(files: Mapping[str, tuple[str, Path]]) -> Iterator[Compound]:
    """Files by their columns, each a name and a path."""
    with ExitStack() as stack:
        sides = {}
        for column, (name, path) in files.items():
            try:
                raw: IO[bytes] = stack.enter_context(path.open("rb"))
            except OSError as error:
                raise InputError(f"{name}: cannot be read: {error.strerror}") from None
            _check_name(name, path)
            if path.stat().st_size == 0:
                raise InputError(f"{name}: is empty; take it out of the input, or fetch it anew")
            sides[column] = Side(raw, name, path.suffix.lower() == ".gz")
        yield Compound(sides)


def _check_name(name: str, path: Path) -> None:
    """Raises InputError if a column is a file that by its name holds several."""
    kind = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
    if kind in TABLES:
        raise InputError(
            f"{name}: is a table by its suffix {kind}, but beside other files each of its lines "
            "would be a value, its header too; give tables alone, as a list, or rename it if it "
            "has a value a line"
        )


def write(table: Folder | Compound, file: IO[bytes]) -> None:
    """Lay out the rows of a table as a Parquet file, in groups that fit in memory."""
    schema = pa.schema(table.types)
    done = 0
    with pq.ParquetWriter(file, schema, use_dictionary=False, write_statistics=False) as writer:
        for group in _groups(table):
            columns = [
                _column(kind, [record[name] for record in group])
                for name, kind in table.types.items()
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            advance(table.position - done)
            done = table.position


def _groups(table: Folder | Compound) -> Iterator[list[Record]]:
    group: list[Record] = []
    size = 0
    for record in table:
        group.append(record)
        size += sum(len(value) for value in record.values() if isinstance(value, (str, bytes)))
        if len(group) == GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _column(kind: Any, values: list[Any]) -> Any:
    """Strings may hold lone surrogates, for bytes that are not UTF-8, which are written again."""
    if not pa.types.is_string(kind):
        return pa.array(values, kind)
    data = [value.encode("utf-8", "surrogateescape") for value in values]
    return pa.array(data, pa.binary()).view(kind)
