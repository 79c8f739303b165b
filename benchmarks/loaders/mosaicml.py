"""MosaicML Streaming, as its documentation advises ("Dataset Format", "Shuffling", "Performance
Tuning", "Fast Resumption")."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from loaders.common import ROWS, SEED, Rows, Stateful, collate_dicts

if find_spec("torchvision") is None:  # only its image datasets need it; not built for every torch
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms.functional"):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__spec__ = ModuleSpec(name, None)
    sys.modules["torchvision.datasets"].VisionDataset = object
    sys.modules["torchvision.transforms.functional"].to_tensor = None

import streaming
from streaming.base.util import clean_stale_shared_memory


def convert(rows: Rows, folder: Path) -> None:
    columns = {"tokens": "ndarray:uint16", "label": "int"}
    with streaming.MDSWriter(out=str(folder), columns=columns) as out:
        for tokens, label in zip(rows.tokens, rows.labels.tolist(), strict=True):
            out.write({"tokens": tokens, "label": label})


class Loader(Stateful):
    settings = (
        f"MDS, ndarray:uint16 a row, shards of 64 MB; StreamingDataset and StreamingDataLoader, "
        f"{ROWS} rows, shuffle py1e, no workers"
    )
    resuming = "StreamingDataLoader.load_state_dict"

    def __init__(self, folder: Path) -> None:
        clean_stale_shared_memory()
        dataset = streaming.StreamingDataset(
            local=str(folder), batch_size=ROWS, shuffle=True, shuffle_algo="py1e", shuffle_seed=SEED
        )
        self._loader = streaming.StreamingDataLoader(
            dataset, batch_size=ROWS, num_workers=0, collate_fn=collate_dicts
        )
