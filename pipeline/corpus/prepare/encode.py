"""Stage 2, a unit a piece of an input file: its chosen examples become rows of tokens."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.corpus.dataset.blocks import batch, schema, size
from pipeline.corpus.field_spec import vocabularies
from pipeline.corpus.fields.base import Cell
from pipeline.corpus.fields.encoding import EncodedExample, ExampleEncoder
from pipeline.corpus.fields.example import Example
from pipeline.corpus.prepare.dedup_and_split import DROPPED, IN_TRAIN, IN_VALIDATION
from pipeline.corpus.prepare.work_dir import (
    TRAIN,
    VALIDATION,
    Job,
    Part,
    Piece,
    Totals,
    load_or_compute,
)
from pipeline.corpus.readers.opening import open_corpus_file
from pipeline.corpus.skip_reason import Tally
from pipeline.corpus.tokenization.tokenizer import TextEncoder
from pipeline.corpus.worker_pool import advance
from pipeline.errors import InputError
from pipeline.storage.atomic import atomic_file

BATCH_ROWS = 1024
BATCH_BYTES = 1 << 22
Names = Mapping[str, Sequence[str]]
CHOSEN = {TRAIN: IN_TRAIN, VALIDATION: IN_VALIDATION}


@dataclass(frozen=True)
class PieceTask:
    """A piece to encode."""

    number: int  # of the piece in the corpus
    piece: Piece
    name: str  # of its file
    path: Path
    place: int  # of its first example in the corpus


class SelectedExample(NamedTuple):
    """An example that a split takes."""

    row: int
    document: int  # its number in the corpus
    values: tuple[Any, ...]
    size: int  # of its first value, in bytes
    split: int


def encode(job: Job, names: Names, task: PieceTask) -> Part:
    """Write the rows of a piece, one file a split; `names` are those of each field."""
    return load_or_compute(job.part(task.number, "json"), Part, lambda: _encode(job, names, task))


def _encode(job: Job, names: Names, task: PieceTask) -> Part:
    s = job.settings
    encoders = {
        name: TextEncoder(job.tokenizer(name), s.max_tokens, s.truncation_side, s.overflow)
        for name in vocabularies(job.fields)
    }
    encoding = ExampleEncoder(job.checker, encoders, names)
    sizes = {name: encoder.vocab_size for name, encoder in encoders.items()}
    columns = schema(job.fields, sizes, segments=s.overflow == "split")
    part = Part(task.number, task.name, {split: Totals() for split in CHOSEN})
    with ExitStack() as stack:
        writers = {}
        for split in CHOSEN:
            file = stack.enter_context(atomic_file(job.part(task.number, f"{split}.arrow")))
            writers[split] = stack.enter_context(pa.ipc.new_file(file, columns))
        for group in _groups(_chosen(job, task)):
            encoded = encoding.encode([example.values for example in group])
            for found, example in zip(encoded, group, strict=True):
                _count(part, found, example.row)
            for split, number in CHOSEN.items():
                rows = [
                    row
                    for found, example in zip(encoded, group, strict=True)
                    if example.split == number
                    for row in _rows(job, found, example)
                ]
                if rows:
                    writers[split].write_batch(batch(columns, rows))
                    lengths = [len(first) for first, *_ in rows]
                    taken = sum(size(columns, row) for row in rows)
                    part.splits[split].add(Totals(len(rows), sum(lengths), max(lengths), taken))
            advance(task.piece.bytes * len(group) // task.piece.examples)
    return part


def _rows(job: Job, found: EncodedExample, example: SelectedExample) -> Iterator[tuple[Any, ...]]:
    """The rows of an example, their cells in the order of the columns."""
    for segment, cells in enumerate(found.rows):
        place: tuple[Cell, ...] = (example.document, segment, len(found.rows))
        yield (*cells, *(place if job.settings.overflow == "split" else ()))


def _count(part: Part, found: EncodedExample, row: int) -> None:
    """Note what is not one whole row of an example."""
    if found.skip:
        part.skips.setdefault(found.skip, Tally(0, row)).count += 1
    elif len(found.rows) > 1:
        part.split += 1
        part.segments += len(found.rows)
    else:
        part.truncated += found.long


def _chosen(job: Job, task: PieceTask) -> Iterator[SelectedExample]:
    """Read a piece again and leave out what was decided."""
    piece, count = task.piece, 0
    splits = np.fromfile(job.choice, np.uint8, piece.examples, offset=task.place)
    with open_corpus_file(job.settings, task.path, job.checker.columns, task.name) as reader:
        reader.seek(piece.start, piece.stop, piece.row)
        for row in reader:
            example = job.checker.check(row, task.name)
            if isinstance(example, Example):
                if count < piece.examples and splits[count] != DROPPED:
                    place, split = task.place + count, int(splits[count])
                    yield SelectedExample(
                        row.number, place, example.values, len(example.data), split
                    )
                count += 1
    if count != piece.examples:
        raise InputError(f"{task.name}: changed while it was being prepared; prepare again")


def _groups(examples: Iterable[SelectedExample]) -> Iterator[list[SelectedExample]]:
    """Examples to encode at once: enough to be quick, few enough to be held."""
    group: list[SelectedExample] = []
    held = 0
    for example in examples:
        group.append(example)
        held += example.size
        if len(group) == BATCH_ROWS or held >= BATCH_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group
