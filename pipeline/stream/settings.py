"""Settings of the stream: how rows become batches."""

from pipeline.settings import Section, setting


class StreamSettings(Section):
    token_budget: int = setting(16384, "padded tokens of one update over all ranks", ge=1)
    micro_batches: int = setting(
        1, "batches of different lengths that one update accumulates; the budget is split", ge=1
    )
    bucketing: bool = setting(
        True, "batch rows of similar length; off: far more padding, but batches drawn evenly"
    )
    lanes: int = setting(
        24, "independent substreams; the greatest world size, and best a multiple of it", ge=1
    )
    window: int = setting(
        16, "blocks of a lane shuffled together: more mix better, in more memory", ge=1
    )
    prefetch: int = setting(4, "batches made ahead by a thread", ge=1, may_change=True)
