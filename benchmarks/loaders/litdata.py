"""LitData, used as its README recommends ("Speed up model training", "Shuffle, seed, drop_last").

Each row is a separate sample, because rows differ in length: `TokensLoader` cuts one long token
stream into blocks of equal size and has no notion of rows. LitData stores one-dimensional arrays
without a header.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import litdata

from benchmarks.loaders.common import BATCH_ROWS, SEED, Rows, StatefulLoader, collate_dicts

INPUT_ROWS = 1024


def convert(rows: Rows, folder: Path) -> None:
    starts = list(range(0, len(rows.tokens), INPUT_ROWS))
    litdata.optimize(
        fn=partial(_samples, rows),
        inputs=starts,
        output_dir=str(folder),
        chunk_bytes="64MB",
        num_workers=1,
        start_method="fork",
        verbose=False,
    )


def _samples(rows: Rows, start: int) -> Iterator[dict[str, Any]]:
    """Yield the samples of the rows from `start` on, `INPUT_ROWS` of them."""
    for i in range(start, min(start + INPUT_ROWS, len(rows.tokens))):
        yield {"tokens": rows.tokens[i], "label": int(rows.labels[i])}


class Loader(StatefulLoader):
    settings = (
        "optimize in chunks of 64 MB, one uint16 array per row; StreamingDataLoader, "
        f"{BATCH_ROWS} rows, shuffle, no workers"
    )
    resuming = "StreamingDataLoader.load_state_dict"

    def __init__(self, folder: Path) -> None:
        dataset = litdata.StreamingDataset(str(folder), shuffle=True, drop_last=False, seed=SEED)
        self._loader = litdata.StreamingDataLoader(
            dataset, batch_size=BATCH_ROWS, num_workers=0, collate_fn=collate_dicts
        )
