"""The labeled rows of an input, as examples to evaluate."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipeline.corpus.fields.base import as_text
from pipeline.corpus.fields.example import Example
from pipeline.corpus.fields.row_pipeline import RowPipeline
from pipeline.corpus.row import Row
from pipeline.inference.counts import SkipCounts
from pipeline.inference.run_input import RunInput


class LabeledRow(NamedTuple):
    """A usable row to evaluate."""

    example: Example
    place: str
    """The row's place in the input, for messages."""
    value: str
    """The value of the column of `--by`."""


def labeled_rows(
    run_input: RunInput, pipeline: RowPipeline, skips: SkipCounts, by: str
) -> Iterator[LabeledRow]:
    """Yield each usable row of all files. The other rows are counted in `skips`."""
    for file, rows in run_input.rows_by_file():
        last: list[Row] = []
        counted = pipeline.examples(
            _remember(rows, last),
            file,
            lambda reason, row, file=file: skips.add(  # type: ignore[misc]
                reason, row.place(file), row.detail
            ),
        )
        for example in counted:
            value = as_text((last[0].values or {})[by]) if by else ""
            yield LabeledRow(example, last[0].place(file), value)


def _remember(rows: Iterable[Row], last: list[Row]) -> Iterator[Row]:
    """Yield the rows, and store the last yielded row in the list `last`."""
    for row in rows:
        last[:] = [row]
        yield row
