"""Field specifications: the columns that a task needs from the corpus, and how each is encoded."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pipeline import components
from pipeline.corpus.column_type import ColumnType

NO_NAMES: Mapping[str, Sequence[str]] = MappingProxyType({})

SEGMENT_COLUMNS = DOCUMENT, SEGMENT, SEGMENTS = ("document", "segment", "segments")
"""Integer columns stored beside a task's fields when long texts are split into several rows: the
document's number, unique in the corpus; the row's position in its document, from 0; the number of
rows of the document."""

WEIGHT = "weight"
"""Column with the weight of each row in the training loss, if `corpus.weight` is set."""


@dataclass(frozen=True)
class FieldSpec:
    """One column of the shards: its name, the raw input column it is read from, and its encoding.

    `kind` is the name of a kind in `pipeline.corpus.fields.kinds`, or a subclass of `FieldKind`.
    The raw values and the stored values of the built-in ones:

    text        a string or a number     token ids
    target      a string                 token ids of a text to generate, then </s>
    targets     a list of strings        token ids of all texts, </s> after each
    words       a list of words          one token id per word
    characters  a list of words          `width` bytes per word
    tags        a list of names          one index per word
    label       a name                   its index
    labels      a list of names, or a    their indices, from 1
                map from names to 0 or 1
    number      a number                 the number
    weight      a number of 0 or more    the number
    steps       an image                 `width` values per step (see `fields/images.py`)
    pixels      an image                 `width` values per row of pixels
    features    an array [S, F]          `width` = F values for each of S image regions

    The first field of a task is a list; its length is the length of the row. Words, characters and
    tags are truncated or split at the same positions.
    """

    name: str
    column: str | tuple[str, ...]
    """The raw column, or several columns, whose values the kind combines."""
    kind: str
    width: int = 0
    vocabulary: str = "tokenizer"
    """Name of the tokenizer for texts and words. Several fields may share one."""
    append_end: bool = False
    """Whether each text ends with the token </s>."""
    plane: tuple[int, int] = (0, 0)
    """Height and width of an image's grid, for steps and pixels only."""

    def __post_init__(self) -> None:
        if isinstance(self.kind, type):  # stored by its name
            object.__setattr__(self, "kind", components.reference("field", self.kind))
        if isinstance(self.column, list):  # from JSON or YAML
            object.__setattr__(self, "column", tuple(self.column))

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns that the field is read from."""
        return self.column if isinstance(self.column, tuple) else (self.column,)

    @property
    def kind_class(self) -> type[Any]:
        """The class of the kind, a subclass of `pipeline.corpus.fields.base.FieldKind`."""
        return components.load("field", self.kind)

    def column_type(self, vocabulary: int) -> ColumnType:
        """Return the type of the field's stored values, given the number of its tokens or names."""
        stored: ColumnType = self.kind_class.column_type(self, vocabulary)
        return stored


def column_types(
    fields: Sequence[FieldSpec],
    vocabularies: Mapping[str, int],
    names: Mapping[str, Sequence[str]] = NO_NAMES,
) -> dict[str, ColumnType]:
    """Return the types of the columns by field name, given the size of each vocabulary and each
    field's names."""
    types: dict[str, ColumnType] = {}
    for field in fields:
        has_names = field.kind_class.has_names
        size = len(names.get(field.name, ())) if has_names else vocabularies.get(field.vocabulary)
        types[field.name] = field.column_type(size or 0)
    return types


def vocabularies(fields: tuple[FieldSpec, ...]) -> list[str]:
    """Return the names of the tokenizers that the fields use, without repeats."""
    return list(dict.fromkeys(field.vocabulary for field in fields if field.kind_class.tokenized))


def kind_code(fields: Iterable[FieldSpec]) -> dict[str, str]:
    """Return the SHA-256 of the code of the fields' kinds that are not built in, by kind."""
    kinds = dict.fromkeys(field.kind for field in fields)
    sources = {kind: components.source("field", kind) for kind in kinds}
    return {kind: source.sha256 for kind, source in sources.items() if source}
