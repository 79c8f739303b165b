"""An update never reads a tensor's values on the host, which would wait for a GPU.

In place of a GPU: operations that return values to the host, or whose output size depends on
values, and tensors that are made from Python numbers, are counted on the CPU.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import config
from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.run.folder import RunFolder
from pipeline.runtime.process_group import World
from pipeline.training.session import build
from tests.helpers.corpora import CASES, small_run_overrides
from tests.helpers.syncs import SyncRecorder

EVERYTHING = [
    "model.dropout=0.1", "model.weight_drop=0.1", "train.ema_decay=0.9", "train.max_grad_norm=1",
    "model.native=false",  # the C++ loops run on a CPU only
]  # fmt: skip
COUNTS = (
    "lift_fresh: trainer.py: "
    "device_counts = to_device(torch.tensor(counts, dtype=sums.dtype), sums.device)"
)
"""The only tensor of an update that is made from numbers; it is copied without waiting."""
CPU_ONLY = {"_local_scalar_dense: tagger.py: flat = flat[:, : int(lengths.max())]"}


@pytest.mark.parametrize("task", CASES)
def test_an_update_does_not_wait_for_the_device(
    task: str,
    corpora: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overrides = [*small_run_overrides(corpora(task), task), *EVERYTHING, *CASES[task].overrides]
    settings = config.load(None, [*overrides, f"run.dir={tmp_path}"])
    manifest = open_dataset(settings.corpus.shards)
    world = World(0, 1, torch.device("cpu"))
    trainer = build(settings, manifest, world, RunFolder(tmp_path), None)
    updates = trainer._training_updates()
    trainer._update(next(updates))  # creates the optimizer's state
    update = next(updates)
    with monkeypatch.context() as patch, SyncRecorder(patch) as recorder:
        trainer._update(update)
    updates.close()
    assert set(recorder.places) - CPU_ONLY == {COUNTS}
    assert recorder.places.count(COUNTS) == 1


def test_recorder_finds_each_kind_of_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(3.0)
    kinds: list[Callable[[], Any]] = [
        lambda: x.sum().item(),
        lambda: x.tolist(),
        lambda: bool((x > 1).all()),
        lambda: x[x > 1],
        lambda: torch.tensor([1, 2]),
        lambda: x.nonzero(),
    ]
    for kind in kinds:
        with monkeypatch.context() as patch, SyncRecorder(patch) as recorder:
            kind()
        assert recorder.places, "an operation that waits was not found"
