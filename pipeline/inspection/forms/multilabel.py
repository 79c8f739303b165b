"""A text and any number of labels."""

from collections import Counter

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.label_names import OTHER_SEPARATORS
from pipeline.inspection import roles
from pipeline.inspection.column import FEW_ROWS, LABEL_NAMES, Column, Kind
from pipeline.inspection.form import Form, Proposal
from pipeline.inspection.keys import Key, Keys
from pipeline.inspection.table import Table
from pipeline.inspection.text_keys import columns_of, describe_texts, text_alternatives, text_key

SEPARATORS = tuple(s for s in OTHER_SEPARATORS if s != " ")
MIN_COLUMNS = 2


class MultiLabelForm(Form):
    """A column of texts, and lists of labels, labels in one text, a map or columns of 0 and 1."""

    task = "multilabel"

    @classmethod
    def propose(cls, table: Table) -> Proposal | None:
        texts = roles.text_columns(table)
        if not texts:
            return None
        used = {text.name for text in texts}
        found = _lists(table, used) or _joined(table, used) or _binary(table, used)
        if found is None:
            return None
        keys, why, alternatives = found
        label = keys["label"].value
        column = tuple(label) if isinstance(label, list) else label
        return Proposal(
            cls.task,
            0.75,
            f"{describe_texts(texts)}, and {why}",
            text_key(texts) | keys,
            (
                FieldSpec("tokens", columns_of(texts), "text"),
                FieldSpec("labels", column, "labels"),
            ),
            (*text_alternatives(table, texts), *alternatives),
        )


Found = tuple[Keys, str, list[str]]


def _candidates(table: Table, used: set[str], *kinds: Kind) -> list[Column]:
    """Return the columns that may hold labels, those with the name of a label first."""
    if len(table.label) == 1:
        chosen = table.columns[table.label[0]]
        return [chosen] if chosen.kind in kinds else []
    columns = [c for c in table.of_kind(*kinds) if c.name not in used] if not table.label else []
    return sorted(columns, key=lambda c: not LABEL_NAMES.fullmatch(c.name.rpartition(".")[2]))


def _lists(table: Table, used: set[str]) -> Found | None:
    for column in _candidates(table, used, Kind.MAP, Kind.LIST):
        if column.kind is Kind.MAP:
            names = list(dict.fromkeys(str(key) for value in column.present for key in value))
            key = Key(column.name, f"maps from {len(names)} labels to 0 or 1")
            return {"label": key}, f"maps of labels in {column.name}", []
        if column.items and set(column.items) <= {"0", "1"} and _width(column) > 1:
            names = [f"label {number}" for number in range(1, _width(column) + 1)]
            keys = {
                "label": Key(column.name, f"lists of 0 and 1, one for each of {len(names)} labels"),
                "label_names": Key(names, "the file does not name them: replace these names"),
            }
            return keys, f"lists of 0 and 1 in {column.name}", []
        many = sum(len(value) > 1 for value in column.present)
        repeated = len(column.items) < 0.7 * sum(column.items.values())
        if many and (repeated or len(column.present) < FEW_ROWS):
            key = Key(column.name, f"lists of {len(column.items)} different labels")
            return {"label": key}, f"lists of labels in {column.name}", []
    return None


def _width(column: Column) -> int:
    """Return the length that all lists have; 0 if they differ."""
    lengths = {len(value) for value in column.present}
    return lengths.pop() if len(lengths) == 1 else 0


def _joined(table: Table, used: set[str]) -> Found | None:
    """Return the keys for a column with several labels in one text, and their separator."""
    for column in _candidates(table, used, Kind.LABEL, Kind.ID, Kind.TEXT):
        for separator in SEPARATORS:
            joined = sum(separator in text for text in column.present)
            parts = Counter(
                part.strip() for text in column.present for part in text.split(separator)
            )
            if joined and _are_labels(column, parts, joined):
                keys = {
                    "label": Key(column.name, f"{len(parts)} different labels, several in a row")
                }
                if separator != ",":
                    keys["label_separator"] = Key(separator, "it is between the labels of a row")
                other = f"task.name=classification takes each value of {column.name} as one label"
                return keys, f"labels joined by {separator!r} in {column.name}", [other]
    return None


def _are_labels(column: Column, parts: Counter[str], joined: int) -> bool:
    """Return whether the parts of texts are labels: short names that repeat, in different
    combinations."""
    if "" in parts or max(len(part.split()) for part in parts) > 3:
        return False
    if len(column.present) < FEW_ROWS:
        return bool(LABEL_NAMES.fullmatch(column.name.rpartition(".")[2]))
    return (
        joined >= 0.05 * len(column.present)
        and len(parts) <= 0.7 * column.distinct
        and sum(parts.values()) >= 3 * len(parts)
    )


def _binary(table: Table, used: set[str]) -> Found | None:
    """Return the keys for several columns of 0 and 1."""
    if len(table.label) == 1:
        return None
    columns = [table.columns[name] for name in table.label] or [
        column
        for column in table.columns.values()
        if column.is_binary and column.name not in used and column.missing == 0
    ]
    if len(columns) < MIN_COLUMNS or not all(column.is_binary for column in columns):
        return None
    others = [c for c in roles.labels(table) if not c.is_binary and not table.label]
    if any(roles.label_score(column) >= 1 for column in others):
        return None
    names = [column.name for column in columns]
    why = f"0 or 1 in {len(names)} columns: {', '.join(names[:4])}{', ...' * (len(names) > 4)}"
    one = f"task.name=classification corpus.label={names[0]} learns this label only"
    return {"label": Key(names, "columns of 0 and 1, one for each label")}, why, [one]
