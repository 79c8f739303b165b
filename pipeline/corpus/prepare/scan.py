"""Stage 1, a unit an input file: cut it into pieces and take stock of its rows."""

from contextlib import ExitStack
from hashlib import blake2b
from typing import IO, NamedTuple

from pipeline.corpus.field_spec import vocabularies
from pipeline.corpus.fields.base import FieldKind, as_text
from pipeline.corpus.fields.example import Example
from pipeline.corpus.fields.label_names import MAX_LABELS
from pipeline.corpus.prepare.sample import TextSample
from pipeline.corpus.prepare.work_dir import Job, Piece, Scanned, load_or_compute
from pipeline.corpus.readers.inputs import InputFile
from pipeline.corpus.readers.materialize import materialize
from pipeline.corpus.readers.opening import Reader, open_corpus_file
from pipeline.corpus.row import Row
from pipeline.corpus.skip_reason import SkipReason, Tally
from pipeline.corpus.worker_pool import advance
from pipeline.errors import InputError
from pipeline.storage.atomic import MB, atomic_file

SHOWN_CHARACTERS = 200  # of a path
SHOWN_VALUES = 5  # of a filtered column, for the error when nothing is left


def scan(job: Job, file: InputFile) -> Scanned:
    """Read a file once from end to end. Raises InputError where it cannot be read."""
    return load_or_compute(
        job.scanned(file.number, "json"), Scanned, lambda: _Scan(job, file).run()
    )


def digest(data: bytes) -> tuple[bytes, int]:
    """Two independent 64-bit hashes of a text: one tells texts apart and splits, one samples."""
    both = blake2b(data, digest_size=16).digest()
    return both[:8], int.from_bytes(both[8:], "little")


def held_below(validation: object) -> int:
    """Texts whose first hash is smaller are for validation."""
    return int(validation * 2**64) if isinstance(validation, float) else 0


class _Place(NamedTuple):
    """A mark of a reader, and what came before it."""

    mark: int
    position: int
    rows: int
    examples: int


class _Files(NamedTuple):
    """What an example leaves an entry in, as `Job.scanned` says."""

    hashes: IO[bytes]
    wholes: IO[bytes]
    codes: IO[bytes]


class _Scan:
    """One pass over one file."""

    def __init__(self, job: Job, file: InputFile) -> None:
        self._job, self._file, self._checker = job, file, job.checker
        path = materialize(file, job.settings, lambda what: job.scanned(file.number, what))
        self._found = Scanned(file, path)
        budget = int(job.settings.tokenizer_sample_mb * MB)
        # One that is given is only tried, on what is to be written.
        given = bool(job.settings.tokenizer)
        self._sampled = [f for f in job.fields if (f.is_target if given else f.tokenized)]
        self._samples = {name: TextSample(budget) for name in vocabularies(job.fields)}
        self._codes: dict[str, int] = {}
        self._held_below = held_below(job.settings.validation)

    def run(self) -> Scanned:
        file, path = self._file, self._found.path
        with ExitStack() as stack:
            reader = stack.enter_context(
                open_corpus_file(self._job.settings, path, self._checker.columns, file.name)
            )
            kinds = ("hashes", "wholes", "codes")
            files = [
                stack.enter_context(atomic_file(self._job.scanned(file.number, k))) for k in kinds
            ]
            laid_out = path != file.path  # and that was the progress
            self._read(reader, _Files(*files), 0 if laid_out else file.bytes / reader.size)
        for name, sample in self._samples.items():
            sample.save(self._job.scanned(file.number, f"{name}.sample"))
        return self._found

    def _read(self, reader: Reader, files: _Files, progress: float) -> None:
        found, piece_bytes = self._found, self._job.settings.chunk_mb * MB
        begin = self._place(reader)
        for row in reader:
            found.rows += 1
            example = self._checker.check(row, self._file.name)
            if isinstance(example, Example):
                found.examples += 1
                self._take(row.number, example, files)
            else:
                self._skip(row, example)
            if reader.mark is not None and reader.position - begin.position >= piece_bytes:
                begin = self._cut(begin, self._place(reader), progress)
        if found.rows > begin.rows:
            self._cut(begin, self._place(reader), progress)

    def _place(self, reader: Reader) -> _Place:
        assert reader.mark is not None, "inside a row group"
        return _Place(reader.mark, reader.position, self._found.rows, self._found.examples)

    def _cut(self, begin: _Place, end: _Place, progress: float) -> _Place:
        """Note the piece from `begin` to `end`, where the next begins."""
        piece = Piece(
            file=self._file.number,
            start=begin.mark,
            stop=end.mark,
            bytes=end.position - begin.position,
            row=begin.rows + 1,
            example=begin.examples,
            examples=end.examples - begin.examples,
        )
        self._found.pieces.append(piece)
        advance(int(piece.bytes * progress))
        return end

    def _take(self, row: int, example: Example, files: _Files) -> None:
        identity, order = digest(example.data)
        files.hashes.write(identity)
        if self._job.writes:
            files.wholes.write(digest(example.whole)[0])
        held_out = self._file.held_out or int.from_bytes(identity, "little") < self._held_below
        first = self._checker.fields[0]
        for column, value in zip(self._checker.fields, example.values, strict=True):
            if column.field in self._sampled and not held_out:
                for text in column.texts(value):
                    sample = self._samples[column.field.vocabulary]
                    known = column is first and text is value
                    sample.add(order if known else digest(text.encode())[1], text)
            for name in column.names(value):
                self._name(column, name, row)
            if column.field == self._job.label:
                files.codes.write(self._codes[value].to_bytes(2, "little"))

    def _name(self, column: FieldKind, name: str, row: int) -> None:
        """Count a name that a row has."""
        known = self._found.labels.setdefault(column.field.name, {})
        if name not in known:
            if len(known) == MAX_LABELS:
                some = ", ".join(map(repr, list(known)[:3]))
                raise InputError(
                    f"{self._file.name}:{row}: column {column.field.column!r} has more than "
                    f"{MAX_LABELS:,} different labels ({some}, ...); name the right column as "
                    "corpus.label"
                )
            if column.field == self._job.label:
                self._codes[name] = len(known)
            known[name] = Tally(0, row)
        known[name].count += 1

    def _named(self, row: Row, why: SkipReason) -> str:
        """The path that a row without an image has in its place."""
        if row.values is None or why not in (
            SkipReason.NO_FILE,
            SkipReason.NO_IMAGE,
            SkipReason.NO_FEATURES,
        ):
            return ""
        value = row.values[next(f for f in self._job.fields if f.is_image).column]
        return repr(value[:SHOWN_CHARACTERS]) if isinstance(value, str) else ""

    def _skip(self, row: Row, why: SkipReason) -> None:
        if why not in self._found.skips:
            self._found.skips[why] = Tally(0, row.number, self._named(row, why))
        self._found.skips[why].count += 1
        if why is SkipReason.FILTERED and row.values is not None:
            for column in self._checker.where:
                some = self._found.filtered.setdefault(column, [])
                value = as_text(row.values[column])
                if len(some) < SHOWN_VALUES and value not in some:
                    some.append(value)
