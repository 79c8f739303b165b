"""What every kind of field shares: from raw values to what the shards hold of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from pipeline.corpus.fields import Field
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skips import Skip

if TYPE_CHECKING:
    from pipeline.corpus.tokenizer import Encoder  # training reads shards without the library

Cell = int | NDArray[Any]
"""One value of one row: a number, or an array."""


class Cells(NamedTuple):
    """What became of a value: a cell for each row that the text is split into."""

    rows: list[Cell]  # none of a text that is dropped or has no token
    long: bool = False  # more tokens than it may have
    too_long: Skip = Skip.TOO_LONG

    @property
    def skip(self) -> Skip | None:
        """Why there is no row."""
        if self.rows:
            return None
        return self.too_long if self.long else Skip.NO_TOKENS


@dataclass(frozen=True)
class Tools:
    """What a column encodes by."""

    index: Mapping[str, int]  # of names
    given: "Encoder | None" = None

    @property
    def encoder(self) -> "Encoder":
        assert self.given is not None, "a field without a vocabulary"
        return self.given


class Column(ABC):
    """What becomes of one field."""

    by_word = False
    """Whether a value has an item for each word of the row."""

    def __init__(self, field: Field, settings: CorpusSettings) -> None:
        self.field, self.settings = field, settings

    @abstractmethod
    def check(self, value: Any) -> Any:
        """The raw value as the others take it, or a Skip."""

    @abstractmethod
    def encode(self, values: Sequence[Any], tools: Tools) -> list[Cells]:
        """The cells of some values."""

    def data(self, value: Any) -> bytes:
        """Bytes that are equal for equal values only."""
        return str(value).encode()

    def texts(self, value: Any) -> Iterable[str]:
        """What the tokeniser is trained on."""
        return ()

    def names(self, value: Any) -> Sequence[str]:
        """Names that are to be known: of a label, of tags."""
        return ()
