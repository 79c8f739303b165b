"""What the contenders share: the rows they are given, the batches they deliver, the collate."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

ROWS = 64
"""Rows of a batch of the systems that do not batch by a token budget."""
SEED = 42

Array = np.ndarray[Any, Any]
Batch = dict[str, torch.Tensor]
"""tokens [B, T] int64 padded with 0, lengths [B] and labels [B]."""


@dataclass(frozen=True)
class Rows:
    """A tokenized corpus: row i is tokens[i], uint16 ids, and labels[i]."""

    tokens: list[Array]
    labels: Array

    @classmethod
    def load(cls, folder: Path) -> "Rows":
        values, lengths, labels = (np.load(folder / f"{name}.npy") for name in cls.FILES)
        return cls(np.split(values, np.cumsum(lengths)[:-1]), labels)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        lengths = np.array([len(row) for row in self.tokens])
        for name, array in zip(
            self.FILES, (np.concatenate(self.tokens), lengths, self.labels), strict=True
        ):
            np.save(folder / f"{name}.npy", array)

    FILES = ("tokens", "lengths", "labels")


class Loader(Protocol):
    """Shuffled training batches out of the folder that `convert` of the same module wrote."""

    settings: str
    """How it is set, for the table."""
    resuming: str
    """What it does to resume, for the table."""

    def __init__(self, folder: Path) -> None: ...

    def epoch(self, number: int) -> Iterator[Batch]: ...

    def state(self) -> Any:
        """What a checkpoint would keep, as JSON, after the batch that was yielded last."""

    def resume(self, state: Any) -> Iterator[Batch]:
        """In a fresh process: the batches after `state`."""


class Counting(ABC):
    """A loader of a system that keeps no state: it counts the rows that it delivered itself."""

    _epoch = _rows = 0

    def epoch(self, number: int) -> Iterator[Batch]:
        return self.resume({"epoch": number, "rows": 0})

    def state(self) -> Any:
        return {"epoch": self._epoch, "rows": self._rows}

    def resume(self, state: Any) -> Iterator[Batch]:
        self._epoch, self._rows = state["epoch"], state["rows"]
        for batch in self._batches():
            self._rows += len(batch["lengths"])
            yield batch

    @abstractmethod
    def _batches(self) -> Iterator[Batch]:
        """Those of the epoch after the rows that are done."""


class Stateful:
    """A loader of a system whose own loader keeps its state."""

    _loader: Any

    def epoch(self, number: int) -> Iterator[Batch]:
        return iter(self._loader)

    def state(self) -> Any:
        return self._loader.state_dict()

    def resume(self, state: Any) -> Iterator[Batch]:
        self._loader.load_state_dict(state)
        return iter(self._loader)


def collate_dicts(rows: list[dict[str, Any]]) -> Batch:
    """Samples as these systems keep them, a dict a row."""
    return collate([row["tokens"] for row in rows], [row["label"] for row in rows])


def collate(tokens: Sequence[Array], labels: Any) -> Batch:
    """Rows padded to the longest: a copy of memory a row, several times as fast as torch's
    pad_sequence, which wants a tensor a row."""
    lengths = [len(row) for row in tokens]
    padded = np.zeros((len(lengths), max(lengths)), np.int64)
    for target, row, length in zip(padded, tokens, lengths, strict=True):
        target[:length] = row
    return {
        "tokens": torch.from_numpy(padded),
        "lengths": torch.tensor(lengths),
        "labels": torch.as_tensor(labels, dtype=torch.int64),
    }
