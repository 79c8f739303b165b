"""MosaicML Streaming, used as its documentation recommends.

See its pages "Dataset Format", "Shuffling", "Performance Tuning" and "Fast Resumption".
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.loaders.common import BATCH_ROWS, SEED, Rows, StatefulLoader, collate_dicts

# Streaming imports torchvision, which does not exist for every torch build, but only its image
# datasets use it: stub modules are enough here.
if find_spec("torchvision") is None:
    stubs: dict[str, Any] = {}
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms.functional"):
        stubs[name] = ModuleType(name)
        stubs[name].__spec__ = ModuleSpec(name, None)
    stubs["torchvision.datasets"].VisionDataset = object
    stubs["torchvision.transforms.functional"].to_tensor = None
    sys.modules.update(stubs)

import streaming
from streaming.base.util import clean_stale_shared_memory


def convert(rows: Rows, folder: Path) -> None:
    columns = {"tokens": "ndarray:uint16", "label": "int"}
    with streaming.MDSWriter(out=str(folder), columns=columns) as writer:
        for tokens, label in zip(rows.tokens, rows.labels.tolist(), strict=True):
            writer.write({"tokens": tokens, "label": label})


class Loader(StatefulLoader):
    settings = (
        f"MDS, one ndarray:uint16 per row, shards of 64 MB; StreamingDataset, StreamingDataLoader, "
        f"{BATCH_ROWS} rows, shuffle py1e, no workers"
    )
    resuming = "StreamingDataLoader.load_state_dict"

    def __init__(self, folder: Path) -> None:
        clean_stale_shared_memory()
        dataset = streaming.StreamingDataset(
            local=str(folder),
            batch_size=BATCH_ROWS,
            shuffle=True,
            shuffle_algo="py1e",
            shuffle_seed=SEED,
        )
        self._loader = streaming.StreamingDataLoader(
            dataset, batch_size=BATCH_ROWS, num_workers=0, collate_fn=collate_dicts
        )
