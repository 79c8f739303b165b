"""What the contenders share: the rows they are given, the batches they deliver, the collate."""

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
    """A tokenised corpus: row i is tokens[i], uint16 ids, and labels[i]."""

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
