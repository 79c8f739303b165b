"""The work folder of preparation: its files, and the results that the stages leave there."""

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

Result = TypeVar("Result")

TRAIN, VALIDATION = SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Job:
    """The settings of a preparation and the paths of its work folder; every work item has it."""

    work: Path
    settings: CorpusSettings
    fields: tuple[FieldSpec, ...]

    @cached_property
    def checker(self) -> RowChecker:
        return RowChecker.of(self.settings, self.fields)

    @property
    def label(self) -> FieldSpec | None:
        """The field with one label for each row, by which duplicates can contradict each other."""
        return next((field for field in self.fields if field.kind == "label"), None)

    @property
    def has_target(self) -> bool:
        """Whether rows have a target text."""
        return any(field.is_target for field in self.fields)

    @property
    def splits_texts(self) -> bool:
        """Whether long texts are split into several rows."""
        return self.settings.overflow == "split"

    @property
    def out(self) -> Path:
        """The unfinished dataset."""
        return self.work / "out"

    def tokenizer(self, vocabulary: str) -> Path:
        return self.out / f"{vocabulary}.json"

    @property
    def split_codes(self) -> Path:
        """uint8 for each example of the corpus: the code of its split, or DROPPED."""
        return self.work / "split_codes"

    @property
    def label_ids(self) -> Path:
        """int16 for each example of the corpus: the index of its label's name."""
        return self.work / "label_ids"

    def scanned(self, file: int, kind: str) -> Path:
        """Return the path of a result of scanning an input file.

        The kinds are `json`, the `Scanned`; `hashes`, a uint64 for each example, equal for equal
        texts; `target_hashes`, the same for text and target, if there is a target; `codes`, a
        uint16 for each example, its label's position in `Scanned.labels`; `NAME.sample`, a sample
        of texts for a vocabulary. Other kinds are suffixes of materialized content.
        """
        return self.work / "scan" / f"{file:06d}.{kind}"

    def part(self, chunk: int, kind: str) -> Path:
        """Return the path of a chunk's `json`, the `Part`, or of its rows, `SPLIT.arrow`."""
        return self.work / "parts" / f"{chunk:08d}.{kind}"

    def shard(self, split: str, number: int) -> Path:
        return self.out / split / f"{number:05d}.tar"

    def packed(self, split: str, number: int, kind: str) -> Path:
        """Return the path of a shard's `json`, the `Shard`, or of its blocks' `index` records."""
        return self.work / "packed" / f"{split}-{number:05d}.{kind}"


@dataclass(frozen=True)
class Chunk:
    """Rows of a file that one work item encodes, between two marks of the file's reader."""

    file: int
    start: int
    stop: int
    bytes: int
    row: int
    """Number of the first row in the file, from 1."""
    example: int
    """Number of the first example in the file, from 0."""
    examples: int


@dataclass
class Scanned:
    """Result of scanning an input file."""

    file: InputFile
    path: Path
    """The file that its chunks are read from: its own, or its materialized content."""
    rows: int = 0
    examples: int = 0
    chunks: list[Chunk] = field(default_factory=list)
    skips: dict[SkipReason, Tally] = field(default_factory=dict)
    labels: dict[str, dict[str, Tally]] = field(default_factory=dict)
    """Labels or tags and their tallies, by field."""
    filtered: dict[str, list[str]] = field(default_factory=dict)
    """Examples of filtered values, by column."""


@dataclass
class Totals:
    """Number and size of one split's rows, in a part or in all parts."""

    rows: int = 0
    tokens: int = 0
    max_length: int = 0
    bytes: int = 0
    """Approximate size in the shards; does not depend on how rows are divided into parts."""

    def add(self, other: "Totals") -> None:
        self.rows += other.rows
        self.tokens += other.tokens
        self.max_length = max(self.max_length, other.max_length)
        self.bytes += other.bytes


@dataclass
class Part:
    """Result of encoding a chunk."""

    chunk: int
    file: str
    splits: dict[str, Totals]
    skips: dict[SkipReason, Tally] = field(default_factory=dict)
    truncated: int = 0
    """Truncated texts."""
    split: int = 0
    """Texts that were split."""
    segments: int = 0
    """Rows that they were split into."""


def load_or_compute(path: Path, kind: type[Result], compute: Callable[[], Result]) -> Result:
    """Return the result that an earlier run left at `path` as JSON, or compute and store it."""
    adapter = TypeAdapter(kind)
    if path.exists():
        return adapter.validate_json(path.read_bytes())
    result = compute()
    with atomic_file(path) as file:
        file.write(adapter.dump_json(result))
    return result
