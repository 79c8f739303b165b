"""Field specifications: the columns that a task needs from the corpus, and how each is encoded."""

from dataclasses import dataclass
from typing import Literal

SEGMENT_COLUMNS = DOCUMENT, SEGMENT, SEGMENTS = ("document", "segment", "segments")
"""Integer columns stored beside a task's fields when long texts are split into several rows: the
document's number, unique in the corpus; the row's position in its document, from 0; the number of
rows of the document."""

Kind = Literal[
    "text", "target", "targets", "words", "characters", "label", "labels", "tags", "steps",
    "pixels", "features",
]  # fmt: skip


@dataclass(frozen=True)
class FieldSpec:
    """One column of the shards: its name, the raw input column it is read from, and its encoding.

    The kinds, with their raw value and the stored value (see `fields/kinds.py`):

    text        a string                 token ids
    target      a string                 token ids of a text to generate, then </s>
    targets     a list of strings        token ids of all texts, </s> after each
    words       a list of words          one token id per word
    characters  a list of words          `width` bytes per word
    tags        a list of names          one index per word
    label       a name                   its index
    labels      a list of names          their indices, from 1
    steps       an image                 `width` values per step (see `fields/images.py`)
    pixels      an image                 `width` values per row of pixels
    features    an array [S, F]          `width` = F values for each of S image regions

    The first field of a task is a list; its length is the length of the row. Words, characters and
    tags are truncated or split at the same positions.
    """

    name: str
    column: str
    kind: Kind
    width: int = 0
    vocabulary: str = "tokenizer"
    """Name of the tokenizer for texts and words. Several fields may share one."""
    append_end: bool = False
    """Whether each text ends with the token </s>."""
    plane: tuple[int, int] = (0, 0)
    """Height and width of an image's grid, for steps and pixels only."""

    @property
    def tokenized(self) -> bool:
        """Whether a tokenizer encodes the field."""
        return self.kind in ("text", "words") or self.is_target

    @property
    def has_names(self) -> bool:
        """Whether the field stores indices of label names."""
        return self.kind in ("label", "labels", "tags")

    @property
    def is_input(self) -> bool:
        """Whether the field is an input of the model, as opposed to something it predicts."""
        return not self.has_names and not self.is_target

    @property
    def is_target(self) -> bool:
        """Whether the field holds target text, which the model learns to generate."""
        return self.kind in ("target", "targets")

    @property
    def is_image(self) -> bool:
        """Whether each value comes from an image file or a file of image features."""
        return self.kind in ("steps", "pixels", "features")


def vocabularies(fields: tuple[FieldSpec, ...]) -> list[str]:
    """Return the names of the tokenizers that the fields use, without repeats."""
    return list(dict.fromkeys(field.vocabulary for field in fields if field.tokenized))
