"""Corpus settings: where the raw files are and how their rows are encoded into shards."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pipeline.settings import FilePath, Section, setting

Fraction = Annotated[float, Field(gt=0, lt=1)]
MAX_ROW_TOKENS = 65535
"""Upper limit of `max_tokens`: the index stores lengths in 16 bits."""
OneFile = Annotated[FilePath, Field(min_length=1)]
Positive = Annotated[int, Field(ge=1)]


class CorpusSettings(Section):
    """The `corpus` section of a config file, without the keys of a task's fields."""

    input: list[FilePath] | dict[str, list[FilePath]] = setting(
        ...,
        "input file or list of files: CSV, TSV, JSONL, fastText, WebDataset tars (each also .gz) "
        "or Parquet; globs and braces such as {000..123} are expanded; s3://, gs:// and http(s):// "
        "URLs, and "
        "package://NAME/PATH for a file of an installed Python package, are accepted; or parallel "
        "files, one per column, such as {source: a.en.gz, target: a.de.gz}: idx files, or text "
        "files with one value per line (each also .gz)",
    )
    root: FilePath = setting(
        "data/", "folder that relative input paths start from", may_change=True
    )
    shards: FilePath = setting(
        "",
        "folder of the prepared shards; empty: data/shards/NAME-DIGEST, where NAME is that of the "
        "config or, without one, of the input, and DIGEST that of the settings that shape the "
        "shards",
        may_change=True,
    )
    if_changed: Literal["refuse", "prepare", "keep"] = setting(
        "refuse",
        "what to do if a local input file has changed since the shards were made; refuse: stop; "
        "prepare: make the shards again; keep: use them, unchecked",
        may_change=True,
    )
    format: str = setting(
        "",
        "format of the input; empty: shown by the file names; conll, conllu: columns of words; "
        "fasttext: texts with labels among their words; captions: one image and caption per line, "
        "either NAME#NUMBER, a tab and the caption, or CSV; images: folders with one subfolder of "
        "images per label, read as the columns image and label",
        kind="reader",
    )
    columns: list[str] = setting([], "column names of CoNLL files, from left to right")
    filters: dict[str, str] = setting({}, "use only rows in which these columns have these values")
    validation: Fraction | OneFile | dict[str, list[FilePath]] = setting(
        0.1,
        "fraction of rows to hold out, or a validation file, or parallel validation files, one per "
        "column; identical texts never end up in both splits",
    )
    max_tokens: int = setting(400, "maximum number of tokens per row", ge=1, le=MAX_ROW_TOKENS)
    drop_duplicates: bool = setting(
        True, "keep only one of several rows with the same text and, if there is one, same target"
    )
    max_skipped_ratio: float = setting(
        0.05,
        "stop if a larger fraction of rows is unusable (no text, no label, not UTF-8)",
        ge=0,
        le=1,
    )
    rows_per_block: int = setting(
        512, "rows per Arrow record batch, the unit of reading", ge=1, le=16384
    )
    shard_mb: float = setting(64.0, "MB of tokens per shard", gt=0)
    chunk_mb: float = setting(8.0, "MB of raw input per work item", gt=0, may_change=True)
    workers: int = setting(
        0, "number of worker processes for preparation; 0: one per core", ge=0, may_change=True
    )

    @field_validator("input", mode="before")
    @classmethod
    def _normalize_input(cls, value: object) -> object:
        return _files_by_column(value) if isinstance(value, dict) else _file_list(value, "")

    @field_validator("validation", mode="before")
    @classmethod
    def _normalize_validation(cls, value: object) -> object:
        return _files_by_column(value) if isinstance(value, dict) else value


class TokenizerSettings(CorpusSettings):
    """Keys of fields that a tokenizer encodes."""

    tokenizer: FilePath = setting(
        "",
        "path of the tokenizer.json to use, for example from another prepared dataset; empty: "
        "train one",
        may_change=True,
    )
    level: Literal["subword", "word", "byte"] = setting(
        "subword",
        "token type of texts; subword: byte-level BPE; word: split at whitespace; byte: one token "
        "per byte",
    )
    vocab_size: int = setting(16000, "maximum vocabulary size", ge=300, le=1_000_000)
    min_count: int = setting(
        1, "word tokens: minimum count in the sample for a word to enter the vocabulary", ge=1
    )
    tokenizer_sample_mb: float = setting(
        32.0, "MB of text to train the tokenizer on, sampled evenly from the corpus", ge=1
    )
    lowercase: bool = setting(True, "lowercase texts before tokenization")
    replace: dict[str, str] = setting(
        {}, "strings to replace before tokenization, such as markup, each with its replacement"
    )


class TextSettings(TokenizerSettings):
    """Keys of input texts."""

    text: str = setting(
        "text", "text column; in a tar, a member's extension or else a key of the .json member"
    )
    overflow: Literal["truncate", "split", "drop"] = setting(
        "truncate",
        "how to handle longer texts; split: several rows, which evaluation counts as one example",
    )
    truncation_side: Literal["start", "end", "both"] = setting(
        "start", "part of a truncated text to keep; both: half from the start, half from the end"
    )


class LabelColumn(CorpusSettings):
    """Key of what is to be predicted: labels, tags or a number."""

    label: str = setting("label", "label column; in a tar, as for corpus.text")


class LabelSettings(LabelColumn):
    """Keys of labels and tags."""

    label_names: list[str] = setting(
        [], "names of labels 0, 1, 2, ...; empty: the labels found in the input, sorted"
    )


class ImageSettings(CorpusSettings):
    """Keys of images."""

    image: str = setting(
        "image",
        "image column: PNG or JPEG bytes, a path under corpus.root, or a dict of both as in "
        "Hugging Face datasets; in a tar, a member's extension",
    )
    image_root: FilePath = setting(
        "", "folder under corpus.root that image paths start from", may_change=True
    )
    image_size: list[Positive] = setting(
        [], "height and width in pixels, such as [28, 28], to resize PNG and JPEG images to"
    )
    channels: Literal[1, 3] = setting(1, "channels per pixel; 1: grayscale; 3: RGB")

    @field_validator("image_size")
    @classmethod
    def _check_image_size(cls, value: list[int]) -> list[int]:
        if len(value) not in (0, 2):
            raise PydanticCustomError("size", "needs rows and columns, such as [28, 28]")
        return value


def _files_by_column(value: dict[Any, Any]) -> dict[str, list[str]]:
    if not value:
        raise PydanticCustomError("files", "needs at least one column, such as {{text: a.txt}}")
    return {str(column): _file_list(files, f" for {column}") for column, files in value.items()}


def _file_list(value: object, purpose: str) -> list[str]:
    """Return a file or a list of files as a list; errors mention the `purpose` of the files."""
    files = [value] if isinstance(value, str) else value
    if not isinstance(files, list) or not files or not all(isinstance(f, str) and f for f in files):
        raise PydanticCustomError(
            "files",
            "needs a file or a list of files{purpose}",
            {"purpose": purpose},
        )
    return files
