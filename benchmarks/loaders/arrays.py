"""Shuffled rows in memory: an upper bound for every file format with the same collate function."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.loaders.common import BATCH_ROWS, SEED, Batch, CountingLoader, Rows, collate


def convert(rows: Rows, folder: Path) -> None:
    rows.save(folder)


class Loader(CountingLoader):
    settings = "no format: all rows in memory, one permutation per epoch"
    resuming = "draws the permutation again"

    def __init__(self, folder: Path) -> None:
        self._dataset = Rows.load(folder)

    def _batches(self) -> Iterator[Batch]:
        tokens, labels = self._dataset.tokens, self._dataset.labels
        order = np.random.default_rng((self._epoch, SEED)).permutation(len(tokens))
        for start in range(self._rows_read, len(order), BATCH_ROWS):
            indices = order[start : start + BATCH_ROWS]
            yield collate([tokens[i] for i in indices.tolist()], labels[indices])
