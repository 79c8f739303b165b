"""The work folder of preparation: its files, and the results that the stages leave there.

A row of an input file is an example if it is not skipped. The rows of the dataset are encoded
examples, or segments of them if long texts are split.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.example import RowChecker
from pipeline.corpus.fields.split_units import TimeKind, stratifies
from pipeline.corpus.fields.tag_schemes import TagCounts
from pipeline.corpus.readers.inputs import InputFile
from pipeline.corpus.settings import CorpusSettings, TextSettings, TokenizerSettings
from pipeline.corpus.skip_reason import SkipReason, Tally
from pipeline.corpus.worker_pool import MB
from pipeline.storage.atomic import atomic_file

Result = TypeVar("Result")

TRAIN, VALIDATION, TEST = "train", "validation", "test"


def splits_of(settings: CorpusSettings) -> tuple[str, ...]:
    """Return the splits of a dataset; there is a test split only if `corpus.test` is set."""
    return (TRAIN, VALIDATION) if settings.test is None else (TRAIN, VALIDATION, TEST)


@dataclass(frozen=True)
class PreparationContext:
    """The settings of a preparation and the paths in its work folder.

    Every work item receives this object.
    """

    work: Path
    settings: CorpusSettings
    fields: tuple[FieldSpec, ...]
    corpus: str = "corpus"
    """Name of the folder for the results of all files together."""

    @cached_property
    def checker(self) -> RowChecker:
        return RowChecker.of(self.settings, self.fields, splits=True)

    @property
    def label(self) -> FieldSpec | None:
        """The field with one label per row, if any; duplicates conflict if their labels differ."""
        return next((field for field in self.fields if field.kind_class.has_one_name), None)

    @property
    def stratifies(self) -> bool:
        """Whether the fractions are held out of each label separately."""
        return stratifies(vars(self.settings), self.fields)

    @property
    def has_further_fields(self) -> bool:
        """Whether rows have a target text or a second input."""
        return bool(self.checker.further)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of the dataset."""
        return splits_of(self.settings)

    @cached_property
    def splits_units(self) -> bool:
        """Whether fractions are held out by units, which needs the whole corpus; otherwise the hash
        of an example determines its split."""
        has_fractions = bool(self.settings.held_out_fractions)
        return has_fractions and (self.stratifies or self.checker.units is not None)

    @cached_property
    def hash_bounds(self) -> tuple[int, int]:
        """The bounds (a, b) of hashes: examples with hashes below a are in validation, and with
        hashes of b or more in test, unless their file or unit determines the split."""
        fractions = {} if self.splits_units else self.settings.held_out_fractions
        low, high = (int(fractions.get(split, 0) * 2**64) for split in (VALIDATION, TEST))
        return low, 2**64 - high

    @property
    def sample_bytes(self) -> int:
        """Bytes of texts to sample: `corpus.tokenizer_sample_mb`, and more if units are held out,
        because the texts of these rows are removed from the sample later."""
        settings = self.settings
        if not isinstance(settings, TokenizerSettings):
            return 0
        fractions = settings.held_out_fractions.values() if self.splits_units else ()
        return int(settings.tokenizer_sample_mb * MB / (1 - sum(fractions)))

    @property
    def splits_texts(self) -> bool:
        """Whether long texts are split into several rows."""
        return isinstance(self.settings, TextSettings) and self.settings.overflow == "split"

    @property
    def out(self) -> Path:
        """The unfinished dataset."""
        return self.work / self.corpus / "out"

    def tokenizer_path(self, vocabulary: str) -> Path:
        """Return the path of a vocabulary's tokenizer in the unfinished dataset."""
        return self.out / f"{vocabulary}.json"

    @property
    def split_codes_path(self) -> Path:
        """Path of a file with one uint8 per example of the corpus.

        It is the code of the example's split, or `dedup_and_split.DROPPED`.
        """
        return self.work / self.corpus / "split_codes"

    @property
    def label_ids_path(self) -> Path:
        """Path of a file with one int32 per example: the index of its label's name."""
        return self.work / self.corpus / "label_ids"

    def scan_path(self, group: str, kind: str) -> Path:
        """Return the path of a result of scanning the files of the group with this key.

        The kinds are:
        - `json`: the `Scanned`.
        - `hashes`: one uint64 per example, equal for equal texts.
        - `whole_hashes`: one uint64 per example, equal for equal inputs and targets. The file is
          empty if there is only one of them.
        - `units`: one uint64 per example, equal for examples that stay in one split (see
          `split_units`). The file is empty if equal texts do.
        - `codes`: one uint32 per example, the position of its label among the keys of
          `Scanned.labels[FIELD]`.
        - `tag_schemes`: one uint8 per example and field of tags, the bits of the schemes in which
          its tags are valid.
        - `NAME.sample`: a sample of texts for the vocabulary NAME.
        - `NUMBER.raw`, `NUMBER.download`: the copies of a file that `materialize` writes.
        """
        return self.work / "scan" / f"{group}.{kind}"

    def part_path(self, chunk: int, kind: str) -> Path:
        """Return the path of a result of encoding a chunk.

        The kinds are:
        - `json`: the `Part`.
        - `SPLIT.arrow`: the chunk's rows of that split.
        """
        return self.work / self.corpus / "parts" / f"{chunk:08d}.{kind}"

    def shard_path(self, split: str, number: int) -> Path:
        return self.out / split / f"{number:05d}.tar"

    def packed_path(self, split: str, number: int, kind: str) -> Path:
        """Return the path of a result of writing a shard.

        The kinds are:
        - `json`: the `Shard`.
        - `index`: the index records of the shard's blocks.
        """
        return self.work / self.corpus / "packed" / f"{split}-{number:05d}.{kind}"


@dataclass(frozen=True)
class FileGroup:
    """Input files that one work item scans: one file, or many small ones."""

    key: str
    """Digest of the files' names, sizes and versions. An unchanged group is not scanned again."""
    files: tuple[InputFile, ...]
    """Files of one split, in the order of the input."""

    @property
    def name(self) -> str:
        """Name of the group in messages."""
        more = f" and {len(self.files) - 1:,} more" if len(self.files) > 1 else ""
        return self.files[0].name + more

    @property
    def split(self) -> str:
        """The split to which all rows belong, or an empty string."""
        return self.files[0].split

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class Span:
    """Rows of a file between two marks of the file's reader."""

    file: str
    path: Path
    """Where the rows are read from: the input file itself, or the copy that `materialize` wrote."""
    start: int
    stop: int
    row: int
    """Number of the first row in the file, from 1."""
    line: int
    """Number of the first line in the file, from 1; 0 if the format has no lines."""


@dataclass(frozen=True)
class Chunk:
    """Rows of a group of files that one work item encodes."""

    spans: list[Span]
    bytes: int
    example: int
    """Position in the group of the chunk's first example, counted from 0."""
    examples: int


@dataclass
class Scanned:
    """Result of scanning a group of files."""

    group: FileGroup
    rows: int = 0
    examples: int = 0
    chunks: list[Chunk] = field(default_factory=list)
    skips: dict[SkipReason, Tally] = field(default_factory=dict)
    labels: dict[str, dict[str, Tally]] = field(default_factory=dict)
    """For each field, its labels or tags and their tallies."""
    tags: dict[str, TagCounts] = field(default_factory=dict)
    """For each tag field, the counts of its tags in each scheme."""
    long_rows: Tally | None = None
    """Rows with more than `scan.MAX_ROW_WORDS` words, if there are any."""
    max_words: int = 0
    """Words of the longest row; 0 if the first field has no words."""
    filtered: dict[str, list[str]] = field(default_factory=dict)
    """A few of the values that filters rejected, by column."""
    empty_files: dict[str, str] = field(default_factory=dict)
    """The error for each file without rows, by name."""
    time_kinds: dict[TimeKind, str] = field(default_factory=dict)
    """The place of the first row with each kind of time."""


@dataclass
class Totals:
    """Number and size of one split's rows in the dataset, from one part or from all parts."""

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
    splits: dict[str, Totals]
    skips: dict[SkipReason, Tally] = field(default_factory=dict)
    truncated: int = 0
    """Number of texts that were truncated."""
    split: int = 0
    """Number of texts that were split into segments."""
    segments: int = 0
    """Number of rows that those texts were split into."""


def load_or_compute(path: Path, result_type: type[Result], compute: Callable[[], Result]) -> Result:
    """Return the result that an earlier run left at `path` as JSON, or compute and store it."""
    adapter: TypeAdapter[Result] = _adapter(cast(Any, result_type))
    if path.exists():
        return adapter.validate_json(path.read_bytes())
    result = compute()
    with atomic_file(path) as file:
        file.write(adapter.dump_json(result))
    return result


@cache
def _adapter(result_type: Hashable) -> TypeAdapter[Any]:
    """Return the adapter of a type; it is cached, because building it takes milliseconds."""
    return TypeAdapter(cast(Any, result_type))
