"""An update never reads a tensor's values on the host, which would wait for a GPU.

In place of a GPU: operations that return values to the host, or whose output size depends on
values, and tensors that are made from Python numbers, are counted on the CPU.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline import config
from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.run.folder import RunFolder
from pipeline.runtime.process_group import World
from pipeline.train.session import build
from tests.helpers.corpora import CASES, small_run_overrides

SYNCHRONIZING = {
    "_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "unique_dim",
    "_unique2", "lift_fresh",
}  # fmt: skip
"""Operations of ATen. The last one makes a tensor from Python numbers."""
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


class SyncRecorder(TorchDispatchMode):
    """Records the place of each operation that would wait for a GPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.places: list[str] = []
        for name in ("tolist", "numpy", "cpu"):  # these read a CPU tensor without an operation
            monkeypatch.setattr(Tensor, name, self._recorded(name, getattr(Tensor, name)))

    def _recorded(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._record(name)
            return method(*args, **kwargs)

        return call

    def _record(self, name: str) -> None:
        frames = [f for f in traceback.extract_stack() if "/pipeline/" in f.filename]
        place = f"{Path(frames[-1].filename).name}: {frames[-1].line}" if frames else ""
        self.places.append(f"{name}: {place}")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.__name__.split(".")[0]
        if name in SYNCHRONIZING or (name.startswith("index") and _has_mask(args)):
            self._record(name)
        return func(*args, **(kwargs or {}))


def _has_mask(args: Any) -> bool:
    """Return whether tensors are indexed by a mask: the number of selected items is a value."""
    indices = next((a for a in args if isinstance(a, list | tuple)), ())
    return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices)


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
    updates = trainer._transferable(trainer.stream.remaining(), training=True)
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
