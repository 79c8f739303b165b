"""Settings of the stream: how rows are batched, and where shards are read from."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import FilePath, Section, setting

MAX_LANES = 4096

Passes = Annotated[float, Field(gt=0, le=1000)]


class StreamSettings(Section):
    token_budget: int = setting(
        16384,
        "padded tokens per update, over all ranks; if not set, fewer for a small corpus",
        ge=1,
    )
    batch_rows: int = setting(
        0,
        "rows per update, whatever their lengths, instead of token_budget; 0: use token_budget",
        ge=0,
    )
    bptt_length: int = setting(
        70,
        "language modeling: tokens per lane and update; gradients stop there (truncated BPTT)",
        ge=1,
    )
    accumulation_steps: int = setting(
        1, "batches of different lengths accumulated per update; they share token_budget", ge=1
    )
    bucketing: bool = setting(
        True, "batch rows of similar length; off: far more padding, but uniformly sampled batches"
    )
    lanes: int = setting(
        24,
        "independent substreams; the maximum world size, ideally a multiple of the one in use",
        ge=1,
        le=MAX_LANES,
    )
    shuffle_window: int = setting(
        16, "blocks per lane shuffled together; more mix better but take more memory", ge=1
    )
    repeat: Passes = setting(1.0, "passes through the corpus per epoch, such as 3 or 0.25")
    mix: dict[FilePath, Passes] = setting(
        {},
        "more prepared folders or URLs to train on, each with its passes per epoch; they need the "
        "same corpus.tokenizer and labels",
    )
    unprepared_rows: int = setting(
        0,
        "rows per epoch when training on the files of corpus.input, such as WebDataset tars, "
        "without preparing them (approximate shuffling and resuming); 0: prepare",
        ge=0,
    )
    prefetch: int = setting(
        4, "updates that a background thread prepares in advance", ge=1, may_change=True
    )
    on_corrupt: Literal["stop", "skip"] = setting(
        "stop",
        "response to a damaged or missing block; skip: its rows get weight 0 and are counted",
        may_change=True,
    )
    max_corrupt_ratio: float = setting(
        0.01,
        "fraction of rows (of at least an epoch's rows) that may be skipped before the run stops",
        ge=0,
        le=1,
        may_change=True,
    )
    cache: FilePath = setting(
        "",
        "folder where a node's ranks cache data read from shards at a URL; empty: no cache",
        may_change=True,
    )
    cache_gb: float = setting(20.0, "maximum size of the cache in GB", gt=0, may_change=True)
    cache_shards: bool = setting(
        False, "cache whole shards, not only blocks: fewer requests, more bytes", may_change=True
    )
    attempts: int = setting(
        6, "attempts to read a range from a URL, with exponential backoff", ge=1, may_change=True
    )
    timeout: float = setting(60.0, "seconds that one attempt may take", gt=0, may_change=True)
