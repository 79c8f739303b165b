"""A prepared dataset as training sees it: its manifest, opened and checked.

A dataset is a folder:
  dataset.json        what it is made of; written last of all
  tokenizer.json      of the tokenizers library
  SPLIT/index.arrow   a row for each block of the split (see `index.py`)
  SPLIT/00000.tar ... members of one Arrow IPC stream each: a block of rows (see `blocks.py`)
SPLIT is train or validation.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.corpus.fields import Field
from pipeline.corpus.inputs import is_remote, locate
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import DatasetError, InputError
from pipeline.settings import may_change

FORMAT = 1
SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>")  # their ids are 0, 1, 2, 3
PAD = 0


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

    path: Path  # the folder
    format: int
    settings: dict[str, Any]  # those that bear on the dataset
    fields: tuple[Field, ...]
    label_names: tuple[str, ...]
    tokenizer: TokenizerFacts
    inputs: tuple[InputFacts, ...]
    splits: dict[str, Split]
    report: dict[str, int]  # how many rows were read, skipped (by reason) and cut

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = TypeAdapter(Manifest).dump_python(self, mode="json")
        del values["path"]
        return values

    @cached_property
    def fingerprint(self) -> str:
        """Names the content: equal for equal datasets, whatever and wherever they were made of."""
        values = self.to_json()
        for made_by in ("settings", "inputs", "report"):
            del values[made_by]
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def index(self, split: str) -> Path:
        return self.path / split / "index.arrow"

    def shard(self, split: str, number: int) -> Path:
        return self.path / split / self.splits[split].shards[number].name


def open_dataset(folder: str | Path) -> Manifest:
    """The manifest of a whole dataset. Raises DatasetError if it is not there or not whole.

    Checks the tokeniser, the indices and the sizes of the shards; the blocks have checksums.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    _check_hash(folder / "tokenizer.json", manifest.tokenizer.sha256)
    for name, split in manifest.splits.items():
        _check_hash(manifest.index(name), split.index_sha256)
        for shard in split.shards:
            path = folder / name / shard.name
            size = path.stat().st_size if path.is_file() else None
            if size is None:
                raise DatasetError(f"{path}: this shard is missing; copy it again, or prepare anew")
            if size != shard.bytes:
                raise DatasetError(
                    f"{path}: has {size:,} bytes, not {shard.bytes:,}; copy it again, or delete "
                    f"{folder} and prepare anew"
                )
    return manifest


def relevant(settings: CorpusSettings) -> dict[str, Any]:
    """The settings that bear on what a dataset holds."""
    values = settings.model_dump(mode="json")
    fields = type(settings).model_fields
    return {k: v for k, v in values.items() if not may_change(fields[k].json_schema_extra)}


def check_settings(manifest: Manifest, settings: CorpusSettings) -> None:
    """Raises DatasetError, a line a key, if the dataset was made by other settings or inputs."""
    now = relevant(settings)
    remedy = f"set another corpus.shards, or delete {manifest.path} and prepare anew"
    changed = [
        f"corpus.{key}={now.get(key)!r}: {manifest.path} was made with "
        f"{manifest.settings.get(key)!r}; {remedy}"
        for key in sorted(now.keys() | manifest.settings.keys())
        if now.get(key) != manifest.settings.get(key)
    ]
    if changed:
        raise DatasetError(changed)
    made_of = {entry.path: entry.bytes for entry in manifest.inputs}
    for name, path in _present(settings).items():
        size = path.stat().st_size
        if name not in made_of:
            raise DatasetError(
                f"{path}: is input now but was none when {manifest.path} was made; {remedy}"
            )
        if size != made_of[name]:
            raise DatasetError(
                f"{path}: has {size:,} bytes but had {made_of[name]:,} when {manifest.path} was "
                f"made of it, so the shards are stale; {remedy}"
            )


def _present(settings: CorpusSettings) -> dict[str, Path]:
    """The input files that this machine has; training needs none of them, and no network."""
    held_out = [settings.validation] if isinstance(settings.validation, str) else []
    found: dict[str, Path] = {}
    for text in [*held_out, *settings.input]:
        if is_remote(text):
            continue
        try:
            located = locate([text], settings.root)
        except InputError:
            continue
        found |= {name: path for name, path in located.items() if path}
    return found


def read_manifest(folder: Path) -> Manifest:
    path = folder / "dataset.json"
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such dataset; make it with launch/prepare.py")
    if not path.is_file():
        raise DatasetError(
            f"{folder}: holds no dataset.json, so it is no whole dataset; make it with "
            "launch/prepare.py, or copy it again with its dataset.json"
        )
    try:
        values = json.loads(path.read_bytes())
        if values["format"] != FORMAT:
            raise DatasetError(
                f"{path}: has format {values['format']!r}, but this version reads {FORMAT}; "
                f"delete {folder} and prepare anew"
            )
        return TypeAdapter(Manifest).validate_python({**values, "path": folder})
    except (OSError, ValueError, TypeError, KeyError, ValidationError) as error:
        raise DatasetError(
            f"{path}: is damaged ({type(error).__name__}); delete {folder} and prepare anew"
        ) from None


def _check_hash(path: Path, expected: str) -> None:
    if not path.is_file():
        raise DatasetError(f"{path}: is missing; copy it again, or prepare anew")
    if file_sha256(path) != expected:
        raise DatasetError(
            f"{path}: is not the file that the dataset was made with (its SHA-256 differs); "
            "copy it again, or prepare anew"
        )


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
