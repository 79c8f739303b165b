"""Shared by all systems: the input rows, the batches, the collate functions and base classes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

BATCH_ROWS = 64
"""Batch size of the systems that do not batch by a token budget."""
SEED = 42

Array = np.ndarray[Any, Any]
Batch = dict[str, torch.Tensor]
"""`tokens` [B, T] int64 padded with 0, `lengths` [B] and `labels` [B]."""


@dataclass(frozen=True)
class Rows:
    """A tokenized corpus: row i has the uint16 token ids `tokens[i]` and the label `labels[i]`."""

    FILES: ClassVar = ("tokens", "lengths", "labels")

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


class Loader(Protocol):
    """Yields shuffled training batches from the folder that the module's `convert` wrote."""

    settings: str
    """The loader's configuration, for the table."""
    resuming: str
    """How the loader resumes, for the table."""

    def __init__(self, folder: Path) -> None: ...

    def epoch(self, number: int) -> Iterator[Batch]: ...

    def state(self) -> Any:
        """Return a JSON-serializable checkpoint of the position after the last yielded batch."""

    def resume(self, state: Any) -> Iterator[Batch]:
        """Yield the batches after `state`, in a fresh process."""


class CountingLoader(ABC):
    """Base for systems without resumable state: counts the delivered rows itself."""

    _epoch = _rows_read = 0

    def epoch(self, number: int) -> Iterator[Batch]:
        return self.resume({"epoch": number, "rows": 0})

    def state(self) -> Any:
        return {"epoch": self._epoch, "rows": self._rows_read}

    def resume(self, state: Any) -> Iterator[Batch]:
        self._epoch, self._rows_read = state["epoch"], state["rows"]
        for batch in self._batches():
            self._rows_read += len(batch["lengths"])
            yield batch

    @abstractmethod
    def _batches(self) -> Iterator[Batch]:
        """Yield the epoch's batches after the first `_rows_read` rows."""


class StatefulLoader:
    """Base for systems whose loader has `state_dict` and `load_state_dict`."""

    _loader: Any

    def epoch(self, number: int) -> Iterator[Batch]:
        return iter(self._loader)

    def state(self) -> Any:
        return self._loader.state_dict()

    def resume(self, state: Any) -> Iterator[Batch]:
        self._loader.load_state_dict(state)
        return iter(self._loader)


def collate_dicts(rows: list[dict[str, Any]]) -> Batch:
    """Collate samples that are dicts with `tokens` and `label`."""
    return collate([row["tokens"] for row in rows], [row["label"] for row in rows])


def collate(tokens: Sequence[Array], labels: Any) -> Batch:
    """Pad rows to the longest.

    Copies each row once in numpy, which is several times as fast as torch's `pad_sequence`, which
    needs a tensor per row.
    """
    lengths = [len(row) for row in tokens]
    padded = np.zeros((len(lengths), max(lengths)), np.int64)
    for target, row, length in zip(padded, tokens, lengths, strict=True):
        target[:length] = row
    return {
        "tokens": torch.from_numpy(padded),
        "lengths": torch.tensor(lengths),
        "labels": torch.as_tensor(labels, dtype=torch.int64),
    }
