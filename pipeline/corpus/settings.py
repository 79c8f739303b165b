"""Settings of the corpus: where the raw files lie and how their rows become tokens in shards."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.settings import Section, setting

Fraction = Annotated[float, Field(gt=0, lt=1)]


OF_TASK = {
    "target": ("translation",),
    "joint": ("translation",),
    "max_target_tokens": ("translation",),
}
"""Keys that not all tasks have."""


class CorpusSettings(Section):
    input: list[str] = setting(
        ...,
        "file or files, with globs and braces such as {000..123}: CSV, TSV, JSONL, WebDataset tars "
        "(each also .gz), Parquet; also s3://, gs://, http(s)://, and package://NAME/PATH for a "
        "file inside an installed Python package",
        min_length=1,
    )
    root: str = setting("data/", "folder that relative inputs lie in", may_change=True)
    shards: str = setting(
        ..., "folder of the prepared shards (default data/shards/NAME-OF-CONFIG)", may_change=True
    )
    format: Literal["", "conll", "conllu"] = setting(
        "", "what the files are, where their names do not say it: columns of words"
    )
    columns: list[str] = setting([], "names of the columns of CoNLL files, from the left")
    text: str = setting(
        "text", "column that holds the text; in a tar an extension, or else a key of .json"
    )
    label: str = setting("label", "column that holds the label; in a tar as with the text")
    target: str = setting(
        "target", "translation: column that holds what the text is translated into"
    )
    label_names: list[str] = setting(
        [], "names of the labels 0, 1, 2, ...; empty: the labels found in the input, sorted"
    )
    label_separator: str = setting(
        ",",
        "multilabel: what stands between the labels of a row, where they are one string",
        min_length=1,
    )
    where: dict[str, str] = setting({}, "keep only rows whose columns have these values")
    validation: Fraction | str = setting(
        0.1, "share of the rows held out, or a file of them; equal texts never straddle"
    )
    max_tokens: int = setting(400, "tokens that a row may have", ge=1, le=65535)
    long_texts: Literal["truncate", "split", "drop"] = setting(
        "truncate",
        "what becomes of a longer text; split: several rows, which evaluation counts as one",
    )
    keep: Literal["start", "end", "both"] = setting(
        "start", "what is kept of a truncated text; both: half of it from either side"
    )
    max_target_tokens: int = setting(
        0,
        "translation: tokens that a target may have; the row of a longer one is left out; 0: as "
        "max_tokens",
        ge=0,
        le=65534,
    )
    tokenizer: str = setting(
        "",
        "a tokenizer.json to use, such as that of another prepared folder; empty: one is trained",
        may_change=True,
    )
    joint: bool = setting(True, "translation: one vocabulary of both languages, else one of each")
    vocab_size: int = setting(16000, "size of the vocabulary", ge=300, le=1_000_000)
    min_count: int = setting(
        1, "of whole words: how often one must stand in the sample to be known", ge=1
    )
    tokenizer_sample_mb: float = setting(
        32.0, "MB of text that the tokeniser is trained on, drawn evenly from the corpus", ge=1
    )
    lowercase: bool = setting(True, "fold case before tokenising")
    word_bytes: int = setting(
        24,
        "bytes of a word that tagging sees its characters by; a longer one keeps both ends",
        ge=2,
        le=255,
    )
    replace: dict[str, str] = setting({}, "strings to replace before tokenising, such as markup")
    drop_duplicates: bool = setting(True, "keep one row of those with equal text")
    max_skipped: float = setting(
        0.05,
        "share of unusable rows (no text, no label, not UTF-8) past which preparing stops",
        ge=0,
        le=1,
    )
    rows_per_block: int = setting(
        512, "rows of one Arrow record batch, the unit of reading", ge=1, le=16384
    )
    shard_mb: float = setting(64.0, "MB of tokens that one shard takes", gt=0)
    piece_mb: float = setting(
        8.0, "MB of raw input that one unit of work takes", gt=0, may_change=True
    )
    workers: int = setting(0, "processes that prepare; 0: one a core", ge=0, may_change=True)

    @field_validator("input", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value
