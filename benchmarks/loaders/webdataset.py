"""webdataset, in the layout that its author recommends for small samples (issue 433).

Rows are stored in groups, unbatched on load, then shuffled and batched again.

To resume, the author recommends either `resampled=True` and a fresh start (issues 177, 271), which
keeps the sampling statistics but no epoch, or slicing a seeded stream. This benchmark times the
latter.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds

from benchmarks.loaders.common import BATCH_ROWS, SEED, Array, Batch, CountingLoader, Rows, collate

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


class Loader(CountingLoader):
    settings = (
        f"tar, .npy members of {MEMBER_ROWS} rows, unbatched; shuffle({BUFFER:,}), "
        f"batched({BATCH_ROWS}), no workers"
    )
    resuming = "no state; reads the seeded stream again and slices it"

    def __init__(self, folder: Path) -> None:
        self._shards = sorted(map(str, folder.glob("*.tar")))

    def _batches(self) -> Iterator[Batch]:
        yield from (
            wds.WebDataset(self._shards, shardshuffle=100, detshuffle=True, seed=SEED + self._epoch)
            .decode()
            .map(_split_member)
            .unbatched()
            .shuffle(BUFFER, rng=random.Random(SEED + self._epoch))
            .slice(self._rows_read, None)
            .batched(BATCH_ROWS, collation_fn=_collate)
        )


def _split_member(member: dict[str, Any]) -> tuple[list[Array], list[int]]:
    """Split a member into rows: views of its tokens, and the labels."""
    ends = np.cumsum(member["lengths.npy"], dtype=np.int64)
    return np.split(member["tokens.npy"], ends[:-1]), member["labels.npy"].tolist()


def _collate(rows: list[tuple[Array, int]]) -> Batch:
    return collate(*zip(*rows, strict=True))
