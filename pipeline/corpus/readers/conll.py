"""Sentences of CoNLL column files and of CoNLL-U: a token a line, blank lines between sentences."""

import re
from collections.abc import Callable, Iterator, Sequence

from pipeline.corpus.readers.text import Lines, check_columns
from pipeline.errors import InputError

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
NO_WORD = re.compile(r"\d+[-.]\d+\t")  # what a multiword token or an empty node begins with
NEW_DOCUMENT = "-DOCSTART-"
BLANKS = " \t\r\n"  # other blanks may be tokens
RIGHT_WITHIN = 1000  # sentences, one of which must have as many fields as there are columns
SENTENCE_LIMIT = 1 << 20  # tokens

Sentence = list[list[str]]
"""The fields of each token."""


def conll_columns(kind: str, columns: Sequence[str], names: Sequence[str], name: str) -> list[str]:
    """The columns of a file, which CoNLL-U fixes. Raises InputError unless `columns` are there."""
    if kind == ".conllu":
        check_columns(columns, CONLLU, name)
        return list(CONLLU)
    if not names:
        raise InputError(
            f"{name}: CoNLL files do not say what their columns are; name them all, in their "
            "order, as corpus.columns, such as corpus.columns=[words,tags]"
        )
    check_columns(columns, names, name, " by corpus.columns, which must name each in its order")
    return list(names)


def conll_records(
    lines: Lines, kind: str, names: Sequence[str], columns: Sequence[str]
) -> Iterator[dict[str, list[str]] | None]:
    """Column -> field of each token, of each sentence; None for one in which a line has more or
    fewer fields than there are `names`.

    Raises InputError if all of the first sentences are such. Between two marks it is not asked.
    """
    places = [(column, names.index(column)) for column in columns]
    right = lines.stop is not None
    sentences = 0
    for sentence in _sentences(lines, _conllu_fields if kind == ".conllu" else _conll_fields):
        sentences += 1
        if all(len(fields) == len(names) for fields in sentence):
            right = True
            yield {column: [fields[place] for fields in sentence] for column, place in places}
            continue
        if sentences == RIGHT_WITHIN and not right:
            raise InputError(_complaint(lines, kind, names, sentence))
        yield None
    if sentences and not right:
        raise InputError(_complaint(lines, kind, names, sentence))


def _sentences(lines: Lines, fields_of: Callable[[str], list[str] | None]) -> Iterator[Sentence]:
    """The sentences that have a token, each when the line that ends it is read."""
    sentence: Sentence = []
    for line in lines:
        lines.record.clear()
        fields = fields_of(line.rstrip("\r\n")) if line.strip(BLANKS) else []
        if fields:
            sentence.append(fields)
            if len(sentence) > SENTENCE_LIMIT:
                raise InputError(
                    f"{lines.name}, line {lines.number}: has no blank line in the {SENTENCE_LIMIT} "
                    "lines before it; put one after each sentence"
                )
        elif sentence and fields is not None:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _conll_fields(line: str) -> list[str]:
    """The fields between tabs, or between blanks if there is no tab; none if it ends a sentence."""
    if line.startswith(NEW_DOCUMENT):
        return []
    if "\t" in line:
        return [field.strip(" ") for field in line.split("\t")]
    return [field for field in line.split(" ") if field]


def _conllu_fields(line: str) -> list[str] | None:
    """The fields between tabs, which may hold blanks; None if it is to be skipped."""
    return None if line.startswith("#") or NO_WORD.match(line) else line.split("\t")


def _complaint(lines: Lines, kind: str, names: Sequence[str], sentence: Sentence) -> str:
    found = next(len(fields) for fields in sentence if len(fields) != len(names))
    if kind == ".conllu":
        return (
            f"{lines.name}: has no sentence of CoNLL-U, whose lines have 10 fields between tabs; "
            f"before line {lines.number} one has {found}"
        )
    return (
        f"{lines.name}: has no sentence whose lines have {len(names)} fields, one for each name in "
        f"corpus.columns; before line {lines.number} one has {found}; name every column of the file"
    )
