"""Rows in memory, drawn in random order: what no format can beat with the same collate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from loaders.common import ROWS, SEED, Batch, Rows, collate


def convert(rows: Rows, folder: Path) -> None:
    rows.save(folder)


class Loader:
    settings = "no format: all rows in memory, a permutation an epoch"
    resuming = "draws the permutation again"

    def __init__(self, folder: Path) -> None:
        self._rows = Rows.load(folder)
        self._epoch = self._batch = 0

    def epoch(self, number: int) -> Iterator[Batch]:
        return self.resume({"epoch": number, "batch": 0})

    def state(self) -> Any:
        return {"epoch": self._epoch, "batch": self._batch}

    def resume(self, state: Any) -> Iterator[Batch]:
        self._epoch, self._batch = state["epoch"], state["batch"]
        tokens, labels = self._rows.tokens, self._rows.labels
        order = np.random.default_rng((self._epoch, SEED)).permutation(len(tokens))
        for start in range(self._batch * ROWS, len(order), ROWS):
            chosen = order[start : start + ROWS]
            self._batch += 1
            yield collate([tokens[i] for i in chosen.tolist()], labels[chosen])
