"""What every kind of field shares: from raw values to what the shards hold of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason

if TYPE_CHECKING:
    from pipeline.corpus.tokenization.tokenizer import (
        TextEncoder,  # training reads shards without the library
    )

Cell = int | NDArray[Any]
"""One value of one row: a number, or an array."""


class Cells(NamedTuple):
    """What became of a value: a cell for each row that the text is split into."""

    rows: list[Cell]  # none of a text that is dropped or has no token
    long: bool = False  # more tokens than it may have
    too_long: SkipReason = SkipReason.TOO_LONG

    @property
    def skip(self) -> SkipReason | None:
        """Why there is no row."""
        if self.rows:
            return None
        return self.too_long if self.long else SkipReason.NO_TOKENS


@dataclass(frozen=True)
class EncodingContext:
    """What a column encodes by."""

    index: Mapping[str, int]  # of names
    given: "TextEncoder | None" = None

    @property
    def encoder(self) -> "TextEncoder":
        assert self.given is not None, "a field without a vocabulary"
        return self.given


class FieldKind(ABC):
    """What becomes of one field."""

    by_word = False
    """Whether a value has an item for each word of the row."""

    def __init__(self, field: FieldSpec, settings: CorpusSettings) -> None:
        self.field, self.settings = field, settings

    @abstractmethod
    def check(self, value: Any) -> Any:
        """The raw value as the others take it, or a SkipReason."""

    @abstractmethod
    def encode(self, values: Sequence[Any], tools: EncodingContext) -> list[Cells]:
        """The cells of some values."""

    def data(self, value: Any) -> bytes:
        """Bytes that are equal for equal values only."""
        return str(value).encode()

    def texts(self, value: Any) -> Iterable[str]:
        """What the tokenizer is trained on."""
        return ()

    def names(self, value: Any) -> Sequence[str]:
        """Names that are to be known: of a label, of tags."""
        return ()


def as_text(value: Any) -> str:
    """A raw value as CSV would spell it, so that all formats agree; "" if there is none."""
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value:  # NaN differs from itself
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def string_flaw(strings: Iterable[str]) -> SkipReason | None:
    """What no string may hold."""
    for string in strings:
        if "\0" in string:
            return SkipReason.NUL
        try:
            string.encode()
        except UnicodeEncodeError:
            return SkipReason.NOT_UTF8
    return None
