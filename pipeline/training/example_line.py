"""An input to try a run on: a short line made from its validation rows."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from pipeline.stream.plan import Position
from pipeline.stream.resumable import Updates
from pipeline.tasks.base.task import DatasetInfo, Task

MAX_CHARACTERS = 58
"""Characters of a line, so that its command fits into 80 columns; of a pair, both together."""
MAX_PAIR_CHARACTERS = 40


def example_line(task: Task, validation: Updates, data: DatasetInfo, corpus: Any) -> str:
    """Return an input for `headrace predict`: a validation row.

    It is the task's placeholder if a line cannot hold a row, or if the tokenizers library, which
    training does not need, is not installed. Reads the first update only. `corpus` is the section
    of the config.
    """
    try:
        import tokenizers  # noqa: F401
    except ModuleNotFoundError:
        return task.example(corpus)
    with closing(validation.prefetched(Position())) as updates:
        first = next(updates, None)
    lines = [
        task.line(batch, row, data)
        for batch in (first.batches if first else [])
        for row in task.displayable(batch).nonzero()[:, 0].tolist()
    ]
    return shortened(lines) or task.example(corpus)


def shortened(lines: Sequence[str]) -> str:
    """Return the longest of the lines that are short enough, else the shortest one, cut between
    words; empty if there are none.

    Tabs separate the texts of a pair. Lines that a shell or its `echo` may change are avoided.
    """
    rows = [[" ".join(part.split()) for part in line.split("\t")] for line in lines]
    fitting = [row for row in rows if _size(row) <= _limit(row) and _is_safe(row)]
    if fitting:
        longest = max(fitting, key=_size)
        return "\t".join(longest)
    cut = [[_cut(part, _limit(row) // len(row)) for part in row] for row in sorted(rows, key=_size)]
    return next(("\t".join(row) for row in cut if _is_safe(row)), "")


def _is_safe(row: Sequence[str]) -> bool:
    text = " ".join(row)
    return (
        all(row) and text.isprintable() and not text.startswith("-") and not set("'\\") & set(text)
    )


def _size(row: Sequence[str]) -> int:
    return sum(map(len, row))


def _limit(row: Sequence[str]) -> int:
    return MAX_CHARACTERS if len(row) == 1 else MAX_PAIR_CHARACTERS


def _cut(text: str, limit: int) -> str:
    """Return the first words of a text, or a part of a word that alone is too long."""
    if len(text) <= limit:
        return text
    return text[: limit + 1].rpartition(" ")[0] or text[:limit]
