"""CoNLL-U, the format of Universal Dependencies."""

from collections.abc import Sequence
from typing import Any

from pipeline.corpus.readers.formats.conll import NOT_A_WORD, Sentence, Sentences
from pipeline.corpus.readers.lines import LineReader

MISSING = "_"
REQUIRED = ("upos", "head", "deprel")
"""Columns that never have `_` in an annotated sentence."""
OPTIONAL = ("form", "xpos")
"""Columns that are missing if all tokens of a sentence have `_`, and there are several."""


class Conllu(Sentences):
    """Sentences with ten fields per token, separated by tabs; fields may contain spaces.

    Comments, multiword tokens and empty nodes are skipped. In a sentence without forms or
    without an annotation, the value of this column is missing.
    """

    suffixes = (".conllu",)
    names = (
        "id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc",
    )  # fmt: skip

    def column_names(self, lines: LineReader) -> Sequence[str]:
        return self.names

    def fields(self, line: str, *, is_first: bool) -> list[str] | None:
        return None if line.startswith("#") or NOT_A_WORD.match(line) else line.split("\t")

    def column_values(self, index: int, sentence: Sentence) -> Any:
        values, name = super().column_values(index, sentence), self.names[index]
        if name in REQUIRED and MISSING in values:
            return None
        if name in OPTIONAL and len(values) > 1 and set(values) == {MISSING}:
            return None
        return values

    def field_count_error(self, width: int, line: int, count: int) -> str:
        return (
            "has no valid CoNLL-U sentence, in which all lines have 10 fields separated by tabs; "
            f"line {line} has {count}"
        )
