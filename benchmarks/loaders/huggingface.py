"""Hugging Face datasets, used as its documentation recommends for local data (page "Stream").

The dataset is a `Dataset` converted to an iterable one with 64 shards, which the page calls faster
than `load_dataset(streaming=True)`, and shuffled with a buffer of 10,000 rows.

Its `state_dict` does not contain the rows in the shuffle buffer, so a resumed run would lose them.
This benchmark resumes with `skip(rows)` instead, which the same page describes and which is exact.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from benchmarks.loaders.common import BATCH_ROWS, SEED, Batch, CountingLoader, Rows, collate

BUFFER = 10_000
SHARDS = 64


def convert(rows: Rows, folder: Path) -> None:
    offsets = np.cumsum([0, *map(len, rows.tokens)], dtype=np.int32)
    list_array: Any = pa.ListArray  # its stubs do not know numpy arrays
    tokens = list_array.from_arrays(offsets, np.concatenate(rows.tokens))
    table = pa.table({"tokens": tokens, "label": rows.labels.astype(np.int32)})
    datasets.Dataset(table).save_to_disk(folder)


class Loader(CountingLoader):
    settings = (
        f"Arrow; to_iterable_dataset(num_shards={SHARDS}).shuffle(buffer_size={BUFFER:,})"
        f'.with_format("arrow").iter({BATCH_ROWS})'
    )
    resuming = "skip(rows), because state_dict loses the shuffle buffer"

    def __init__(self, folder: Path) -> None:
        dataset = datasets.load_from_disk(folder).to_iterable_dataset(num_shards=SHARDS)
        self._dataset = dataset.shuffle(seed=SEED, buffer_size=BUFFER)

    def _batches(self) -> Iterator[Batch]:
        self._dataset.set_epoch(self._epoch)
        remaining = self._dataset.skip(self._rows_read) if self._rows_read else self._dataset
        for table in remaining.with_format("arrow").iter(BATCH_ROWS):
            tokens = table.column("tokens").combine_chunks()
            values, offsets = tokens.values.to_numpy(), tokens.offsets.to_numpy()
            token_lists = [values[a:b] for a, b in pairwise(offsets)]
            yield collate(token_lists, table.column("label").to_pylist())
