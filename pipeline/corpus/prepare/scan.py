"""The stage "scan", one work item per input file, or per group of small files: divide them into
chunks and summarize their rows."""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import IO, NamedTuple

from pipeline.corpus.field_spec import FieldSpec, vocabularies
from pipeline.corpus.fields.base import FieldKind, as_text
from pipeline.corpus.fields.example import Example
from pipeline.corpus.fields.label_names import MAX_LABELS
from pipeline.corpus.fields.tag_schemes import TagCounts
from pipeline.corpus.prepare.sample import TextSample
from pipeline.corpus.prepare.work_dir import (
    Chunk,
    FileGroup,
    PreparationContext,
    Scanned,
    Span,
    load_or_compute,
)
from pipeline.corpus.readers.base import NoRowsError, Reader
from pipeline.corpus.readers.inputs import InputFile
from pipeline.corpus.readers.materialize import materialize
from pipeline.corpus.readers.opening import open_corpus_file
from pipeline.corpus.row import Row
from pipeline.corpus.settings import TokenizerSettings
from pipeline.corpus.skip_reason import (
    SKIPPED_BY_REQUEST,
    SkipReason,
    Tally,
    bad_row_error,
    count_skip,
)
from pipeline.corpus.worker_pool import MB, advance
from pipeline.errors import InputError
from pipeline.storage.atomic import atomic_file

GROUP_FILES = 4096
"""Maximum number of files in a group."""
MAX_PATH_CHARACTERS = 200
"""Characters of a path in an error."""
MAX_ROW_WORDS = 5000
"""Number of words of a row above which a warning asks whether blank lines are missing."""
MAX_FILTERED_VALUES = 5
"""Values of a filtered column in the error when no row is left."""
FILE_REASONS = (SkipReason.NO_FILE, SkipReason.NO_IMAGE, SkipReason.NO_FEATURES)


def file_groups(files: Iterable[InputFile], group_bytes: float) -> list[FileGroup]:
    """Return the files in groups of about `group_bytes`, in order, so that small files share the
    cost of a work item. A group has files of one split only."""
    groups: list[list[InputFile]] = []
    size = 0.0
    for file in files:
        fits = groups and size + file.bytes <= group_bytes and len(groups[-1]) < GROUP_FILES
        if not fits or groups[-1][0].split != file.split:
            groups.append([])
            size = 0.0
        groups[-1].append(file)
        size += file.bytes
    return [FileGroup(_key(group), tuple(group)) for group in groups]


def _key(files: Iterable[InputFile]) -> str:
    parts = [
        (
            source.name,
            source.split,
            [(f.name, str(f.path), f.bytes, f.version) for f in source.files],
        )
        for source in files
    ]
    return blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()


def scan(context: PreparationContext, group: FileGroup) -> Scanned:
    """Read all files once. Raises InputError if one cannot be read."""
    return load_or_compute(
        context.scan_path(group.key, "json"), Scanned, lambda: _Scan(context, group).run()
    )


def digest(data: bytes) -> tuple[bytes, int]:
    """Return two independent 64-bit hashes of a text: its identity, and its sort key in samples."""
    both = blake2b(data, digest_size=16).digest()
    return both[:8], int.from_bytes(both[8:], "little")


class _Position(NamedTuple):
    """A mark of a reader, and what was read before it."""

    mark: int
    position: int
    row: int
    line: int


class _Outputs(NamedTuple):
    """Files with an entry for each example, as `PreparationContext.scan_path` describes them."""

    hashes: IO[bytes]
    whole_hashes: IO[bytes]
    units: IO[bytes]
    codes: IO[bytes]
    tag_schemes: IO[bytes]


class _Scan:
    """Reads the files of a group."""

    def __init__(self, context: PreparationContext, group: FileGroup) -> None:
        self._context, self._group = context, group
        self._result = Scanned(group)
        self._name = ""
        """Name of the current file."""
        # The tokenizers do not exist yet: only checking is used.
        self._checker = context.checker
        self._sampled: list[FieldSpec] = []
        self._samples: dict[str, TextSample] = {}
        settings = context.settings
        if isinstance(settings, TokenizerSettings):
            self._samples = {
                name: TextSample(context.sample_bytes) for name in vocabularies(context.fields)
            }
            # A user's tokenizer is not trained, only tested, on the targets.
            attribute = "is_target" if settings.tokenizer else "tokenized"
            self._sampled = [f for f in context.fields if getattr(f.kind_class, attribute)]
        self._codes: dict[str, int] = {}
        self._chunk_bytes = context.settings.chunk_mb * MB
        self._spans: list[Span] = []
        """Spans of the chunk that is not complete yet."""
        self._span_bytes = self._chunk_start = 0

    def run(self) -> Scanned:
        key = self._group.key
        with ExitStack() as stack:
            paths = [self._context.scan_path(key, kind) for kind in _Outputs._fields]
            outputs = _Outputs(*(stack.enter_context(atomic_file(path)) for path in paths))
            for number, file in enumerate(self._group.files):
                self._read_file(number, file, outputs)
            self._end_chunk()
        for name, sample in self._samples.items():
            sample.save(self._context.scan_path(key, f"{name}.sample"))
        return self._result

    def _read_file(self, number: int, file: InputFile, outputs: _Outputs) -> None:
        context, self._name = self._context, file.name
        try:
            path = materialize(
                file,
                context.settings,
                lambda kind: context.scan_path(self._group.key, f"{number}.{kind}"),
            )
            with open_corpus_file(
                context.settings, path, self._checker.columns, file.name
            ) as reader:
                materialized = (
                    path != file.path
                )  # the file's bytes are already reported as progress
                progress = 0 if materialized else file.bytes / reader.size
                self._read(reader, path, outputs, progress)
        except NoRowsError as error:
            if context.settings.on_bad_row == "stop":
                raise
            self._result.empty_files[file.name] = str(error)

    def _read(self, reader: Reader, path: Path, outputs: _Outputs, progress: float) -> None:
        result, begin, row_number = self._result, self._position(reader, 1), 0
        for row in reader:
            row_number += 1
            result.rows += 1
            example = self._checker.check(row, self._name)
            if isinstance(example, Example):
                result.examples += 1
                self._add(example, outputs)
            else:
                self._skip(example, row)
            if (
                reader.mark is not None
                and reader.position - begin.position + self._span_bytes >= self._chunk_bytes
            ):
                begin = self._end_span(
                    begin, self._position(reader, row_number + 1), path, progress
                )
                self._end_chunk()
        if row_number >= begin.row:
            self._end_span(begin, self._position(reader, row_number + 1), path, progress)

    @staticmethod
    def _position(reader: Reader, row: int) -> _Position:
        assert reader.mark is not None, "inside a row group"
        return _Position(reader.mark, reader.position, row, reader.next_line)

    def _end_span(self, begin: _Position, end: _Position, path: Path, progress: float) -> _Position:
        """Add the span from `begin` to `end`, where the next one begins, to the chunk."""
        span = Span(self._name, path, begin.mark, end.mark, begin.row, begin.line)
        self._spans.append(span)
        size = end.position - begin.position
        self._span_bytes += size
        advance(int(size * progress))
        return end

    def _end_chunk(self) -> None:
        """Record the spans that are not in a chunk yet as a chunk."""
        if self._spans:
            examples = self._result.examples - self._chunk_start
            self._result.chunks.append(
                Chunk(self._spans, self._span_bytes, self._chunk_start, examples)
            )
        self._spans, self._span_bytes = [], 0
        self._chunk_start = self._result.examples

    def _add(self, example: Example, outputs: _Outputs) -> None:
        """Write an example's hashes, sample its texts and count its names."""
        identity, order = digest(example.identity)
        outputs.hashes.write(identity)
        if self._context.has_further_fields:
            outputs.whole_hashes.write(digest(example.whole_identity)[0])
        low, high = self._context.hash_bounds
        held_out = self._group.split or not low <= int.from_bytes(identity, "little") < high
        if example.unit:
            outputs.units.write(example.unit.number.to_bytes(8, "little"))
            if example.unit.kind:
                place = example.place(self._name)
                self._result.time_kinds.setdefault(example.unit.kind, place)
        first = self._checker.fields[0]
        for kind, value in zip(self._checker.fields, example.values, strict=True):
            if kind.field in self._sampled and not held_out:
                for text in kind.texts(value):
                    sample = self._samples[kind.field.vocabulary]
                    is_identity = kind is first and text is value  # its hash is `order`
                    sort_hash = order if is_identity else digest(text.encode())[1]
                    sample.add(sort_hash, text, self._result.examples - 1)
            if kind is first and kind.by_word:
                self._count_words(len(value), example)
            for name in kind.names(value):
                self._count_name(kind, name, example)
            if kind.has_scheme:
                counts = self._result.tags.setdefault(kind.field.name, TagCounts())
                place = example.place(self._name)
                outputs.tag_schemes.write(bytes([counts.add(value, place)]))
            if kind.field == self._context.label:
                outputs.codes.write(self._codes[value].to_bytes(4, "little"))

    def _count_words(self, words: int, example: Example) -> None:
        self._result.max_words = max(self._result.max_words, words)
        if words > MAX_ROW_WORDS:
            place = example.place(self._name)
            self._result.long_rows = self._result.long_rows or Tally(0, place)
            self._result.long_rows.count += 1

    def _count_name(self, kind: FieldKind, name: str, example: Example) -> None:
        """Count a label or tag of a row. Raises InputError when there are too many."""
        tallies = self._result.labels.setdefault(kind.field.name, {})
        if name not in tallies:
            if len(tallies) == MAX_LABELS:
                examples = ", ".join(map(repr, list(tallies)[:3]))
                raise InputError(
                    f"{example.place(self._name)}: column {kind.field.column!r} has more than "
                    f"{MAX_LABELS:,} different labels ({examples}, ...); set the right column as "
                    "corpus.label"
                )
            if kind.field == self._context.label:
                self._codes[name] = len(tallies)
            tallies[name] = Tally(0, example.place(self._name))
        tallies[name].count += 1

    def _skip(self, reason: SkipReason, row: Row) -> None:
        """Count a skipped row; record what is wrong with the first one, and filtered values.

        Raises InputError for an unusable row if `corpus.on_bad_row` is "stop".
        """
        tally = self._result.skips.get(reason)
        if tally is None:
            place, detail = row.place(self._name), row.detail or self._path_of(row, reason)
            if self._context.settings.on_bad_row == "stop" and reason not in SKIPPED_BY_REQUEST:
                raise InputError(bad_row_error(place, reason, detail))
            count_skip(self._result.skips, reason, place, detail)
        else:
            tally.count += 1
        if reason is SkipReason.FILTERED and row.values is not None:
            for column in self._checker.filters:
                values = self._result.filtered.setdefault(column, [])
                value = as_text(row.values[column])
                if len(values) < MAX_FILTERED_VALUES and value not in values:
                    values.append(value)

    def _path_of(self, row: Row, reason: SkipReason) -> str:
        """Return the path in a row whose image cannot be read, shortened; else an empty string."""
        if row.values is None or reason not in FILE_REASONS:
            return ""
        value = row.values[
            next(f for f in self._context.fields if f.kind_class.is_image).columns[0]
        ]
        return repr(value[:MAX_PATH_CHARACTERS]) if isinstance(value, str) else ""
