"""webdataset in the layout that its author advises for small samples (issue 433): rows stored in
small batches, unbatched on load, then shuffled and batched anew.

For resuming he advises `resampled=True` and to start afresh (issues 177, 271), which keeps the
statistics and gives up the epoch; or to slice a seeded stream oneself, which is what is timed.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds

from loaders.common import ROWS, SEED, Array, Batch, Counting, Rows, collate

BUFFER = 1000
MEMBER_ROWS = 512


def convert(rows: Rows, folder: Path) -> None:
    folder.mkdir()
    with wds.ShardWriter(str(folder / "%05d.tar"), verbose=0) as shards:
        for start in range(0, len(rows.tokens), MEMBER_ROWS):
            tokens = rows.tokens[start : start + MEMBER_ROWS]
            shards.write(
                {
                    "__key__": f"{start:09d}",
                    "tokens.npy": np.concatenate(tokens),
                    "lengths.npy": np.array([len(row) for row in tokens], np.uint16),
                    "labels.npy": rows.labels[start : start + MEMBER_ROWS],
                }
            )


class Loader(Counting):
    settings = (
        f"tar, .npy members of {MEMBER_ROWS} rows, unbatched; shuffle({BUFFER:,}), "
        f"batched({ROWS}), no workers"
    )
    resuming = "no state; the seeded stream is read again and sliced"

    def __init__(self, folder: Path) -> None:
        self._shards = sorted(map(str, folder.glob("*.tar")))

    def _batches(self) -> Iterator[Batch]:
        yield from (
            wds.WebDataset(self._shards, shardshuffle=100, detshuffle=True, seed=SEED + self._epoch)
            .decode()
            .map(_rows)
            .unbatched()
            .shuffle(BUFFER, rng=random.Random(SEED + self._epoch))
            .slice(self._rows, None)
            .batched(ROWS, collation_fn=_collate)
        )


def _rows(member: dict[str, Any]) -> tuple[list[Array], list[int]]:
    """A member's rows: views of its tokens, and labels."""
    ends = np.cumsum(member["lengths.npy"], dtype=np.int64)
    return np.split(member["tokens.npy"], ends[:-1]), member["labels.npy"].tolist()


def _collate(rows: list[tuple[Array, int]]) -> Batch:
    return collate(*zip(*rows, strict=True))
