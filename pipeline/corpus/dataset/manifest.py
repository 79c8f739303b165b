"""A prepared dataset: its manifest, and functions to open and check it.

A dataset is a folder, or a URL of a copy of one:
  dataset.json        the manifest; written last
  tokenizer.json      one per vocabulary, by its name; format of the tokenizers library
  SPLIT/index.npy     one record per block of the split (see `index.py`)
  SPLIT/00000.tar ... shards; each member is a block of rows, an Arrow IPC stream (see `blocks.py`)
SPLIT is train or validation.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline import components
from pipeline.corpus.field_spec import FieldSpec, kind_code
from pipeline.corpus.readers.base import reader_code
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.tokenization.byte_lengths import token_byte_lengths
from pipeline.errors import DatasetError
from pipeline.settings import may_change
from pipeline.storage.base import Store, is_url
from pipeline.storage.opening import open_store

FORMAT = 4
INDEX = "index.npy"
PREPARE = "headrace prepare (or python launch/prepare.py in a clone)"
"""How to make a dataset, for messages."""


@dataclass(frozen=True)
class Shard:
    name: str
    bytes: int


@dataclass(frozen=True)
class Split:
    """A split of the dataset. `tokens` and `max_length` count tokens of encoded rows."""

    rows: int
    tokens: int
    max_length: int
    salt: int  # start value of the checksums in the index
    index_sha256: str
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class TokenizerFacts:
    sha256: str
    vocab_size: int


@dataclass(frozen=True)
class NumberStats:
    """Statistics of a field of numbers in the training split."""

    mean: float
    std: float


@dataclass(frozen=True)
class InputFacts:
    """A raw input file. `path` is as in the settings, or as matched by a glob there.

    `digest` is that of a local file's content; it is empty in datasets of earlier versions.
    """

    path: str
    bytes: int
    digest: str = ""


@dataclass(frozen=True)
class Manifest:
    """The content of dataset.json, and access to the dataset's files."""

    location: str
    format: int
    settings: dict[str, Any]  # corpus settings that affect the content
    fields: tuple[FieldSpec, ...]
    names: dict[str, tuple[str, ...]]  # label names by field
    counts: dict[str, tuple[int, ...]]  # usable rows of each label name, by field
    tokenizers: dict[str, TokenizerFacts]  # by vocabulary
    inputs: tuple[InputFacts, ...]
    splits: dict[str, Split]
    report: dict[str, int]  # numbers of rows: read, skipped (by reason), truncated and split
    numbers: dict[str, NumberStats] = field(default_factory=dict)  # by field
    code: dict[str, str] = field(default_factory=dict)  # SHA-256 of a user's reader and field kinds

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = TypeAdapter(Manifest).dump_python(self, mode="json")
        del values["location"]
        return values

    def to_text(self) -> str:
        """Return the content of dataset.json."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the dataset's content, in hexadecimal.

        Datasets with the same content have the same fingerprint, wherever and from whatever files
        they were prepared. It keys the permutations of the training plan, so it must not depend on
        the format number or on any key in dataset.json. Without splits (unprepared rows), the names
        and sizes of the input files are the content.
        """
        tokenizers = [self.tokenizers[name].sha256 for name in sorted(self.tokenizers)]
        splits = [
            [split.rows, split.tokens, split.max_length, split.index_sha256]
            for split in map(self.splits.get, ("train", "validation"))
            if split is not None
        ]
        inputs = [] if splits else [[file.path, file.bytes] for file in self.inputs]
        label_names = [list(self.names[f.name]) for f in self.fields if f.name in self.names]
        content = json.dumps([tokenizers, label_names, splits, inputs], separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def vocabularies(self) -> dict[str, int]:
        """Vocabulary name -> number of tokens."""
        return {name: tokenizer.vocab_size for name, tokenizer in self.tokenizers.items()}

    def decode(self, vocabulary: str, ids: Sequence[int]) -> str:
        """Return the text of token ids. Raises ModuleNotFoundError if `tokenizers` is missing."""
        if vocabulary not in self._decoders:
            # Imported here because training does not need the tokenizers library.
            from pipeline.corpus.tokenization.text_encoder import TextDecoder

            self._decoders[vocabulary] = TextDecoder(self.store.read_file(f"{vocabulary}.json"))
        return self._decoders[vocabulary].decode(ids)

    def token_byte_lengths(self, vocabulary: str) -> list[float]:
        """Return the number of text bytes that each token represents, by id; NaN where unknown."""
        content = json.loads(self.store.read_file(f"{vocabulary}.json"))
        return token_byte_lengths(content, self.vocabularies[vocabulary])

    @cached_property
    def _decoders(self) -> dict[str, Any]:
        return {}

    @property
    def segments(self) -> bool:
        """Whether long texts were split, so that rows may be segments of documents."""
        return self.settings.get("overflow") == "split"

    @cached_property
    def store(self) -> Store:
        """Access to the dataset's files, local or remote."""
        return open_store(self.location)

    @property
    def path(self) -> Path:
        """The folder of a local dataset; not defined for a URL."""
        assert not is_url(self.location)
        return Path(self.location)

    def index(self, split: str) -> Path:
        return self.path / split / INDEX

    def shard(self, split: str, number: int) -> Path:
        return self.path / split / self.splits[split].shards[number].name


def open_dataset(location: str | Path, *, whole: bool = True) -> Manifest:
    """Open and check a dataset and return its manifest.

    Checks the hashes of the tokenizers and, unless `whole` is false or the dataset is a URL, that
    all shards exist and have the right size. Index records and blocks have checksums, which are
    verified when they are read. Raises DatasetError if the dataset is missing or damaged.
    """
    manifest = read_manifest(location)
    for name, tokenizer in manifest.tokenizers.items():
        if hashlib.sha256(manifest.store.read_file(f"{name}.json")).hexdigest() != tokenizer.sha256:
            raise DatasetError(
                f"{location}/{name}.json: is not the file that the dataset was prepared with (its "
                "SHA-256 differs); copy it again, or prepare again"
            )
    if whole and not is_url(location):
        _check_sizes(manifest)
    return manifest


def _check_sizes(manifest: Manifest) -> None:
    """Raises DatasetError if a shard of a local dataset is missing or has another size."""
    for name, split in manifest.splits.items():
        for number, shard in enumerate(split.shards):
            path = manifest.shard(name, number)
            size = path.stat().st_size if path.is_file() else None
            if size is None:
                raise DatasetError(
                    f"{path}: this shard is missing; copy it again, or prepare again"
                )
            if size != shard.bytes:
                raise DatasetError(
                    f"{path}: has {size:,} bytes, not {shard.bytes:,}; copy it again, or delete "
                    f"{manifest.path} and prepare again"
                )


def relevant(settings: CorpusSettings) -> dict[str, Any]:
    """Return the settings that affect the content of a dataset."""
    values = settings.model_dump(mode="json")
    fields = type(settings).model_fields
    return {k: v for k, v in values.items() if not may_change(fields[k].json_schema_extra)}


def check_settings(manifest: Manifest, settings: CorpusSettings) -> None:
    """Raises DatasetError if the dataset was prepared with other settings or code.

    There is one line per changed key. A key that was added in a later version than the dataset's
    counts as its default. Keys of other tasks and keys that may change are ignored: older datasets
    may have them.
    """
    now, fields = relevant(settings), type(settings).model_fields
    defaults = {key: fields[key].get_default() for key in now}
    then = defaults | manifest.settings
    remedy = f"set corpus.shards to another folder, or delete {manifest.location} and prepare again"
    changed = [
        f"corpus.{key}={now.get(key)!r}: {manifest.location} was made with "
        f"{then.get(key)!r}; {remedy}"
        for key in sorted(now.keys() | then.keys())
        if now.get(key) != then.get(key)
        and (key in now or not (key in fields or components.owners(CorpusSettings, key)))
    ]
    changed += [
        f"corpus.format={name}: this code has changed since {manifest.location} was made; {remedy}"
        for name, sha256 in reader_code(settings.format).items()
        if manifest.code.get(name, sha256) != sha256
    ]
    if changed:
        raise DatasetError(changed)


def check_fields(manifest: Manifest, fields: Sequence[FieldSpec]) -> None:
    """Raises DatasetError if the dataset was prepared for other fields than a task's."""
    if manifest.fields != tuple(fields):
        ours, theirs = (
            ", ".join(f"{f.name} ({f.kind} of column {f.column})" for f in specs)
            for specs in (fields, manifest.fields)
        )
        raise DatasetError(
            f"{manifest.location}: was made for a task with the fields {theirs}, not {ours}; set "
            f"corpus.shards to another folder, or delete {manifest.location} and prepare again"
        )
    changed = [
        f"{kind}: the code of this field kind has changed since {manifest.location} was made; set "
        f"corpus.shards to another folder, or delete {manifest.location} and prepare again"
        for kind, sha256 in kind_code(fields).items()
        if manifest.code.get(kind, sha256) != sha256
    ]
    if changed:
        raise DatasetError(changed)


def read_manifest(location: str | Path) -> Manifest:
    """Read dataset.json only. Raises DatasetError if it is missing or damaged."""
    path = f"{location}/dataset.json"
    if not is_url(location) and not Path(location).is_dir():
        raise DatasetError(f"{location}: there is no such dataset; make it with {PREPARE}")
    try:
        data = open_store(location).read_file("dataset.json")
    except DatasetError as error:
        raise DatasetError(
            f"{error}; without it, {location} is not a complete dataset; make it with {PREPARE}, "
            "or copy it again with its dataset.json"
        ) from None
    try:
        values = json.loads(data)
        if values["format"] != FORMAT:
            raise DatasetError(
                f"{path}: has format {values['format']!r}, but this version reads {FORMAT}; "
                f"use the version that wrote it, or prepare again, with another corpus.shards"
            )
        return TypeAdapter(Manifest).validate_python({**values, "location": str(location)})
    except (ValueError, TypeError, KeyError, ValidationError) as error:
        raise DatasetError(
            f"{path}: is damaged ({type(error).__name__}); delete {location} and prepare again"
        ) from None
