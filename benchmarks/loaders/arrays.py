"""Rows in memory, drawn in random order: what no format can beat with the same collate."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from loaders.common import ROWS, SEED, Batch, Counting, Rows, collate


def convert(rows: Rows, folder: Path) -> None:
    rows.save(folder)


class Loader(Counting):
    settings = "no format: all rows in memory, a permutation an epoch"
    resuming = "draws the permutation again"

    def __init__(self, folder: Path) -> None:
        self._all = Rows.load(folder)

    def _batches(self) -> Iterator[Batch]:
        tokens, labels = self._all.tokens, self._all.labels
        order = np.random.default_rng((self._epoch, SEED)).permutation(len(tokens))
        for start in range(self._rows, len(order), ROWS):
            chosen = order[start : start + ROWS]
            yield collate([tokens[i] for i in chosen.tolist()], labels[chosen])
