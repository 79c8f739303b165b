"""Stage 2, a unit a piece of an input file: its chosen examples become rows of tokens."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.corpus.blocks import batch, schema
from pipeline.corpus.choose import DROPPED, IN_TRAIN, IN_VALIDATION
from pipeline.corpus.crew import advance
from pipeline.corpus.readers import open_reader
from pipeline.corpus.rows import Example
from pipeline.corpus.stages import TRAIN, VALIDATION, Job, Part, Piece, Tally, Totals
from pipeline.corpus.tokenizer import Encoded, Encoder
from pipeline.corpus.work import landing, remembered
from pipeline.errors import InputError

BATCH_ROWS = 1024
BATCH_CHARACTERS = 1 << 22
CHOSEN = {TRAIN: IN_TRAIN, VALIDATION: IN_VALIDATION}


@dataclass(frozen=True)
class PieceTask:
    """A piece to encode."""

    number: int  # of the piece in the corpus
    piece: Piece
    name: str  # of its file
    path: Path
    place: int  # of its first example in the corpus


class Chosen(NamedTuple):
    """An example that a split takes."""

    row: int
    document: int  # its number in the corpus
    text: str
    split: int
    label: int


def encode(job: Job, task: PieceTask) -> Part:
    """Write the rows of a piece, one file a split."""
    return remembered(job.part(task.number, "json"), Part, lambda: _encode(job, task))


def _encode(job: Job, task: PieceTask) -> Part:
    settings = job.settings
    encoder = Encoder(job.tokenizer, settings.max_tokens, settings.keep, settings.long_texts)
    columns = schema(job.fields, encoder.vocab_size, segments=settings.long_texts == "split")
    part = Part(task.number, task.name, {split: Totals() for split in CHOSEN})
    with ExitStack() as stack:
        writers = {}
        for split in CHOSEN:
            file = stack.enter_context(landing(job.part(task.number, f"{split}.arrow")))
            writers[split] = stack.enter_context(pa.ipc.new_file(file, columns))
        for group in _groups(_chosen(job, task)):
            encoded = encoder.encode([example.text for example in group])
            for text, example in zip(encoded, group, strict=True):
                _count(part, text, example.row)
            for split, number in CHOSEN.items():
                rows = [
                    row
                    for text, example in zip(encoded, group, strict=True)
                    if example.split == number
                    for row in _rows(job, text, example)
                ]
                if rows:
                    writers[split].write_batch(batch(columns, *zip(*rows, strict=True)))
                    lengths = [len(ids) for ids, *_ in rows]
                    part.splits[split].add(Totals(len(rows), sum(lengths), max(lengths)))
            advance(task.piece.bytes * len(group) // task.piece.examples)
    return part


def _rows(job: Job, text: Encoded, example: Chosen) -> Iterator[tuple[Any, ...]]:
    """The rows of a text, their values in the order of the columns."""
    label = (example.label,) if job.wanted.label else ()
    for segment, ids in enumerate(text.rows):
        place = (example.document, segment, len(text.rows))
        yield (ids, *label, *(place if job.settings.long_texts == "split" else ()))


def _count(part: Part, text: Encoded, row: int) -> None:
    """Note what is not one whole row of a text."""
    if text.skip:
        part.skips.setdefault(text.skip, Tally(0, row)).count += 1
    elif len(text.rows) > 1:
        part.split += 1
        part.segments += len(text.rows)
    else:
        part.truncated += text.long


def _chosen(job: Job, task: PieceTask) -> Iterator[Chosen]:
    """Read a piece again and leave out what was decided."""
    piece, count = task.piece, 0
    splits = np.fromfile(job.choice, np.uint8, piece.examples, offset=task.place)
    labels = np.fromfile(job.label_ids, np.int16, piece.examples, offset=task.place * 2)
    with open_reader(task.path, job.wanted.columns, task.name) as reader:
        reader.seek(piece.start, piece.stop, piece.row)
        for row in reader:
            example = job.wanted.examine(row)
            if isinstance(example, Example):
                if count < piece.examples and splits[count] != DROPPED:
                    split, label = int(splits[count]), int(labels[count])
                    yield Chosen(row.number, task.place + count, example.text, split, label)
                count += 1
    if count != piece.examples:
        raise InputError(f"{task.name}: changed while it was being prepared; prepare again")


def _groups(examples: Iterable[Chosen]) -> Iterator[list[Chosen]]:
    """Examples to tokenise at once: enough to be quick, few enough to be held."""
    group: list[Chosen] = []
    characters = 0
    for example in examples:
        group.append(example)
        characters += len(example.text)
        if len(group) == BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group
