"""Sentences of CoNLL and CoNLL-U files: one token per line, blank lines between sentences."""

import re
from collections.abc import Callable, Iterator, Sequence

from pipeline.corpus.readers.text import LineReader, check_columns
from pipeline.errors import InputError

CONLLU_COLUMNS = (
    "id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc",
)  # fmt: skip
NOT_A_WORD = re.compile(r"\d+[-.]\d+\t")
"""Start of a CoNLL-U line that is a multiword token or an empty node."""
NEW_DOCUMENT = "-DOCSTART-"
BLANKS = " \t\r\n"  # other white space may be a token
FIELD_CHECK_SENTENCES = 1000
"""One of this many first sentences must have the right number of fields on all lines."""
MAX_SENTENCE_TOKENS = 1 << 20

Sentence = list[list[str]]
"""The fields of each token."""


def conll_columns(
    kind: str, columns: Sequence[str], column_names: Sequence[str], name: str
) -> list[str]:
    """Return the names of all columns of a file: those of the CoNLL-U format, or `column_names`.

    Raises InputError if one of `columns` is not among them, or a CoNLL file has no `column_names`.
    """
    if kind == ".conllu":
        check_columns(columns, CONLLU_COLUMNS, name)
        return list(CONLLU_COLUMNS)
    if not column_names:
        raise InputError(
            f"{name}: CoNLL files do not name their columns; list all of them in order, "
            "such as corpus.columns=[words,tags]"
        )
    note = " (from corpus.columns, which must list all columns in order)"
    check_columns(columns, column_names, name, note)
    return list(column_names)


def conll_records(
    lines: LineReader, kind: str, column_names: Sequence[str], columns: Sequence[str]
) -> Iterator[dict[str, list[str]] | None]:
    """Yield a dict from column to the fields of all tokens for each sentence; None if one of its
    lines has more or fewer fields than there are `column_names`.

    Raises InputError if this is so for all of the first sentences. This is not checked if the lines
    are read only up to `lines.stop`.
    """
    indices = [(column, column_names.index(column)) for column in columns]
    has_valid_sentence = lines.stop is not None
    sentences = 0
    parse_fields = _conllu_fields if kind == ".conllu" else _conll_fields
    for sentence in _sentences(lines, parse_fields):
        sentences += 1
        if all(len(fields) == len(column_names) for fields in sentence):
            has_valid_sentence = True
            yield {column: [fields[index] for fields in sentence] for column, index in indices}
            continue
        if sentences == FIELD_CHECK_SENTENCES and not has_valid_sentence:
            raise InputError(_field_count_message(lines, kind, column_names, sentence))
        yield None
    if sentences and not has_valid_sentence:
        raise InputError(_field_count_message(lines, kind, column_names, sentence))


def _sentences(
    lines: LineReader, parse_fields: Callable[[str], list[str] | None]
) -> Iterator[Sentence]:
    """Yield each sentence that has a token, as soon as the line that ends it is read."""
    sentence: Sentence = []
    for line in lines:
        lines.record.clear()
        fields = parse_fields(line.rstrip("\r\n")) if line.strip(BLANKS) else []
        if fields:
            sentence.append(fields)
            if len(sentence) > MAX_SENTENCE_TOKENS:
                raise InputError(
                    f"{lines.name}, line {lines.line_number}: there is no blank line in the "
                    f"{MAX_SENTENCE_TOKENS} lines before it; put one after each sentence"
                )
        elif sentence and fields is not None:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _conll_fields(line: str) -> list[str]:
    """Split a line at tabs, or at spaces if it has no tab; [] if the line ends a sentence."""
    if line.startswith(NEW_DOCUMENT):
        return []
    if "\t" in line:
        return [field.strip(" ") for field in line.split("\t")]
    return [field for field in line.split(" ") if field]


def _conllu_fields(line: str) -> list[str] | None:
    """Split a line at tabs, as fields may contain spaces; None if the line is to be skipped."""
    return None if line.startswith("#") or NOT_A_WORD.match(line) else line.split("\t")


def _field_count_message(
    lines: LineReader, kind: str, column_names: Sequence[str], sentence: Sentence
) -> str:
    count = next(len(fields) for fields in sentence if len(fields) != len(column_names))
    if kind == ".conllu":
        return (
            f"{lines.name}: has no valid CoNLL-U sentence, in which all lines have 10 fields "
            f"separated by tabs; a line before line {lines.line_number} has {count}"
        )
    return (
        f"{lines.name}: has no sentence in which all lines have {len(column_names)} fields, one "
        f"for each name in corpus.columns; a line before line {lines.line_number} has {count}; "
        "name every column of the file"
    )
