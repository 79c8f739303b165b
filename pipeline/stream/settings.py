"""Settings of the stream: how rows become batches, and where their bytes come from."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import Section, setting

MOST_LANES = 4096

Passes = Annotated[float, Field(gt=0, le=1000)]


class StreamSettings(Section):
    token_budget: int = setting(16384, "padded tokens of one update over all ranks", ge=1)
    batch_rows: int = setting(
        0,
        "rows of one update, whatever their lengths, instead of a budget; 0: the budget",
        ge=0,
    )
    bptt_length: int = setting(
        70,
        "language modeling: tokens of each lane in an update, past which no gradient goes back",
        ge=1,
    )
    accumulation_steps: int = setting(
        1, "batches of different lengths that one update accumulates; the budget is split", ge=1
    )
    bucketing: bool = setting(
        True, "batch rows of similar length; off: far more padding, but batches drawn evenly"
    )
    lanes: int = setting(
        24,
        "independent substreams; the greatest world size, and best a multiple of it",
        ge=1,
        le=MOST_LANES,
    )
    shuffle_window: int = setting(
        16, "blocks of a lane shuffled together: more mix better, in more memory", ge=1
    )
    repeat: Passes = setting(1.0, "passes over the corpus in an epoch, such as 3 or 0.25")
    mix: dict[str, Passes] = setting(
        {},
        "further prepared folders or URLs to train on, each with its passes in an epoch; made "
        "with the same corpus.tokenizer and labels",
    )
    unprepared_rows: int = setting(
        0,
        "train on the files of corpus.input, such as WebDataset tars, without preparing them: so "
        "many rows an epoch, shuffled and resumed in part only; 0: prepare",
        ge=0,
    )
    prefetch: int = setting(4, "batches made ahead by a thread", ge=1, may_change=True)
    on_corrupt: Literal["stop", "skip"] = setting(
        "stop",
        "at a damaged or missing block; skip: its rows get weight 0 and are counted",
        may_change=True,
    )
    max_corrupt_ratio: float = setting(
        0.01,
        "share of the rows, an epoch's at least, that may be skipped before the run stops",
        ge=0,
        le=1,
        may_change=True,
    )
    cache: str = setting(
        "",
        "folder in which the ranks of a node keep what they read of shards at a URL; empty: none",
        may_change=True,
    )
    cache_gb: float = setting(20.0, "GB that the folder may take", gt=0, may_change=True)
    cache_shards: bool = setting(
        False, "keep whole shards, not only blocks: fewer requests, more bytes", may_change=True
    )
    attempts: int = setting(
        6, "times that a range at a URL is asked for, with ever longer waits", ge=1, may_change=True
    )
    timeout: float = setting(60.0, "seconds that one attempt may take", gt=0, may_change=True)
