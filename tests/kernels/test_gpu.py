"""The Triton loops equal the cells' equations, on a GPU or else in Triton's interpreter.

pip install triton && pytest tests/kernels/test_gpu.py
"""

from typing import Any

import pytest
import torch
from torch import Tensor

CUDA = torch.cuda.is_available()
pytest.importorskip("triton", reason="Triton, which comes with PyTorch for CUDA, is not installed")

from pipeline.kernels import gpu, loops  # noqa: E402
from tests.helpers.modules import weights_of  # noqa: E402
from tests.kernels.test_loops import make_inputs, outputs_and_gradients, reference  # noqa: E402

TOLERANCE = {torch.float32: 2e-5, torch.float16: 3e-3}
if CUDA:  # Triton's interpreter multiplies the bits of bf16 as if they were integers
    TOLERANCE[torch.bfloat16] = 0.03
    SHAPES = [(units, *size) for units in (5, 32, 64) for size in ((1, 1), (4, 3), (3, 19))]
else:  # the interpreter is slow
    SHAPES = [(5, 3, 19), (32, 1, 1), (64, 4, 3)]


@pytest.fixture(autouse=True)
def use_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_backend", lambda device: gpu)


@pytest.mark.parametrize("cell", ["gru", "goru"])
@pytest.mark.parametrize("units, steps, rows", SHAPES)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_states_and_gradients_equal_the_equations(
    cell: str, units: int, steps: int, rows: int, dtype: torch.dtype
) -> None:
    values = make_inputs(cell, units, steps, rows)
    # Negative candidate biases: with positive ones GORU's states are discontinuous at 0.
    values[4].data.sub_(2).clamp_(max=-0.01)
    rounded = [value.detach().to(dtype).double().requires_grad_() for value in values]
    lengths = torch.randint(1, steps + 1, (rows,))
    lengths[0] = max(steps - 1, 1)  # T may exceed every length
    expected = outputs_and_gradients(reference, cell, rounded, lengths)
    cast = [value.detach().to(dtype).requires_grad_() for value in rounded]
    actual = outputs_and_gradients(scan, cell, cast, lengths)
    for a, b in zip(actual, expected, strict=True):
        if dtype == torch.bfloat16:  # rounding can move single values across modReLU's threshold
            assert (a - b).norm() <= TOLERANCE[dtype] * (1 + b.norm())
        else:
            assert (a - b).abs().max() <= TOLERANCE[dtype] * (1 + b.abs().max())


@pytest.mark.parametrize("cell", ["gru", "goru"])
@pytest.mark.parametrize("index", [3, 4])  # a bias
def test_nan_propagates(cell: str, index: int) -> None:
    values = [value.detach().float() for value in make_inputs(cell, 32, 3, 2)]
    values[index].flatten()[-1] = float("nan")
    x, *weights, h0, c0 = values
    y, _ = scan(cell, x, torch.tensor([3, 2]), weights_of(weights), h0, c0, None)
    assert y[2, 0].isnan().any()


def scan(cell: str, *values: Any) -> tuple[Tensor, Tensor]:
    """Run `loops.scan` on the device of the kernels and return the results on the CPU."""

    def to_device(value: Any) -> Any:
        if isinstance(value, tuple):
            return type(value)(*map(to_device, value))
        return value if value is None else value.to("cuda" if CUDA else "cpu")

    y, c = loops.scan(cell, *map(to_device, values))
    return y.cpu(), c.cpu()
