"""LitData, as its README advises ("Speed up model training", "Shuffle, seed, and drop_last").

Rows of unequal length are samples of their own: its TokensLoader cuts one long stream of tokens
into blocks of equal size, and knows no rows. A one-dimensional array is stored without a header.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import litdata

from loaders.common import ROWS, SEED, Rows, Stateful, collate_dicts


def convert(rows: Rows, folder: Path) -> None:
    starts = list(range(0, len(rows.tokens), 1024))
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
    for i in range(start, min(start + 1024, len(rows.tokens))):
        yield {"tokens": rows.tokens[i], "label": int(rows.labels[i])}


class Loader(Stateful):
    settings = (
        f"optimize in chunks of 64 MB, a uint16 array a row; StreamingDataLoader, {ROWS} rows, "
        "shuffle, no workers"
    )
    resuming = "StreamingDataLoader.load_state_dict"

    def __init__(self, folder: Path) -> None:
        dataset = litdata.StreamingDataset(str(folder), shuffle=True, drop_last=False, seed=SEED)
        self._loader = litdata.StreamingDataLoader(
            dataset, batch_size=ROWS, num_workers=0, collate_fn=collate_dicts
        )
