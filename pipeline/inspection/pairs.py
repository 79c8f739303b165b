"""Finds pairs of text columns that belong together, by their names."""

import re

from pipeline.inspection.column import FEW_ROWS, TEXT_WORDS, Column, Kind
from pipeline.inspection.table import Table

PREMISES = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("sentence_1", "sentence_2"),
    ("question1", "question2"), ("text1", "text2"), ("text_1", "text_2"), ("text_a", "text_b"),
    ("sentence_a", "sentence_b"), ("sentence_A", "sentence_B"), ("text", "text_pair"),
    ("question", "sentence"), ("query", "passage"), ("query", "document"), ("claim", "evidence"),
    ("first", "second"),
)  # fmt: skip
SOURCES = (
    ("source", "target"), ("src", "tgt"), ("src", "trg"), ("input", "output"),
    ("article", "summary"), ("article", "highlights"), ("document", "summary"),
    ("question", "answer"), ("dialogue", "summary"), ("prompt", "completion"),
    ("prompt", "response"), ("instruction", "output"), ("original", "corrected"),
    ("complex", "simple"),
)  # fmt: skip
LANGUAGE = re.compile(r"[a-z]{2}(?:[-_][A-Za-z]{2})?")
LANGUAGE_NAMES = re.compile(r"english|german|french|spanish|italian|dutch|russian|chinese|czech")


def find_pair(table: Table, names: tuple[tuple[str, str], ...]) -> tuple[Column, Column] | None:
    """Return two text columns whose names are one of the pairs; names of objects are ignored."""
    columns = {name.rpartition(".")[2].lower(): c for name, c in table.columns.items()}
    for first, second in names:
        pair = columns.get(first.lower()), columns.get(second.lower())
        if pair[0] and pair[1] and all(_is_text(column) for column in pair if column):
            return pair[0], pair[1]
    return None


def find_languages(table: Table) -> tuple[Column, Column] | None:
    """Return two text columns that are named after languages."""
    found = [
        column
        for name, column in table.columns.items()
        if _is_text(column) and _is_language(name.rpartition(".")[2].lower())
    ]
    return (found[0], found[1]) if len(found) == 2 else None


def _is_language(name: str) -> bool:
    return bool(LANGUAGE.fullmatch(name) or LANGUAGE_NAMES.fullmatch(name))


def _is_text(column: Column) -> bool:
    """Return whether a column may hold texts; a few texts, or repeated ones, look like labels."""
    few = len(column.present) < FEW_ROWS or column.mean_words >= TEXT_WORDS
    return column.kind is Kind.TEXT or (column.kind in (Kind.LABEL, Kind.ID) and (
        few or column.distinct > 100))  # fmt: skip
