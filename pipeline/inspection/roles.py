"""Finds the columns that may be the text, label, group, time or weight of a row."""

import re

from pipeline.errors import ConfigError
from pipeline.inspection.column import (
    FEW_ROWS,
    LABEL_NAMES,
    REPEATED,
    TEXT_NAMES,
    Column,
    Kind,
)
from pipeline.inspection.table import Table

TITLE_NAMES = re.compile(
    r"(?:.*[ _])?(?:title|subject|headline|heading|summary|betreff|titel)", re.IGNORECASE
)
GROUP_NAMES = re.compile(
    r".*(author|user|customer|client|speaker|patient|account|person|reviewer|writer|sender|kunde|"
    r"product|business|company|seller|movie|film|book|thread|conversation|session|document|doc).*",
    re.IGNORECASE,
)
WEIGHT_NAMES = re.compile(r"(?:.*[_ ])?weights?", re.IGNORECASE)
MAX_NUMBER_LABELS = 20
"""Maximum number of distinct values in a column of whole numbers that may be labels."""
MIN_LABEL_SCORE = 0.3
CLOSE_SCORES = 0.4
"""Maximum difference between the scores of two columns that are nearly as good."""
MANY_LABELS = 100


def texts(table: Table) -> list[Column]:
    """Return the columns that may be the text, the best first; the chosen ones if there are any."""
    if table.text:
        return [table.columns[name] for name in table.text]
    used = set(table.label)
    found = [column for column in table.of_kind(Kind.TEXT) if column.name not in used]
    return sorted(found, key=_text_score, reverse=True)


def text_columns(table: Table) -> list[Column]:
    """Return the best text column, after a title if there is one; the chosen ones if there are."""
    found = texts(table)
    if table.text or not found:
        return found
    main = found[0]
    titles = [c for c in found[1:] if TITLE_NAMES.fullmatch(_last(c)) and c.name != main.name]
    chosen = {main.name, *(column.name for column in titles[:1])}
    return [column for column in table.columns.values() if column.name in chosen]


def labels(table: Table) -> list[Column]:
    """Return the columns that may be a label or a number to predict, the best first.

    Raises ConfigError if the user chose a column that is a text, an id or a date.
    """
    if table.label:
        chosen = [table.columns[name] for name in table.label]
        for column in chosen:
            _check_label(table, column)
        return chosen
    used = set(table.text)
    columns = [c for c in table.of_kind(Kind.LABEL, Kind.NUMBER) if c.name not in used]
    scores = {column.name: label_score(column) for column in columns}
    found = [column for column in columns if scores[column.name] >= MIN_LABEL_SCORE]
    return sorted(found, key=lambda column: scores[column.name], reverse=True)


def numbers(table: Table) -> list[Column]:
    """Return the columns of numbers that may be predicted, the best first; the chosen one if there
    is one."""
    if table.label:
        return [column for column in labels(table) if column.is_numeric]
    found = [
        column
        for column in table.of_kind(Kind.NUMBER)
        if not WEIGHT_NAMES.fullmatch(_last(column)) and not GROUP_NAMES.fullmatch(_last(column))
    ]
    return sorted(found, key=label_score, reverse=True)


def is_sure(candidates: list[Column], table: Table) -> bool:
    """Return whether the first of the columns that may be the label is clearly the best."""
    if table.label or len(candidates) < 2:
        return True
    first, second = (label_score(column) for column in candidates[:2])
    return first - second > CLOSE_SCORES


def label_score(column: Column) -> float:
    """Return how much a column looks like the label of its rows."""
    score = 0.5 * (1 - column.share_distinct) - column.missing
    if LABEL_NAMES.fullmatch(_last(column)):
        score += 1.0
    if column.kind is Kind.LABEL:
        score += 0.5 if column.distinct > 1 or len(column.present) < FEW_ROWS else -1.0
        score -= 0.3 if column.distinct > MANY_LABELS else 0.0
    elif is_number_label(column):
        score += 0.3
    if GROUP_NAMES.fullmatch(_last(column)) or WEIGHT_NAMES.fullmatch(_last(column)):
        score -= 0.6
    return score


def is_number_label(column: Column) -> bool:
    """Return whether numbers may be labels: whole numbers with few distinct values."""
    few = len(column.present) < FEW_ROWS or column.share_distinct <= REPEATED
    return column.is_numeric and column.is_whole and few and column.distinct <= MAX_NUMBER_LABELS


def groups(table: Table, used: set[str]) -> list[Column]:
    """Return the columns that may group rows, such as an author column."""
    return [
        column
        for column in table.of_kind(Kind.LABEL, Kind.NUMBER, Kind.TEXT, Kind.ID)
        if column.name not in used
        and GROUP_NAMES.fullmatch(_last(column))
        and 10 < column.distinct < 0.9 * len(column.present)
    ]


def times(table: Table, used: set[str]) -> list[Column]:
    return [column for column in table.of_kind(Kind.DATE) if column.name not in used]


def weights(table: Table, used: set[str]) -> list[Column]:
    return [
        column
        for column in table.of_kind(Kind.NUMBER)
        if column.name not in used
        and WEIGHT_NAMES.fullmatch(_last(column))
        and min(column.numbers) >= 0
    ]


def _check_label(table: Table, column: Column) -> None:
    rows, option = len(column.present), f"--label={column.name}"
    if column.name in table.text:
        raise ConfigError(f"{option}: --text names this column, too; name another column")
    if not rows:
        raise ConfigError(f"{option}: this column has no values; name another column")
    better = [name for name in map(_name, labels(_without_choice(table))) if name != column.name]
    hint = f", such as {better[0]}" if better else ""
    if column.kind is Kind.DATE:
        raise ConfigError(f"{option}: its values are dates, not labels; name another column{hint}")
    if column.kind is Kind.CONSTANT:
        raise ConfigError(
            f"{option}: all its values are {column.example!r}, so there is nothing to learn; name "
            f"another column{hint}"
        )
    is_label = column.kind in (Kind.NUMBER, Kind.LIST, Kind.MAP)
    if not is_label and rows >= FEW_ROWS and column.share_distinct > REPEATED:
        raise ConfigError(
            f"{option}: {column.distinct:,} of its {rows:,} values are different, so it is a text "
            f"or an id, not a label; name another column{hint}"
        )


def _without_choice(table: Table) -> Table:
    return Table(table.columns, table.samples, table.root, table.text, [])


def _name(column: Column) -> str:
    return column.name


def _text_score(column: Column) -> float:
    score = min(column.mean_words, 100) / 100 + 0.3 * column.share_distinct - column.missing
    return score + 0.5 * bool(TEXT_NAMES.fullmatch(_last(column)))


def _last(column: Column) -> str:
    """Return the last part of a column name such as `a.b`."""
    return column.name.rpartition(".")[2]
