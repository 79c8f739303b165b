"""What a task asks of the corpus: which columns, and what becomes of each. Plain data."""

from dataclasses import dataclass
from typing import Literal

SEGMENT_COLUMNS = DOCUMENT, SEGMENT, SEGMENTS = ("document", "segment", "segments")
"""Whole numbers that rows carry beside a task's fields where long texts are split: which document
a row is of, unique in the corpus; its place there, from 0; how many rows the document has."""


@dataclass(frozen=True)
class Field:
    """One column of the raw input and the name that it carries in the shards.

    `kind` says what becomes of it: "text" is tokenised, "label" becomes an index into the names
    of the labels. A task asks for one text and at most one label.
    """

    name: str
    column: str
    kind: Literal["text", "label"]


def text_and_label(fields: tuple[Field, ...]) -> tuple[Field, Field | None]:
    """The one text and the one label, if there is any."""
    texts = [field for field in fields if field.kind == "text"]
    labels = [field for field in fields if field.kind == "label"]
    if len(texts) != 1 or len(labels) > 1:
        raise ValueError(f"a corpus has one text and at most one label, not {fields}")
    return texts[0], labels[0] if labels else None
