"""The stage "encode", one work item per chunk of an input file: encode its examples as rows."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.corpus.dataset.blocks import batch, schema, size
from pipeline.corpus.fields.base import Cell
from pipeline.corpus.fields.encoding import EncodedExample
from pipeline.corpus.fields.example import Example
from pipeline.corpus.fields.row_pipeline import RowPipeline
from pipeline.corpus.fields.tag_conversion import convert
from pipeline.corpus.prepare.dedup_and_split import CODES, DROPPED
from pipeline.corpus.prepare.tag_decision import Readings
from pipeline.corpus.prepare.work_dir import (
    Chunk,
    Part,
    PreparationContext,
    Totals,
    load_or_compute,
)
from pipeline.corpus.readers.base import reader_code
from pipeline.corpus.skip_reason import SKIPPED_BY_REQUEST, bad_row_error, count_skip
from pipeline.corpus.worker_pool import advance
from pipeline.errors import InputError
from pipeline.storage.atomic import atomic_file

GROUP_ROWS = 1024
GROUP_BYTES = 1 << 22
"""Limits of a group of examples that are encoded at once."""
Names = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class ChunkTask:
    """A chunk to encode, with its place in the corpus."""

    number: int
    """Number of the chunk in the corpus."""
    chunk: Chunk
    first_example: int
    """Number of its first example in the corpus."""
    readings: Readings
    """How its tags are read."""


class SplitExample(NamedTuple):
    """An example that belongs to a split."""

    document: int
    """Its number in the corpus."""
    example: Example
    file: str
    split: int


def encode(
    context: PreparationContext, names: Names, fallbacks: Collection[str], task: ChunkTask
) -> Part:
    """Write the rows of a chunk, one file for each split.

    `names` are the label names of each field. Texts of the vocabularies in `fallbacks` are encoded
    by the library tokenizers, because fastokens has failed for them; for each other vocabulary,
    this process chooses the library. Raises InputError if the input file has changed.
    """
    return load_or_compute(
        context.part_path(task.number, "json"),
        Part,
        partial(_encode, context, names, fallbacks, task),
    )


def _encode(
    context: PreparationContext, names: Names, fallbacks: Collection[str], task: ChunkTask
) -> Part:
    pipeline = RowPipeline(
        context.settings, context.fields, context.tokenizer_path, names, splits=True
    )
    for vocabulary in fallbacks:
        pipeline.text_encoders[vocabulary].backend.use_tokenizers()
    sizes = {name: encoder.vocab_size for name, encoder in pipeline.text_encoders.items()}
    columns = schema(context.fields, sizes, names, segments=context.splits_texts)
    part = Part(task.number, {split: Totals() for split in context.splits})
    with ExitStack() as stack:
        writers = {}
        for split in context.splits:
            file = stack.enter_context(
                atomic_file(context.part_path(task.number, f"{split}.arrow"))
            )
            writers[split] = stack.enter_context(pa.ipc.new_file(file, columns))
        for group in _groups(_split_examples(context, pipeline, task)):
            encoded = pipeline.encode([member.example for member in group])
            for result, member in zip(encoded, group, strict=True):
                _count(context, part, result, member)
            for split in context.splits:
                rows = [
                    row
                    for result, member in zip(encoded, group, strict=True)
                    if member.split == CODES[split]
                    for row in _stored_rows(context, result, member.document)
                ]
                if rows:
                    writers[split].write_batch(batch(columns, rows))
                    lengths = [len(first) for first, *_ in rows]
                    stored_bytes = sum(size(columns, row) for row in rows)
                    part.splits[split].add(
                        Totals(len(rows), sum(lengths), max(lengths), stored_bytes)
                    )
            advance(task.chunk.bytes * len(group) // task.chunk.examples)
    return part


def _stored_rows(
    context: PreparationContext, encoded: EncodedExample, document: int
) -> Iterator[tuple[Any, ...]]:
    """Yield an example's rows, their cells in the order of the columns."""
    for segment, cells in enumerate(encoded.rows):
        position: tuple[Cell, ...] = (document, segment, len(encoded.rows))
        yield (*cells, *(position if context.splits_texts else ()))


def _count(
    context: PreparationContext, part: Part, encoded: EncodedExample, member: SplitExample
) -> None:
    """Count an example if it is skipped, split or truncated."""
    if encoded.skip:
        place = member.example.place(member.file)
        if context.settings.on_bad_row == "stop" and encoded.skip not in SKIPPED_BY_REQUEST:
            raise InputError(bad_row_error(place, encoded.skip, ""))
        count_skip(part.skips, encoded.skip, place)
    elif len(encoded.rows) > 1:
        part.split += 1
        part.segments += len(encoded.rows)
    else:
        part.truncated += encoded.long


def _split_examples(
    context: PreparationContext, pipeline: RowPipeline, task: ChunkTask
) -> Iterator[SplitExample]:
    """Read a chunk again and yield the examples that a split takes."""
    chunk, count = task.chunk, 0
    splits = np.fromfile(
        context.split_codes_path, np.uint8, chunk.examples, offset=task.first_example
    )
    for span in chunk.spans:
        with pipeline.open(span.path, span.file) as reader:
            reader.next_line = span.line
            reader.seek(span.start, span.stop, span.row)
            rows = pipeline.examples(reader, span.file, lambda reason, row: None, check_names=False)
            for example in rows:
                if count < chunk.examples and splits[count] != DROPPED:
                    converted = convert(example, task.readings)
                    assert isinstance(converted, Example), "an example with invalid tags is dropped"
                    document = task.first_example + count
                    yield SplitExample(document, converted, span.file, int(splits[count]))
                count += 1
    if count != chunk.examples:
        raise InputError(f"{chunk.spans[-1].file}: {_difference(context, chunk, count)}")


def _difference(context: PreparationContext, chunk: Chunk, count: int) -> str:
    """Return why a chunk may have another number of examples than the scan has found."""
    if reader_code(context.settings.format):
        first, last = chunk.spans[0], chunk.spans[-1]
        return (
            f"has {chunk.examples} examples between the marks {first.start} and {last.stop}, but "
            f"{count} when only this part is read; corpus.format={context.settings.format} must "
            "yield each row before it reads a line of the next one, and not depend on earlier rows"
        )
    return "changed while it was being prepared; prepare again"


def _groups(examples: Iterable[SplitExample]) -> Iterator[list[SplitExample]]:
    """Group examples to encode at once: enough to be fast, few enough to fit in memory."""
    group: list[SplitExample] = []
    group_bytes = 0
    for member in examples:
        group.append(member)
        group_bytes += len(member.example.identity)
        if len(group) == GROUP_ROWS or group_bytes >= GROUP_BYTES:
            yield group
            group, group_bytes = [], 0
    if group:
        yield group
