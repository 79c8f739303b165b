"""The stage "scan", one work item per input file: divide it into chunks and summarize its rows."""

from contextlib import ExitStack
from hashlib import blake2b
from typing import IO, NamedTuple

from pipeline.corpus.field_spec import FieldSpec, vocabularies
from pipeline.corpus.fields.base import FieldKind, as_text
from pipeline.corpus.fields.example import Example
from pipeline.corpus.fields.label_names import MAX_LABELS
from pipeline.corpus.prepare.sample import TextSample
from pipeline.corpus.prepare.work_dir import Chunk, PreparationContext, Scanned, load_or_compute
from pipeline.corpus.readers.base import Reader
from pipeline.corpus.readers.inputs import InputFile
from pipeline.corpus.readers.materialize import materialize
from pipeline.corpus.readers.opening import open_corpus_file
from pipeline.corpus.row import Row
from pipeline.corpus.settings import TokenizerSettings
from pipeline.corpus.skip_reason import SkipReason, Tally, count_skip
from pipeline.corpus.worker_pool import MB, advance
from pipeline.errors import InputError
from pipeline.storage.atomic import atomic_file

MAX_PATH_CHARACTERS = 200
"""Characters of a path in an error."""
MAX_ROW_WORDS = 5000
"""Words of a row above which a warning asks whether lines between sentences are missing."""
MAX_FILTERED_VALUES = 5
"""Values of a filtered column in the error when no row is left."""
FILE_REASONS = (SkipReason.NO_FILE, SkipReason.NO_IMAGE, SkipReason.NO_FEATURES)


def scan(context: PreparationContext, file: InputFile) -> Scanned:
    """Read a file once from end to end. Raises InputError where it cannot be read."""
    return load_or_compute(
        context.scan_path(file.number, "json"), Scanned, lambda: _Scan(context, file).run()
    )


def digest(data: bytes) -> tuple[bytes, int]:
    """Return two independent 64-bit hashes of a text: its identity, and its sort key in samples."""
    both = blake2b(data, digest_size=16).digest()
    return both[:8], int.from_bytes(both[8:], "little")


def validation_threshold(validation: object) -> int:
    """Return the bound below which a text's first hash puts it into the validation split."""
    return int(validation * 2**64) if isinstance(validation, float) else 0


class _Position(NamedTuple):
    """A mark of a reader, and what was read before it."""

    mark: int
    position: int
    rows: int
    examples: int


class _Outputs(NamedTuple):
    """Files with an entry for each example, as `PreparationContext.scan_path` describes them."""

    hashes: IO[bytes]
    whole_hashes: IO[bytes]
    codes: IO[bytes]


class _Scan:
    """Reads one file."""

    def __init__(self, context: PreparationContext, file: InputFile) -> None:
        self._context, self._file = context, file
        path = materialize(
            file, context.settings, lambda kind: context.scan_path(file.number, kind)
        )
        self._result = Scanned(file, path)
        # The tokenizers do not exist yet: only checking is used.
        self._checker = context.checker
        self._sampled: list[FieldSpec] = []
        self._samples: dict[str, TextSample] = {}
        settings = context.settings
        if isinstance(settings, TokenizerSettings):
            budget = int(settings.tokenizer_sample_mb * MB)
            self._samples = {name: TextSample(budget) for name in vocabularies(context.fields)}
            # A user's tokenizer is not trained, only tested, on the targets.
            attribute = "is_target" if settings.tokenizer else "tokenized"
            self._sampled = [f for f in context.fields if getattr(f.kind_class, attribute)]
        self._codes: dict[str, int] = {}
        self._threshold = validation_threshold(context.settings.validation)

    def run(self) -> Scanned:
        file, path = self._file, self._result.path
        with ExitStack() as stack:
            reader = stack.enter_context(
                open_corpus_file(self._context.settings, path, self._checker.columns, file.name)
            )
            kinds = ("hashes", "whole_hashes", "codes")
            outputs = [
                stack.enter_context(atomic_file(self._context.scan_path(file.number, kind)))
                for kind in kinds
            ]
            materialized = path != file.path  # which has reported the file's bytes as progress
            progress = 0 if materialized else file.bytes / reader.size
            self._read(reader, _Outputs(*outputs), progress)
        for name, sample in self._samples.items():
            sample.save(self._context.scan_path(file.number, f"{name}.sample"))
        return self._result

    def _read(self, reader: Reader, outputs: _Outputs, progress: float) -> None:
        result, chunk_bytes = self._result, self._context.settings.chunk_mb * MB
        begin = self._position(reader)
        for row in reader:
            result.rows += 1
            example = self._checker.check(row, self._file.name)
            if isinstance(example, Example):
                result.examples += 1
                self._add(example, outputs)
            else:
                self._skip(example, row)
            if reader.mark is not None and reader.position - begin.position >= chunk_bytes:
                begin = self._end_chunk(begin, self._position(reader), progress)
        if result.rows > begin.rows:
            self._end_chunk(begin, self._position(reader), progress)

    def _position(self, reader: Reader) -> _Position:
        assert reader.mark is not None, "inside a row group"
        return _Position(reader.mark, reader.position, self._result.rows, self._result.examples)

    def _end_chunk(self, begin: _Position, end: _Position, progress: float) -> _Position:
        """Record the chunk from `begin` to `end`, where the next one begins."""
        chunk = Chunk(
            file=self._file.number,
            start=begin.mark,
            stop=end.mark,
            bytes=end.position - begin.position,
            row=begin.rows + 1,
            example=begin.examples,
            examples=end.examples - begin.examples,
        )
        self._result.chunks.append(chunk)
        advance(int(chunk.bytes * progress))
        return end

    def _add(self, example: Example, outputs: _Outputs) -> None:
        """Write an example's hashes, sample its texts and count its names."""
        identity, order = digest(example.identity)
        outputs.hashes.write(identity)
        if self._context.has_further_fields:
            outputs.whole_hashes.write(digest(example.whole_identity)[0])
        held_out = self._file.held_out or int.from_bytes(identity, "little") < self._threshold
        first = self._checker.fields[0]
        for kind, value in zip(self._checker.fields, example.values, strict=True):
            if kind.field in self._sampled and not held_out:
                for text in kind.texts(value):
                    sample = self._samples[kind.field.vocabulary]
                    is_identity = kind is first and text is value  # its hash is `order`
                    sample.add(order if is_identity else digest(text.encode())[1], text)
            if kind is first and kind.by_word and len(value) > MAX_ROW_WORDS:
                self._result.long_rows = self._result.long_rows or Tally(0, example.row)
                self._result.long_rows.count += 1
            for name in kind.names(value):
                self._count_name(kind, name, example.row)
            if kind.field == self._context.label:
                outputs.codes.write(self._codes[value].to_bytes(4, "little"))

    def _count_name(self, kind: FieldKind, name: str, row: int) -> None:
        """Count a label or tag of a row. Raises InputError when there are too many."""
        tallies = self._result.labels.setdefault(kind.field.name, {})
        if name not in tallies:
            if len(tallies) == MAX_LABELS:
                examples = ", ".join(map(repr, list(tallies)[:3]))
                raise InputError(
                    f"{self._file.name}:{row}: column {kind.field.column!r} has more than "
                    f"{MAX_LABELS:,} different labels ({examples}, ...); name the right column as "
                    "corpus.label"
                )
            if kind.field == self._context.label:
                self._codes[name] = len(tallies)
            tallies[name] = Tally(0, row)
        tallies[name].count += 1

    def _skip(self, reason: SkipReason, row: Row) -> None:
        """Count a skipped row; record the path of a missing image, and filtered values."""
        count_skip(self._result.skips, reason, row.number, self._path_of(row, reason))
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
        value = row.values[next(f for f in self._context.fields if f.kind_class.is_image).column]
        return repr(value[:MAX_PATH_CHARACTERS]) if isinstance(value, str) else ""
