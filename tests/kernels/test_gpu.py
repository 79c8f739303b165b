"""The loops in Triton against the equations: on a GPU, or without one in Triton's interpreter.

pip install triton && pytest tests/kernels/test_gpu.py
"""

import os

import pytest
import torch

CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
pytest.importorskip("triton", reason="Triton, which comes with torch for CUDA, is not installed")

from pipeline.kernels import Weights, gpu, loops  # noqa: E402
from tests.kernels.test_loops import inputs, outcome, reference  # noqa: E402


@pytest.fixture(autouse=True)
def by_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_backend", lambda device: gpu)


@pytest.mark.parametrize("cell", ["gru", "goru"])
@pytest.mark.parametrize("units", [5, 32, 64])
@pytest.mark.parametrize("steps, rows", [(1, 1), (4, 3), (3, 19)])
def test_states_and_all_gradients_are_those_of_the_equations(
    cell: str, units: int, steps: int, rows: int
) -> None:
    values = inputs(cell, units, steps, rows)
    lengths = torch.randint(1, steps + 1, (rows,))
    lengths[0] = steps
    expected = outcome(reference, cell, values, lengths)

    def scan(cell, x, lengths, weights, h0, c0, zones):  # type: ignore[no-untyped-def]
        device = torch.device("cuda" if CUDA else "cpu")
        moved = Weights(*(w.to(device) for w in weights))
        y, c = loops.scan(
            cell, x.to(device), lengths.to(device), moved, h0.to(device), c0.to(device), zones
        )
        return y.cpu(), c.cpu()

    cast = [value.detach().float().requires_grad_() for value in values]
    for found, wanted in zip(outcome(scan, cell, cast, lengths), expected, strict=True):
        assert (found - wanted).abs().max() <= 2e-5 * (1 + wanted.abs().max())
