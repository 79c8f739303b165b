"""A prepared dataset as training sees it: its manifest, opened and checked.

A dataset is a folder, or a URL that holds a copy of one:
  dataset.json        what it is made of; written last of all
  tokenizer.json      of the tokenizers library; one for each vocabulary, by its name
  SPLIT/index.npy     a record for each block of the split (see `index.py`)
  SPLIT/00000.tar ... members of one Arrow IPC stream each: a block of rows (see `blocks.py`)
SPLIT is train or validation.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.readers.inputs import file_version, input_patterns, is_remote, locate
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.tokenization.byte_lengths import token_byte_lengths
from pipeline.errors import DatasetError, InputError
from pipeline.settings import may_change
from pipeline.storage.base import Store, is_url
from pipeline.storage.opening import open_store

FORMAT = 4
INDEX = "index.npy"


@dataclass(frozen=True)
class Shard:
    name: str
    bytes: int


@dataclass(frozen=True)
class Split:
    """`max_length` and `tokens` count tokens of rows as they lie in the shards."""

    rows: int
    tokens: int
    max_length: int
    salt: int  # of the index's checksums
    index_sha256: str
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class TokenizerFacts:
    sha256: str
    vocab_size: int


@dataclass(frozen=True)
class InputFacts:
    """A file of raw input; `path` is as the settings gave it or a glob there matched it."""

    path: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What dataset.json says."""

    location: str
    format: int
    settings: dict[str, Any]  # those that bear on the dataset
    fields: tuple[FieldSpec, ...]
    names: dict[str, tuple[str, ...]]  # of each field that holds indices of names
    counts: dict[str, tuple[int, ...]]  # of these names: in how many usable rows each stands
    tokenizers: dict[str, TokenizerFacts]  # by vocabulary
    inputs: tuple[InputFacts, ...]
    splits: dict[str, Split]
    report: dict[str, int]  # how many rows were read, skipped (by reason) and cut

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = TypeAdapter(Manifest).dump_python(self, mode="json")
        del values["location"]
        return values

    def to_text(self) -> str:
        """The content of dataset.json."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the dataset's content, in hexadecimal.

        Equal datasets have equal fingerprints, wherever and from whatever files they were made. The
        plan's permutations are keyed by it, so it must not depend on the format number or on any
        name in dataset.json. Without splits (unprepared shards) the input files are the content.
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
        """How many tokens each has."""
        return {name: tokenizer.vocab_size for name, tokenizer in self.tokenizers.items()}

    def decode(self, vocabulary: str, ids: Sequence[int]) -> str:
        """The text of some tokens. Raises ModuleNotFoundError where `tokenizers` is missing."""
        if vocabulary not in self._decoders:
            from pipeline.corpus.tokenization.tokenizer import (
                TextDecoder,  # training needs no such library
            )

            self._decoders[vocabulary] = TextDecoder(self.store.read_file(f"{vocabulary}.json"))
        return self._decoders[vocabulary].decode(ids)

    def token_byte_lengths(self, vocabulary: str) -> list[float]:
        """How many bytes of text each token of a vocabulary stands for, NaN where that cannot be
        told."""
        content = json.loads(self.store.read_file(f"{vocabulary}.json"))
        return token_byte_lengths(content, self.vocabularies[vocabulary])

    @cached_property
    def _decoders(self) -> dict[str, Any]:
        return {}

    @property
    def segments(self) -> bool:
        """Whether rows may be segments of longer documents."""
        return self.settings.get("overflow") == "split"

    @cached_property
    def store(self) -> Store:
        return open_store(self.location)

    @property
    def path(self) -> Path:
        """The folder of a local dataset."""
        assert not is_url(self.location)
        return Path(self.location)

    def index(self, split: str) -> Path:
        return self.path / split / INDEX

    def shard(self, split: str, number: int) -> Path:
        return self.path / split / self.splits[split].shards[number].name


def open_dataset(location: str | Path, *, whole: bool = True) -> Manifest:
    """The manifest of a dataset. Raises DatasetError if it is not there or not whole.

    Checks the tokenizers and, of a folder that is to be `whole`, the sizes of the shards;
    records of the index and blocks have checksums of their own.
    """
    manifest = read_manifest(location)
    for name, tokenizer in manifest.tokenizers.items():
        if hashlib.sha256(manifest.store.read_file(f"{name}.json")).hexdigest() != tokenizer.sha256:
            raise DatasetError(
                f"{location}/{name}.json: is not the file that the dataset was made with (its "
                "SHA-256 differs); copy it again, or prepare anew"
            )
    if whole and not is_url(location):
        _check_sizes(manifest)
    return manifest


def _check_sizes(manifest: Manifest) -> None:
    for name, split in manifest.splits.items():
        for number, shard in enumerate(split.shards):
            path = manifest.shard(name, number)
            size = path.stat().st_size if path.is_file() else None
            if size is None:
                raise DatasetError(f"{path}: this shard is missing; copy it again, or prepare anew")
            if size != shard.bytes:
                raise DatasetError(
                    f"{path}: has {size:,} bytes, not {shard.bytes:,}; copy it again, or delete "
                    f"{manifest.path} and prepare anew"
                )


def relevant(settings: CorpusSettings) -> dict[str, Any]:
    """The settings that bear on what a dataset holds."""
    values = settings.model_dump(mode="json")
    fields = type(settings).model_fields
    return {k: v for k, v in values.items() if not may_change(fields[k].json_schema_extra)}


def check_settings(manifest: Manifest, settings: CorpusSettings) -> None:
    """Raises DatasetError, a line a key, if the dataset was made by other settings or inputs. A key
    that is newer than the dataset had its default's effect."""
    now = relevant(settings)
    newer = {key: type(settings).model_fields[key].get_default() for key in now}
    then = newer | manifest.settings
    remedy = f"set another corpus.shards, or delete {manifest.location} and prepare anew"
    changed = [
        f"corpus.{key}={now.get(key)!r}: {manifest.location} was made with "
        f"{then.get(key)!r}; {remedy}"
        for key in sorted(now.keys() | then.keys())
        if now.get(key) != then.get(key)
    ]
    if changed:
        raise DatasetError(changed)
    made_of = {entry.path: entry.bytes for entry in manifest.inputs}
    for name, (path, size) in _present(settings).items():
        if name not in made_of:
            raise DatasetError(
                f"{path}: is input now but was none when {manifest.location} was made; {remedy}"
            )
        if size != made_of[name]:
            raise DatasetError(
                f"{path}: has {size:,} bytes but had {made_of[name]:,} when "
                f"{manifest.location} was made of it, so the shards are stale; {remedy}"
            )


def _present(settings: CorpusSettings) -> dict[str, tuple[Path, int]]:
    """Path and size of the input files that this machine has; training needs none of them, and no
    network."""
    held_out = settings.validation
    texts = input_patterns(settings.input)
    if not isinstance(held_out, float):
        texts += [held_out] if isinstance(held_out, str) else input_patterns(held_out)
    found: dict[str, tuple[Path, int]] = {}
    for text in texts:
        if is_remote(text):
            continue
        try:
            for source in locate([text], settings.root, images=settings.format == "images"):
                if source.path:
                    found[source.name] = source.path, file_version(source.name, source.path).bytes
        except InputError:
            continue
    return found


def read_manifest(location: str | Path) -> Manifest:
    """What dataset.json says; nothing else is looked at."""
    path = f"{location}/dataset.json"
    if not is_url(location) and not Path(location).is_dir():
        raise DatasetError(f"{location}: there is no such dataset; make it with launch/prepare.py")
    try:
        data = open_store(location).read_file("dataset.json")
    except DatasetError as error:
        raise DatasetError(
            f"{error}; without it {location} is no whole dataset: make it with launch/prepare.py, "
            "or copy it again with its dataset.json"
        ) from None
    try:
        values = json.loads(data)
        if values["format"] != FORMAT:
            raise DatasetError(
                f"{path}: has format {values['format']!r}, but this version reads {FORMAT}; "
                f"delete {location} and prepare anew"
            )
        return TypeAdapter(Manifest).validate_python({**values, "location": str(location)})
    except (ValueError, TypeError, KeyError, ValidationError) as error:
        raise DatasetError(
            f"{path}: is damaged ({type(error).__name__}); delete {location} and prepare anew"
        ) from None
