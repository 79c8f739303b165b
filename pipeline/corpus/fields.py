"""What a task asks of the corpus: which columns, and what becomes of each. Plain data."""

from dataclasses import dataclass
from typing import Literal

SEGMENT_COLUMNS = DOCUMENT, SEGMENT, SEGMENTS = ("document", "segment", "segments")
"""Whole numbers that rows carry beside a task's fields where long texts are split: which document
a row is of, unique in the corpus; its place there, from 0; how many rows the document has."""

Kind = Literal["text", "target", "words", "characters", "label", "labels", "tags", "steps"]


@dataclass(frozen=True)
class Field:
    """One column of the shards: its name there, the column of the raw input that it is made of,
    and what becomes of that (see `columns.py`).

    text        a string         the ids of its tokens
    target      the same         the same, of a text that is to be written
    words       a list of words  their ids
    characters  the same         `width` bytes of each word
    tags        a list of names  their indices, one a word
    label       a name           its index
    labels      a list of names  their indices, counted from 1
    steps       an image         `width` figures a step (see `images.py`)

    The first field of a task is a list and says how long a row is. Words, characters and tags are
    cut alike.
    """

    name: str
    column: str
    kind: Kind
    width: int = 0
    vocabulary: str = "tokenizer"
    """Of texts and words: the tokeniser, which fields may share."""
    ends: bool = False
    """Of texts: whether the token for the end stands behind each."""
    plane: tuple[int, int] = (0, 0)
    """Of steps: how many there are down an image, and across."""

    @property
    def tokenised(self) -> bool:
        return self.kind in ("text", "target", "words")

    @property
    def named(self) -> bool:
        """Whether it holds indices of names."""
        return self.kind in ("label", "labels", "tags")

    @property
    def given(self) -> bool:
        """Whether prediction is given it, and is not to find it."""
        return not self.named and self.kind != "target"


def vocabularies(fields: tuple[Field, ...]) -> list[str]:
    """The names of the tokenisers that some fields need."""
    return list(dict.fromkeys(field.vocabulary for field in fields if field.tokenised))
