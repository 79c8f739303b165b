"""What a task asks of the corpus: which columns, and what becomes of each. Plain data."""

from dataclasses import dataclass
from typing import Literal

SEGMENT_COLUMNS = DOCUMENT, SEGMENT, SEGMENTS = ("document", "segment", "segments")
"""Whole numbers that rows carry beside a task's fields where long texts are split: which document
a row is of, unique in the corpus; its place there, from 0; how many rows the document has."""

Kind = Literal[
    "text", "target", "targets", "words", "characters", "label", "labels", "tags", "steps",
    "pixels", "features",
]  # fmt: skip


@dataclass(frozen=True)
class FieldSpec:
    """One column of the shards: its name there, the column of the raw input that it is made of,
    and what becomes of that (see `columns.py`).

    text        a string         the ids of its tokens
    target      the same         the same, of a text that is to be written
    targets     a list of such   the ids of all, the token for the end behind each
    words       a list of words  their ids
    characters  the same         `width` bytes of each word
    tags        a list of names  their indices, one a word
    label       a name           its index
    labels      a list of names  their indices, counted from 1
    steps       an image         `width` figures a step (see `images.py`)
    pixels      an image         the `width` figures of a row of pixels
    features    an array [S, F]  the `width` figures of each of its S regions

    The first field of a task is a list and says how long a row is. Words, characters and tags are
    cut alike.
    """

    name: str
    column: str
    kind: Kind
    width: int = 0
    vocabulary: str = "tokenizer"
    """Of texts and words: the tokenizer, which fields may share."""
    append_end: bool = False
    """Of texts: whether the token for the end stands behind each."""
    plane: tuple[int, int] = (0, 0)
    """Of steps: how many there are down an image, and across; of pixels too."""

    @property
    def tokenized(self) -> bool:
        return self.kind in ("text", "words") or self.is_target

    @property
    def has_names(self) -> bool:
        """Whether it holds indices of names."""
        return self.kind in ("label", "labels", "tags")

    @property
    def is_input(self) -> bool:
        """Whether prediction is given it, and is not to find it."""
        return not self.has_names and not self.is_target

    @property
    def is_target(self) -> bool:
        """Whether its texts are to be written."""
        return self.kind in ("target", "targets")

    @property
    def is_image(self) -> bool:
        """Whether it is made of a file of its own, of an image."""
        return self.kind in ("steps", "pixels", "features")


def vocabularies(fields: tuple[FieldSpec, ...]) -> list[str]:
    """The names of the tokenizers that some fields need."""
    return list(dict.fromkeys(field.vocabulary for field in fields if field.tokenized))
