"""Corpus settings: where the raw files are and how their rows are encoded into shards."""

import codecs
from typing import Annotated, Any, Literal
from unicodedata import normalize

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pipeline.settings import FilePath, Section, setting

Fraction = Annotated[float, Field(gt=0, lt=1)]
MAX_ROW_TOKENS = 65535
"""Upper limit of `max_tokens`: the index stores lengths in 16 bits."""
OneFile = Annotated[FilePath, Field(min_length=1)]
SomeFiles = Annotated[list[FilePath], Field(min_length=1)]
Positive = Annotated[int, Field(ge=1)]


class CorpusSettings(Section):
    """The `corpus` section of a config file, without the keys of a task's fields."""

    input: list[FilePath] | dict[str, list[FilePath]] = setting(
        ...,
        "input file or list of files: CSV, TSV, JSON, Parquet, Arrow, CoNLL, fastText, text, "
        "WebDataset tars (each may be compressed: .gz, .bz2, .xz, .zst); globs and braces such as "
        "{000..123} are expanded; s3://, gs://, az://, hf:// and http(s):// URLs, and "
        "package://NAME/PATH for a file of an installed Python package, are accepted; or a folder "
        "of .txt files, of images, or of a saved Hugging Face dataset; or parallel files, one per "
        "column, such as {source: a.en.gz, target: a.de.gz}: idx files, or text files with one "
        "value per line",
    )
    root: FilePath = setting(
        "data/", "folder that relative input paths start from", may_change=True
    )
    shards: FilePath = setting(
        "",
        "folder of the prepared shards; empty: data/shards/NAME-DIGEST, where NAME is the name of "
        "the config or, without one, of the input, and DIGEST is a hash of the settings that "
        "affect the shards",
        may_change=True,
    )
    if_changed: Literal["refuse", "prepare", "keep"] = setting(
        "refuse",
        "how to handle a local input file that has changed since preparation; refuse: stop; "
        "prepare: prepare the shards again; keep: use the old shards without a check",
        may_change=True,
    )
    format: str = setting(
        "",
        "format of the input; empty: recognized by the first bytes or name of each file; conll and "
        "conllu: columns of words; fasttext: texts with labels among their words; documents: a "
        "folder of text files, read as the columns text, label (the subfolder) and file; captions: "
        "one image and caption per line, either NAME#NUMBER, a tab and the caption, or CSV; "
        "images: folders with one subfolder of images per label, read as the columns image and "
        "label",
        kind="reader",
    )
    columns: list[str] = setting(
        [], "column names of files without a header (CoNLL, CSV, TSV), from left to right"
    )
    delimiter: str = setting(
        "", "separator of the fields of CSV and TSV files; empty: a comma, or a tab for TSV"
    )
    quoting: bool | None = setting(
        None, "whether fields of CSV and TSV files may be quoted; null: true for CSV, not for TSV"
    )
    encoding: str = setting(
        "utf-8", "encoding of texts; a byte order mark (UTF-8, UTF-16, UTF-32) takes precedence"
    )
    filters: dict[str, str] = setting({}, "use only rows in which these columns have these values")
    validation: Fraction | OneFile | SomeFiles | dict[str, list[FilePath]] = setting(
        0.1,
        "fraction of rows to hold out, or validation files, or parallel validation files, one per "
        "column; identical texts never end up in two splits",
    )
    test: Fraction | OneFile | SomeFiles | dict[str, list[FilePath]] | None = setting(
        None,
        "fraction of rows, or files as for corpus.validation, to evaluate the best checkpoint on, "
        "once, at the end of training; null: none",
    )
    stratify: bool | None = setting(
        None,
        "whether corpus.validation and corpus.test hold out the same fraction of each label; null: "
        "true if each row has one label and corpus.group and corpus.time are empty",
    )
    group: str = setting(
        "",
        "column, such as author; rows with the same value are in the same split (needs fractions)",
    )
    time: str = setting(
        "",
        "column of numbers or of dates such as 2024-05-31 or 2024-05-31T12:00:00Z; the latest rows "
        "are held out (needs fractions)",
    )
    time_format: str = setting(
        "", "format of the dates in corpus.time, as for Python's strptime, such as %d.%m.%Y"
    )
    weight: str = setting(
        "", "column with the weight of each row in the training loss, a number of 0 or more"
    )
    max_tokens: int = setting(400, "maximum number of tokens per row", ge=1, le=MAX_ROW_TOKENS)
    drop_duplicates: bool = setting(
        True, "keep only one of several rows with the same text and, if there is one, same target"
    )
    max_skipped_ratio: float = setting(
        0.05,
        "stop if a larger fraction of rows is unusable (damaged, no text, no label)",
        ge=0,
        le=1,
        may_change=True,
    )
    on_bad_row: Literal["skip", "stop"] = setting(
        "skip",
        "how to handle an unusable row; skip: skip and count it; stop: stop with an error",
        may_change=True,
    )
    rows_per_block: int = setting(
        512, "rows per Arrow record batch, the unit of reading", ge=1, le=16384
    )
    shard_mb: float = setting(64.0, "MB of tokens per shard", gt=0)
    chunk_mb: float = setting(8.0, "MB of raw input per work item", gt=0, may_change=True)
    workers: int = setting(
        0, "number of worker processes for preparation; 0: one per core", ge=0, may_change=True
    )

    @field_validator("text", "label", check_fields=False)
    @classmethod
    def _check_column(cls, value: str | list[str]) -> str | list[str]:
        if not value or (isinstance(value, list) and not all(value)):
            raise PydanticCustomError("column", "needs the name of a column")
        return value

    @field_validator("input", mode="before")
    @classmethod
    def _normalize_input(cls, value: object) -> object:
        return _files_by_column(value) if isinstance(value, dict) else _file_list(value, "")

    @field_validator("delimiter")
    @classmethod
    def _check_delimiter(cls, value: str) -> str:
        value = "\t" if value == "\\t" else value
        if len(value) > 1 or value in ("\r", "\n", '"'):
            raise PydanticCustomError("delimiter", "needs one character, or \\t for a tab")
        return value

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str) -> str:
        try:
            codecs.getincrementaldecoder(value)
            b"ab".decode(value, "ignore")  # nothing is looked up for no bytes
        except (LookupError, UnicodeError, ValueError):
            raise PydanticCustomError(
                "encoding",
                "is not an encoding; use a name such as utf-8, utf-16, cp1252 or gb18030",
            ) from None
        return value

    @field_validator("validation", "test", mode="before")
    @classmethod
    def _normalize_held_out(cls, value: object) -> object:
        return _files_by_column(value) if isinstance(value, dict) else value

    @property
    def held_out_fractions(self) -> dict[str, float]:
        """The fractions of rows to hold out, by split."""
        values = {"validation": self.validation, "test": self.test}
        return {split: value for split, value in values.items() if isinstance(value, float)}

    @property
    def held_out_files(self) -> dict[str, list[str] | dict[str, list[str]]]:
        """The files to hold out, by split."""
        values = {"validation": self.validation, "test": self.test}
        return {
            split: [value] if isinstance(value, str) else value
            for split, value in values.items()
            if isinstance(value, (str, list, dict))
        }


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

    text: str | list[str] = setting(
        "text",
        "text column; a list of columns, such as [title, body], is joined; a.b is the key b of the "
        "object a; in a tar, a member's extension or else a key of the .json member",
    )
    join: str = setting("\n", "separator of the texts if corpus.text is a list of columns")
    overflow: Literal["truncate", "split", "drop"] = setting(
        "truncate",
        "how to handle longer texts; split: several rows, which evaluation counts as one example",
    )
    truncation_side: Literal["start", "end", "both"] = setting(
        "start", "part of a truncated text to keep; both: half from the start, half from the end"
    )


class LabelColumn(CorpusSettings):
    """Key of the column to predict: labels, tags or a number."""

    label: str | list[str] = setting(
        "label",
        "label column; in a tar, as for corpus.text; for several labels per row also a list of "
        "columns of 0 and 1, one per label",
    )


class LabelSettings(LabelColumn):
    """Keys of labels and tags."""

    label_names: list[str] | dict[str, str] = setting(
        [],
        "names of labels 0, 1, 2, ..., or a map from labels to names such as {1: World, 2: "
        "Sports}; empty: the labels found in the input, sorted",
    )
    label_base: int = setting(
        0, "number of the first name in corpus.label_names; 1: labels are 1, 2, ...", ge=0
    )

    @field_validator("label_names", mode="before")
    @classmethod
    def _normalize_label_names(cls, value: object) -> object:
        if isinstance(value, dict):
            named = {_label_name(label): _label_name(name) for label, name in value.items()}
            if len(named) < len(value):
                raise PydanticCustomError("names", "has the same label more than once")
            return named
        if isinstance(value, list):
            return [_label_name(name) for name in value]
        raise PydanticCustomError(
            "names",
            "needs a list such as [negative, positive], or a map such as {1: negative, 2: "
            "positive}",
        )

    @property
    def names(self) -> list[str]:
        """The different names of `label_names`, in their order; without names, the columns of
        labels if there are several."""
        given = self.label_names or (self.label if isinstance(self.label, list) else [])
        return list(dict.fromkeys(given.values() if isinstance(given, dict) else given))


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


def _label_name(value: object) -> str:
    """Return a label or a name as text in Unicode NFC; YAML reads some of them as other types."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)) and (text := str(value).strip()):
        return normalize("NFC", text)
    raise PydanticCustomError("names", "has a label or a name that is not a text; quote it")


def _files_by_column(value: dict[Any, Any]) -> dict[str, list[str]]:
    if not value:
        raise PydanticCustomError("files", "needs at least one column, such as {text: a.txt}")
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
