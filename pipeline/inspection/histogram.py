"""Histograms of one line of characters."""

import math
from collections.abc import Iterator, Sequence

BLOCKS = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
ASCII_BLOCKS = " .:-=+*#@"
BINS = 40
FEW = 2


def histogram(lengths: Sequence[int], *, is_ascii: bool = False) -> Iterator[str]:
    """Yield the lines of a histogram of sorted lengths; the longest hundredth is in the last bin.

    Nothing is yielded if the lengths hardly differ.
    """
    low, high = lengths[0], lengths[-(-99 * (len(lengths) - 1) // 100)]
    if high - low < FEW or len(lengths) < FEW:
        return
    step = max(math.ceil((high - low + 1) / BINS), 1)
    counts = [0] * math.ceil((high - low + 1) / step)
    for length in lengths:
        counts[min((length - low) // step, len(counts) - 1)] += 1
    blocks = ASCII_BLOCKS if is_ascii else BLOCKS
    bars = "".join(blocks[math.ceil((len(blocks) - 1) * n / max(counts))] for n in counts)
    start = f"  {low:,} "
    end = f" {high:,}{' or more' * (lengths[-1] > high)}"
    yield f"{start}|{bars}|{end}"
