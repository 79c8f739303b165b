"""The loops in Triton against the equations: on a GPU, or without one in Triton's interpreter.

pip install triton && pytest tests/kernels/test_gpu.py
"""

from typing import Any

import pytest
import torch
from torch import Tensor

CUDA = torch.cuda.is_available()
pytest.importorskip("triton", reason="Triton, which comes with torch for CUDA, is not installed")

from pipeline.kernels import Weights, gpu, loops  # noqa: E402
from tests.kernels.test_loops import inputs, outcome, reference  # noqa: E402

TOLERANCE = {torch.float32: 2e-5, torch.float16: 3e-3}
if CUDA:  # the interpreter multiplies the bits of bf16 as if they were whole numbers
    TOLERANCE[torch.bfloat16] = 0.03


@pytest.fixture(autouse=True)
def by_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_backend", lambda device: gpu)


@pytest.mark.parametrize("cell", ["gru", "goru"])
@pytest.mark.parametrize("units", [5, 32, 64])
@pytest.mark.parametrize("steps, rows", [(1, 1), (4, 3), (3, 19)])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_states_and_all_gradients_are_those_of_the_equations(
    cell: str, units: int, steps: int, rows: int, dtype: torch.dtype
) -> None:
    values = inputs(cell, units, steps, rows)
    values[4].data.sub_(2).clamp_(max=-0.01)  # GORU's thresholds: above 0 its states jump at 0
    rounded = [value.detach().to(dtype).double().requires_grad_() for value in values]
    lengths = torch.randint(1, steps + 1, (rows,))
    lengths[0] = max(steps - 1, 1)  # none as long as the batch
    expected = outcome(reference, cell, rounded, lengths)
    cast = [value.detach().to(dtype).requires_grad_() for value in rounded]
    for found, wanted in zip(outcome(scan, cell, cast, lengths), expected, strict=True):
        assert (found - wanted).abs().max() <= TOLERANCE[dtype] * (1 + wanted.abs().max())


@pytest.mark.parametrize("cell", ["gru", "goru"])
@pytest.mark.parametrize("which", [3, 4])  # a bias
def test_what_is_not_a_number_comes_through(cell: str, which: int) -> None:
    values = [value.detach().float() for value in inputs(cell, 32, 3, 2)]
    values[which].flatten()[-1] = float("nan")
    x, *weights, h0, c0 = values
    y, _ = scan(cell, x, torch.tensor([3, 2]), Weights(*weights), h0, c0, None)
    assert y[2, 0].isnan().any()


def scan(cell: str, *values: Any) -> tuple[Tensor, Tensor]:
    """`loops.scan` where the kernels run, and back."""

    def there(value: Any) -> Any:
        if isinstance(value, tuple):
            return type(value)(*map(there, value))
        return value if value is None else value.to("cuda" if CUDA else "cpu")

    y, c = loops.scan(cell, *map(there, values))
    return y.cpu(), c.cpu()
