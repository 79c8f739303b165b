"""Mean and standard deviation of numbers, to scale them for training."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.corpus.dataset.blocks import to_numpy
from pipeline.corpus.dataset.manifest import NumberStats

BLOCK_ROWS = 1 << 16
"""Numbers that are added up at once, so that the result does not depend on the input's chunks."""


def number_stats(paths: Iterable[Path], name: str) -> NumberStats:
    """Return the statistics of a column of Arrow files of encoded rows."""
    count, mean, squares = 0, 0.0, 0.0  # sum of squared differences from the mean
    for block in _blocks(paths, name):
        block_mean = float(block.mean())
        delta, total = block_mean - mean, count + len(block)
        # Chan et al. 1983, Algorithms for computing the sample variance
        squares += float(((block - block_mean) ** 2).sum()) + delta**2 * count * len(block) / total
        mean += delta * len(block) / total
        count = total
    return NumberStats(mean, (squares / count) ** 0.5 if count else 0.0)


def _blocks(paths: Iterable[Path], name: str) -> Iterator[NDArray[np.float64]]:
    """Yield the column's numbers in blocks of BLOCK_ROWS; the last may be shorter."""
    pending = np.empty(0)
    for path in paths:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all().select([name])
            for chunk in table.column(0).chunks:
                pending = np.concatenate([pending, to_numpy(chunk).astype(np.float64)])
        while len(pending) >= BLOCK_ROWS:
            yield pending[:BLOCK_ROWS]
            pending = pending[BLOCK_ROWS:]
    if len(pending):
        yield pending
