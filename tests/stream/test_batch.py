"""Copies of a batch to and from a device."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.stream.batch import Batch


@pytest.mark.parametrize("target, waits", [("cpu", True), ("meta", False)])
def test_only_copies_to_the_cpu_are_synchronous(
    target: str, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading host memory before an asynchronous copy has arrived gives garbage."""
    calls: list[dict[str, Any]] = []
    copy = Tensor.to

    def record(tensor: Tensor, *arguments: Any, **options: Any) -> Tensor:
        calls.append(options)
        return copy(tensor, *arguments, **options)

    values = torch.arange(3)
    batch = Batch({"tokens": values}, values, values, values)
    monkeypatch.setattr(Tensor, "to", record)
    batch.to(torch.device(target))
    assert [bool(options.get("non_blocking")) for options in calls] == [not waits] * 4
