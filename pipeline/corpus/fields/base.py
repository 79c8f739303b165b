"""Base class of all field kinds: check raw values and encode them for the shards."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from numpy.typing import NDArray

from pipeline.components import Component
from pipeline.corpus.column_type import ColumnType
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason

if TYPE_CHECKING:
    # Not imported at run time: training reads shards without the tokenizers library.
    from pipeline.corpus.tokenization.text_encoder import TextEncoder

Cell = int | float | NDArray[Any]
"""Encoded value of one field in one row: a number or an array."""


class Cells(NamedTuple):
    """One field's encoded value in one example: a cell for each row the example is split into."""

    rows: list[Cell]  # empty if the text is dropped or has no token
    long: bool = False  # whether the value has more tokens than allowed
    too_long: SkipReason = SkipReason.TOO_LONG  # reason to skip it if it is dropped for its length

    @property
    def skip(self) -> SkipReason | None:
        """Reason why there are no rows, or None if there are rows."""
        if self.rows:
            return None
        return self.too_long if self.long else SkipReason.NO_TOKENS


@dataclass(frozen=True)
class EncodingContext:
    """Name indices and tokenizer with which a field encodes its values."""

    index: Mapping[str, int]  # label name -> index
    text_encoder: "TextEncoder | None" = None

    @property
    def encoder(self) -> "TextEncoder":
        """The text encoder, for fields that have one."""
        assert self.text_encoder is not None, "a field without a vocabulary"
        return self.text_encoder


class FieldKind(Component, ABC):
    """Checks and encodes the values of one field.

    `check` turns a raw value into a checked value, which all other methods take.
    """

    Settings: ClassVar[type[CorpusSettings]] = CorpusSettings
    """Keys of the section `corpus` that a config has if its task has such a field."""
    settings: Any
    """The section `corpus`."""
    replaced_methods: ClassVar[Mapping[str, str]] = {
        "arrow_type": "column_type, which returns a ColumnType"
    }
    by_word: ClassVar[bool] = False
    """Whether a value has one item per word of the row."""
    tokenized: ClassVar[bool] = False
    """Whether a tokenizer encodes the values; `Settings` is then a `TokenizerSettings`."""
    has_names: ClassVar[bool] = False
    """Whether the stored values are indices of names; `Settings` is then a `LabelSettings`."""
    is_number: ClassVar[bool] = False
    """Whether each value is one number, whose mean and deviation are computed in preparation."""
    has_scheme: ClassVar[bool] = False
    """Whether the values are tags, whose scheme is determined from the whole corpus (see
    `tag_schemes`)."""
    has_one_name: ClassVar[bool] = False
    """Whether each value is one label name, so that rows can be grouped by it."""
    is_input: ClassVar[bool] = True
    """Whether the model reads the values, as opposed to predicting them."""
    is_target: ClassVar[bool] = False
    """Whether the values are target texts, which the model learns to generate."""
    is_image: ClassVar[bool] = False
    """Whether a value comes from an image file or a file of image features."""
    combines: ClassVar[bool] = False
    """Whether the field may be read from several columns, whose values `combine` combines."""

    def __init__(self, field: FieldSpec, settings: CorpusSettings) -> None:
        self.field, self.settings = field, settings

    @staticmethod
    @abstractmethod
    def column_type(field: FieldSpec, vocabulary: int) -> ColumnType:
        """Return the type of a stored value, given the number of the field's tokens or names."""

    def combine(self, values: Mapping[str, Any]) -> Any:
        """Combine the values of several columns into one raw value."""
        raise NotImplementedError

    @abstractmethod
    def check(self, value: Any) -> Any:
        """Return the checked value, or a SkipReason if the raw value is unusable."""

    @abstractmethod
    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        """Return the cells of each checked value."""

    def data(self, value: Any) -> bytes:
        """Return bytes that identify the value: different values have different bytes."""
        return str(value).encode()

    def texts(self, value: Any) -> Iterable[str]:
        """Return the texts of a value to train the tokenizer on."""
        return ()

    def names(self, value: Any) -> Sequence[str]:
        """Return the label or tag names of a value, each of which needs an index."""
        return ()


def as_text(value: Any) -> str:
    """Return a raw value as text, the same for all file formats; "" if missing.

    Surrounding whitespace is removed.
    """
    return (value if isinstance(value, str) else _to_text(value)).strip()


def scalar_text(value: Any) -> str:
    """Return a string, bytes, number or other single value as text; "" if missing or a list."""
    if isinstance(value, str):
        return value
    return "" if isinstance(value, (list, tuple, dict)) else _to_text(value)


def _to_text(value: Any) -> str:
    """Convert a raw value. Bytes that are not UTF-8 become lone surrogates (`string_flaw`)."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if value is None or value != value:  # NaN differs from itself
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def string_flaw(strings: Sequence[str]) -> SkipReason | None:
    """Return NUL or NOT_UTF8 if one of the strings has this flaw, else None."""
    joined = "".join(strings)
    if joined.isascii() and "\0" not in joined:
        return None
    for string in strings:
        if "\0" in string:
            return SkipReason.NUL
        try:
            string.encode()
        except UnicodeEncodeError:
            return SkipReason.NOT_UTF8
    return None
