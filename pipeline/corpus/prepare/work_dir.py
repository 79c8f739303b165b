"""What the stages of preparing hand to each other, and where it lies in the work folder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.example import RowChecker
from pipeline.corpus.readers.inputs import InputFile
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason, Tally
from pipeline.storage.atomic import atomic_file

T = TypeVar("T")

TRAIN, VALIDATION = SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Job:
    """What every unit of work knows."""

    work: Path
    settings: CorpusSettings
    fields: tuple[FieldSpec, ...]

    @cached_property
    def checker(self) -> RowChecker:
        return RowChecker.of(self.settings, self.fields)

    @property
    def label(self) -> FieldSpec | None:
        """The field that holds one label a row, by which rows can be told to contradict."""
        return next((field for field in self.fields if field.kind == "label"), None)

    @property
    def writes(self) -> bool:
        """Whether something is to be written of a row's text."""
        return any(field.is_target for field in self.fields)

    @property
    def out(self) -> Path:
        """The dataset in the making."""
        return self.work / "out"

    def tokenizer(self, vocabulary: str) -> Path:
        return self.out / f"{vocabulary}.json"

    @property
    def choice(self) -> Path:
        """uint8 of every example of the corpus: which split takes it, if any."""
        return self.work / "choice"

    @property
    def label_ids(self) -> Path:
        """int16 of every example of the corpus: the index of its label's name."""
        return self.work / "label_ids"

    def scanned(self, file: int, what: str) -> Path:
        """What scanning left of a file: `json`; `hashes`, uint64 an example, equal for equal texts;
        `wholes`, the same of a text and what is to be written of it, if anything is; `codes`,
        uint16 an example, its label's place in `Scanned.labels`; a sample of texts for each
        vocabulary, `NAME.sample`."""
        return self.work / "scan" / f"{file:06d}.{what}"

    def part(self, piece: int, what: str) -> Path:
        """What encoding left of a piece: `json` and an Arrow file a split."""
        return self.work / "parts" / f"{piece:08d}.{what}"

    def shard(self, split: str, number: int) -> Path:
        return self.out / split / f"{number:05d}.tar"

    def packed(self, split: str, number: int, what: str) -> Path:
        """What packing left beside a shard: `json` and its blocks' rows of the `index`."""
        return self.work / "packed" / f"{split}-{number:05d}.{what}"


@dataclass(frozen=True)
class Piece:
    """Rows of a file that one unit of encoding takes, between two marks of its reader."""

    file: int
    start: int
    stop: int
    bytes: int
    row: int  # number of the first
    example: int  # number of the first, from 0, in the file
    examples: int


@dataclass
class Scanned:
    """What a file holds."""

    file: InputFile
    path: Path  # that its pieces are read from
    rows: int = 0
    examples: int = 0
    pieces: list[Piece] = field(default_factory=list)
    skips: dict[SkipReason, Tally] = field(default_factory=dict)
    labels: dict[str, dict[str, Tally]] = field(default_factory=dict)  # field -> name
    filtered: dict[str, list[str]] = field(default_factory=dict)  # column -> some of its values


@dataclass
class Totals:
    """Rows of one split, in a part or in all of them."""

    rows: int = 0
    tokens: int = 0
    max_length: int = 0
    bytes: int = 0  # about what they take in shards, the same however they are cut into parts

    def add(self, other: "Totals") -> None:
        self.rows += other.rows
        self.tokens += other.tokens
        self.max_length = max(self.max_length, other.max_length)
        self.bytes += other.bytes


@dataclass
class Part:
    """What encoding made of a piece."""

    piece: int
    name: str  # of its file
    splits: dict[str, Totals]
    skips: dict[SkipReason, Tally] = field(default_factory=dict)
    truncated: int = 0  # texts
    split: int = 0  # texts
    segments: int = 0  # rows that they were split into


def load_or_compute(path: Path, kind: type[T], make: Callable[[], T]) -> T:
    """The result that a unit left at `path` as JSON; made, and left there, if there is none."""
    adapter = TypeAdapter(kind)
    if path.exists():
        return adapter.validate_json(path.read_bytes())
    result = make()
    with atomic_file(path) as file:
        file.write(adapter.dump_json(result))
    return result
