"""Words and a tag for each."""

import re
from dataclasses import replace

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.readers.formats.conll import SCHEME_TAG
from pipeline.inspection.column import FEW_ROWS, MOST, Column, Kind
from pipeline.inspection.form import Form, Proposal
from pipeline.inspection.keys import Key
from pipeline.inspection.table import Table

WORD_NAMES = re.compile(r"words?|tokens?|form|text|sentence|0", re.IGNORECASE)
TAG_NAMES = re.compile(r"(?:.*[_ ])?(?:tags?|labels?|upos)|ner|pos", re.IGNORECASE)
WORD_FORMATS = ("conll", "conllu")
MAX_TAGS = 1000
UNIVERSAL = ("upos", "xpos", "deprel")
"""Columns of CoNLL-U that may be learned as tags."""


class TaggingForm(Form):
    """Two columns of lists that are equally long: words and tags."""

    task = "tagging"

    @classmethod
    def propose(cls, table: Table) -> Proposal | None:
        lists = [*table.of_kind(Kind.LIST), *_texts_of_tags(table)]
        words = _chosen(table, table.text, lists) or _words(table, lists)
        if words is None:
            return None
        candidates = [c for c in lists if c.name != words.name and _are_aligned(words, c)]
        tags = _chosen(table, table.label, candidates) or _tags(table, candidates)
        if tags is None or not (table.label or _are_tags(table, tags)):
            return None
        is_numbered = "conll" in table.formats and tags.name == list(table.columns)[-1]
        name = "-1" if is_numbered and tags.name.isdigit() and not table.label else tags.name
        entities = sum(tags.items[tag] for tag in tags.items if tag != "O")
        why = f"{len(tags.items)} different tags, {entities:,} of them other than O"
        alternatives = [
            f"corpus.label={other.name} ({len(other.items)} different values)"
            for other in candidates
            if other.name != tags.name
            and 1 < len(other.items) <= MAX_TAGS
            and ("conllu" not in table.formats or other.name in UNIVERSAL)
        ]
        if all(tag.isdigit() for tag in tags.items):
            alternatives.insert(
                0, "corpus.label_names=[O, B-X, ...] names the numbers 0, 1, ... of the tags"
            )
        return Proposal(
            cls.task,
            0.9,
            f"lists of words in {words.name}, with a tag for each word in {tags.name}",
            {"text": Key(words.name, "the words"), "label": Key(name, why)},
            (FieldSpec("words", words.name, "words"), FieldSpec("tags", name, "tags")),
            tuple(alternatives[:4]),
        )


def _chosen(table: Table, names: list[str], columns: list[Column]) -> Column | None:
    by_name = {column.name: column for column in columns}
    if len(names) != 1:
        return None
    chosen = table.columns[names[0]]
    return by_name.get(names[0]) or (chosen if chosen.kind is Kind.LIST else None)


def _words(table: Table, lists: list[Column]) -> Column | None:
    """Return the column of words: by its name, or with the most different items."""
    named = [c for c in lists if WORD_NAMES.fullmatch(c.name.rpartition(".")[2])]
    if table.formats & set(WORD_FORMATS):
        first = list(table.columns)[:1]
        named = [c for c in lists if c.name == "form"] or named or [
            c for c in lists if c.name in first
        ]  # fmt: skip
        numbered = named and all(item.isdigit() for item in list(named[0].items)[:50])
        if numbered and len(lists) > 2:
            named = lists[1:2]
    if len(lists) < 2:
        return None
    return max(named or lists, key=lambda column: len(column.items))


def _tags(table: Table, columns: list[Column]) -> Column | None:
    """Return the column of tags: by its name, its prefixes, or with the fewest items."""
    upos = [column for column in columns if column.name == "upos"]
    if upos or not columns:
        return upos[0] if upos else None
    named = [c for c in columns if TAG_NAMES.fullmatch(c.name.rpartition(".")[2])]
    if not named and table.formats & set(WORD_FORMATS):
        return columns[-1]
    schemed = [c for c in named or columns if _share_of_scheme(c) >= MOST]
    usable = [c for c in schemed or named or columns if len(c.items) > 1]
    return min(usable, key=lambda column: len(column.items), default=None)


def _are_tags(table: Table, column: Column) -> bool:
    """Return whether the items of a column repeat, in lists of several items."""
    few = table.rows < FEW_ROWS or bool(table.formats & set(WORD_FORMATS))
    total = sum(column.items.values())
    return few or (2 * len(column.items) <= total and column.mean_words > 1)


def _share_of_scheme(column: Column) -> float:
    """Return the share of the items that are tags such as B-X or O."""
    fitting = sum(n for item, n in column.items.items() if SCHEME_TAG.fullmatch(item))
    return fitting / max(sum(column.items.values()), 1)


def _are_aligned(first: Column, second: Column) -> bool:
    pairs = [(a, b) for a, b in zip(first.values, second.values, strict=True) if a and b]
    if first.kind is not second.kind or len(first.present) != len(second.present):
        return bool(pairs) and _share_equal(_lengths(first), _lengths(second)) >= 0.5
    return _share_equal(_lengths(first), _lengths(second)) >= 0.5


def _lengths(column: Column) -> list[int]:
    return [len(value) for value in column.present]


def _share_equal(first: list[int], second: list[int]) -> float:
    equal = sum(a == b for a, b in zip(first, second, strict=False))
    return equal / max(len(first), 1)


def _texts_of_tags(table: Table) -> list[Column]:
    """Return columns of tags that are joined by spaces, and of their words, as lists."""
    found = []
    for column in table.of_kind(Kind.TEXT, Kind.LABEL):
        split = [text.split() for text in column.present]
        items = [item for items in split for item in items]
        prefixed = sum(bool(SCHEME_TAG.fullmatch(item)) for item in items)
        if prefixed >= MOST * max(len(items), 1) and any("-" in item for item in items):
            found.append(replace(column, kind=Kind.LIST, present=split))
    if not found:
        return []
    lengths = _lengths(found[0])
    for column in table.of_kind(Kind.TEXT):
        split = [text.split() for text in column.present]
        if column.name != found[0].name and _share_equal(list(map(len, split)), lengths) >= MOST:
            found.append(replace(column, kind=Kind.LIST, present=split))
    return found
