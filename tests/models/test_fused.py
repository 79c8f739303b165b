"""Data types, memory layout and limits of the calls to PyTorch's fused layers."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.models import fused
from pipeline.models.fused import run_fused_layer
from pipeline.models.layers.recurrent import Layer, LayerState
from tests.helpers.settings import model_settings

T, B, INPUTS, H = 7, 5, 3, 4
CELLS = {
    "lstm": (torch.lstm, 4, 2),
    "gru": (torch.gru, 3, 1),
    "elman": (torch.rnn_tanh, 1, 1),
}
"""Function, gates and number of states."""


def arguments(cell: str, seed: int = 0) -> tuple[Any, Tensor, list[Tensor], list[Tensor]]:
    function, gates, count = CELLS[cell]
    draw = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).double()

    sizes = [(gates * H, INPUTS), (gates * H, H), (gates * H,), (gates * H,)]
    return (
        function,
        randn(T, B, INPUTS),
        [randn(B, H) for _ in range(count)],
        [randn(*size) for size in sizes],
    )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("limits", [(2, 2), (T, 3), (3, B)])
def test_blocks_of_rows_and_steps_equal_one_call(
    cell: str, limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    function, x, states, weights = arguments(cell)
    expected = run_fused_layer(function, x, states, weights)
    monkeypatch.setattr(fused, "MAX_STEPS", limits[0])
    monkeypatch.setattr(fused, "MAX_ROWS", limits[1])
    actual = run_fused_layer(function, x, states, weights)
    assert len(actual) == 1 + len(states)
    for a, b in zip(actual, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_the_requested_type_from_contiguous_states(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A substitute for cuDNN records its arguments; autocast is off, so that it changes none."""
    calls: list[tuple[Tensor, ...]] = []

    def record(x: Tensor, hx: Sequence[Tensor], weights: Sequence[Tensor], *_: Any) -> Any:
        assert not torch.is_autocast_enabled("cpu")
        calls.append((x, *hx, *weights))
        return x.new_zeros(*x.shape[:2], H), *(state.clone() for state in hx)

    monkeypatch.setattr(torch, "lstm", record)
    layer = Layer(INPUTS, model_settings(cell="lstm", hidden=H, native=False), bidirectional=True)
    every_second_row = torch.zeros(2, 2 * B, H)[:, ::2]  # [D, B, H], as after a beam search step
    with torch.autocast("cpu", dtype):
        y, state = layer(
            torch.randn(T, B, INPUTS),
            torch.full((B,), T),
            torch.arange(B),
            LayerState(every_second_row, every_second_row),
        )
    assert len(calls) == 2
    for tensors in calls:
        assert {x.dtype for x in tensors} == {dtype}
        assert all(x.is_contiguous() for x in tensors)
    assert {y.dtype, state.h.dtype, state.c.dtype} == {dtype}
