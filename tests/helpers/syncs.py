"""Records operations that would wait for a GPU, while they run on a CPU."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

SYNCHRONIZING = {
    "_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "unique_dim",
    "_unique2", "lift_fresh",
}  # fmt: skip
"""Operations of ATen. The last one makes a tensor from Python numbers."""


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
