"""Settings of the corpus: where the raw files lie and how their rows become tokens in shards."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pipeline.settings import Section, setting

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]

TEXT_INPUT_KEYS = ("text", "columns", "overflow", "truncation_side", "word_bytes")
"""Keys that only tasks have that read texts."""
TEXT_KEYS = (
    "tokenizer", "level", "vocab_size", "min_count", "tokenizer_sample_mb", "lowercase", "replace",
)  # fmt: skip
"""Keys that only tasks have that read texts or write them."""
LABELED_TASKS = ("classification", "multilabel", "tagging", "images")
KEY_TASKS = {
    **dict.fromkeys(("label", "label_names"), LABELED_TASKS),
    "label_separator": ("multilabel",),
    **dict.fromkeys(("image", "image_root", "image_size", "channels"), ("images", "captioning")),
    **dict.fromkeys(("step", "patch"), ("images",)),
    **dict.fromkeys(("captions", "features"), ("captioning",)),
    **dict.fromkeys(("target", "max_target_tokens"), ("translation", "captioning")),
    "shared_vocab": ("translation",),
}
"""Keys that not all tasks have."""


class CorpusSettings(Section):
    input: list[str] | dict[str, list[str]] = setting(
        ...,
        "file or files, with globs and braces such as {000..123}: CSV, TSV, JSONL, WebDataset tars "
        "(each also .gz), Parquet; also s3://, gs://, http(s)://, and package://NAME/PATH for a "
        "file inside an installed Python package; or columns that lie side by side, such as "
        "{source: a.en.gz, target: a.de.gz}: idx files, or texts of a value a line (each also .gz)",
    )
    root: str = setting("data/", "folder that relative inputs lie in", may_change=True)
    shards: str = setting(
        ..., "folder of the prepared shards (default data/shards/NAME-OF-CONFIG)", may_change=True
    )
    format: Literal["", "conll", "conllu", "captions", "images"] = setting(
        "",
        "what the files are, where their names do not say it: columns of words; captions: an image "
        "and a caption a line, NAME#NUMBER, a tab and the caption, or CSV; images: folders, in "
        "them a sub-folder of images for each label, whose columns are image and label",
    )
    columns: list[str] = setting([], "names of the columns of CoNLL files, from the left")
    text: str = setting(
        "text", "column that holds the text; in a tar an extension, or else a key of .json"
    )
    image: str = setting(
        "image",
        "column that holds the image: bytes of a PNG or JPEG, a path under corpus.root, or both as "
        "Hugging Face's datasets has them; in a tar an extension",
    )
    image_root: str = setting(
        "", "folder, in corpus.root, that the paths of images begin in", may_change=True
    )
    label: str = setting("label", "column that holds the label; in a tar as with the text")
    target: str = setting(
        "target",
        "translation, captioning: column that holds what is to be written; of an image it may be a "
        "list of captions",
    )
    captions: int = setting(5, "captioning: captions of an image that count, the first", ge=1)
    label_names: list[str] = setting(
        [], "names of the labels 0, 1, 2, ...; empty: the labels found in the input, sorted"
    )
    label_separator: str = setting(
        ",",
        "multilabel: what stands between the labels of a row, where they are one string",
        min_length=1,
    )
    filters: dict[str, str] = setting({}, "keep only rows whose columns have these values")
    validation: Fraction | str | dict[str, list[str]] = setting(
        0.1,
        "share of the rows held out, or a file of them, or columns side by side; equal texts never "
        "straddle",
    )
    max_tokens: int = setting(400, "tokens that a row may have", ge=1, le=65535)
    overflow: Literal["truncate", "split", "drop"] = setting(
        "truncate",
        "what becomes of a longer text; split: several rows, which evaluation counts as one",
    )
    truncation_side: Literal["start", "end", "both"] = setting(
        "start", "what is kept of a truncated text; both: half of it from either side"
    )
    max_target_tokens: int = setting(
        0,
        "translation, captioning: tokens that a target may have; the row of a longer one is left "
        "out; 0: as max_tokens",
        ge=0,
        le=65534,
    )
    tokenizer: str = setting(
        "",
        "a tokenizer.json to use, such as that of another prepared folder; empty: one is trained",
        may_change=True,
    )
    level: Literal["subword", "word", "byte"] = setting(
        "subword", "what a token of a text is: a subword (BPE), what stands between blanks, a byte"
    )
    shared_vocab: bool = setting(
        True, "translation: one vocabulary of both languages, else one of each"
    )
    vocab_size: int = setting(16000, "size of the vocabulary", ge=300, le=1_000_000)
    min_count: int = setting(
        1, "of whole words: how often one must stand in the sample to be known", ge=1
    )
    tokenizer_sample_mb: float = setting(
        32.0, "MB of text that the tokenizer is trained on, drawn evenly from the corpus", ge=1
    )
    lowercase: bool = setting(True, "fold case before tokenizing")
    word_bytes: int = setting(
        24,
        "bytes of a word that tagging sees its characters by; a longer one keeps both ends",
        ge=2,
        le=255,
    )
    image_size: list[Positive] = setting(
        [], "rows and columns of pixels, such as [28, 28], that PNG and JPEG are resized to"
    )
    features: int = setting(
        0,
        "captioning: features of each region, where images are .npy files that another network "
        "made of them; 0: pixels",
        ge=0,
    )
    channels: Literal[1, 3] = setting(1, "of each pixel: 1 for grey, 3 for red, green and blue")
    step: Literal["row", "pixel", "patch"] = setting("row", "what is one step of an image")
    patch: int = setting(4, "rows and columns of pixels of a patch, if that is a step", ge=1)
    replace: dict[str, str] = setting({}, "strings to replace before tokenizing, such as markup")
    drop_duplicates: bool = setting(
        True, "keep one row of those with equal text and, where one is written, equal target"
    )
    max_skipped_ratio: float = setting(
        0.05,
        "share of unusable rows (no text, no label, not UTF-8) past which preparing stops",
        ge=0,
        le=1,
    )
    rows_per_block: int = setting(
        512, "rows of one Arrow record batch, the unit of reading", ge=1, le=16384
    )
    shard_mb: float = setting(64.0, "MB of tokens that one shard takes", gt=0)
    chunk_mb: float = setting(
        8.0, "MB of raw input that one unit of work takes", gt=0, may_change=True
    )
    workers: int = setting(0, "processes that prepare; 0: one a core", ge=0, may_change=True)

    @field_validator("input", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return _by_column(value) if isinstance(value, dict) else _files(value, "")

    @field_validator("image_size")
    @classmethod
    def _rows_and_columns(cls, value: list[int]) -> list[int]:
        if len(value) not in (0, 2):
            raise PydanticCustomError("size", "needs rows and columns, such as [28, 28]")
        return value

    @field_validator("validation", mode="before")
    @classmethod
    def _held_out(cls, value: object) -> object:
        return _by_column(value) if isinstance(value, dict) else value


def _by_column(value: dict[Any, Any]) -> dict[str, list[str]]:
    if not value:
        raise PydanticCustomError("files", "needs a column at least, such as {{text: a.txt}}")
    return {str(column): _files(files, f" for {column}") for column, files in value.items()}


def _files(value: object, whose: str) -> list[str]:
    files = [value] if isinstance(value, str) else value
    if not isinstance(files, list) or not files or not all(isinstance(f, str) and f for f in files):
        raise PydanticCustomError(
            "files",
            "needs a file or a list of files{whose}; YAML takes bare numbers, dates, yes, no, on "
            "and off for other than text: quote them",
            {"whose": whose},
        )
    return files
