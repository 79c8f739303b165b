"""CoNLL-U, the format of Universal Dependencies."""

import re
from collections.abc import Sequence

from pipeline.corpus.readers.formats.conll import Sentences

NOT_A_WORD = re.compile(r"\d+[-.]\d+\t")
"""Start of a line that is a multiword token or an empty node."""


class Conllu(Sentences):
    """Sentences with ten fields per token, separated by tabs; fields may contain spaces."""

    suffixes = (".conllu",)
    names = (
        "id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc",
    )  # fmt: skip

    def fields(self, line: str) -> list[str] | None:
        return None if line.startswith("#") or NOT_A_WORD.match(line) else line.split("\t")

    def field_count_error(self, names: Sequence[str], line: int, count: int) -> str:
        return (
            "has no valid CoNLL-U sentence, in which all lines have 10 fields separated by tabs; "
            f"a line before line {line} has {count}"
        )
