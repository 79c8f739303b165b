"""The native loops against the equations, row by row and token by token, in float64."""

import pytest
import torch
from torch import Tensor

from pipeline.kernels import Weights, Zones, described, library, runs, scan

CELLS = {"lstm": 4, "gru": 3, "goru": 3, "elman": 1, "elman_relu": 1}
"""With their gates."""
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}


def step(cell: str, x: Tensor, h: Tensor, c: Tensor, w: Weights, d: int) -> tuple[Tensor, Tensor]:
    """One token of one row, as the papers write it."""
    wx, uh, b = w.input[d] @ x + w.bias[d], w.hidden[d] @ h, w.apart[d]
    if cell == "elman":
        return torch.tanh(wx + uh), c
    if cell == "elman_relu":
        return torch.relu(wx + uh), c
    if cell == "lstm":
        i, f, g, o = (wx + uh).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c
    (r, z, n), (u_r, u_z, u_n) = wx.chunk(3), uh.chunk(3)
    r, z = torch.sigmoid(r + u_r), torch.sigmoid(z + u_z)
    if cell == "gru":
        n = torch.tanh(n + r * (u_n + b))
    else:
        a = n + r * u_n
        n = a.sign() * torch.relu(a.abs() + 1e-3 + b)
    return (1 - z) * n + z * h, c


def reference(
    cell: str, x: Tensor, lengths: Tensor, w: Weights, h0: Tensor, c0: Tensor, zones: Zones | None
) -> tuple[Tensor, Tensor]:
    steps, rows, _ = x.shape
    directions, units = w.apart.shape
    states = {}
    last = {}
    for d in range(directions):
        for b in range(rows):
            h, c = h0[d, b], c0[d, b]
            tokens = range(int(lengths[b]))
            for t in reversed(tokens) if d else tokens:
                new_h, new_c = step(cell, x[t, b], h, c, w, d)
                if zones:
                    own = slice(d * units, (d + 1) * units)
                    new_h = torch.lerp(new_h, h, zones.h[t, b, own])
                    new_c = torch.lerp(new_c, c, zones.c[t, b, own])
                h, c = new_h, new_c
                states[t, b, d] = h
            last[d, b] = c
    zero = x.new_zeros(units)
    y = [states.get((t, b, d), zero) for t in range(steps) for b in range(rows) for d in (0, 1)]
    c_last = torch.stack([last[d, b] for d in range(directions) for b in range(rows)])
    return torch.stack(y).view(steps, rows, -1), c_last.view_as(c0)


def inputs(cell: str, units: int, steps: int, rows: int) -> list[Tensor]:
    """x, the four weights, h0 and c0, of both directions."""
    torch.manual_seed(units + 10 * steps + 100 * rows)
    g = CELLS[cell]
    shapes = [
        (steps, rows, 3),
        (2, g * units, 3),
        (2, g * units, units),
        (2, g * units),
        (2, units),
        (2, rows, units),
        (2, rows, units),
    ]
    values = [torch.randn(*shape, dtype=torch.float64) * 0.4 for shape in shapes]
    values[2] *= units**-0.5  # the recurrent weights: a state neither fades nor explodes
    return [value.requires_grad_() for value in values]


def outcome(
    run: object, cell: str, values: list[Tensor], lengths: Tensor, zones: Zones | None = None
) -> list[Tensor]:
    """The states, the last c if the cell has one, and the gradients of all inputs."""
    x, *weights, h0, c0 = values
    y, c = run(cell, x, lengths, Weights(*weights), h0, c0, zones)  # type: ignore[operator]
    outputs = [y, c] if cell == "lstm" else [y]
    torch.manual_seed(0)
    loss = sum((o.double() * torch.randn(o.shape, dtype=torch.float64)).sum() for o in outputs)
    assert isinstance(loss, Tensor)
    unused = torch.autograd.grad(loss, values, materialize_grads=True, allow_unused=True)
    return [*outputs, *unused]


needs_compiler = pytest.mark.skipif(library().loaded is None, reason=library().reason)


@needs_compiler
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("units", [1, 5, 16, 48, 64])
@pytest.mark.parametrize("steps, rows", [(1, 1), (4, 3), (3, 19)])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_states_and_all_gradients_are_those_of_the_equations(
    cell: str, units: int, steps: int, rows: int, dtype: torch.dtype
) -> None:
    values = inputs(cell, units, steps, rows)
    lengths = torch.randint(1, steps + 1, (rows,))
    lengths[0] = steps
    expected = outcome(reference, cell, values, lengths)
    cast = [value.detach().to(dtype).requires_grad_() for value in values]
    for found, wanted in zip(outcome(scan, cell, cast, lengths), expected, strict=True):
        assert (found - wanted).abs().max() <= TOLERANCE[dtype] * (1 + wanted.abs().max())


@pytest.mark.skipif(not library().runs(torch.bfloat16), reason="no bf16 products here")
@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
@pytest.mark.parametrize("units", [5, 64])
def test_bf16_is_off_by_its_rounding_only(cell: str, units: int) -> None:
    rounded = [v.detach().bfloat16().double().requires_grad_() for v in inputs(cell, units, 6, 9)]
    lengths = torch.tensor([6, 1, 2, 3, 4, 5, 6, 6, 1])
    expected = outcome(reference, cell, rounded, lengths)
    cast = [value.detach().bfloat16().requires_grad_() for value in rounded]
    for found, wanted in zip(outcome(scan, cell, cast, lengths), expected, strict=True):
        assert (found - wanted).abs().max() <= 0.02 * (1 + wanted.abs().max())


@needs_compiler
@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
def test_gradients_are_those_of_finite_differences(cell: str) -> None:
    values, lengths = inputs(cell, 3, 3, 2), torch.tensor([3, 2])

    def states(*values: Tensor) -> tuple[Tensor, Tensor]:
        x, w_input, w_hidden, bias, apart, h0, c0 = values
        return scan(cell, x, lengths, Weights(w_input, w_hidden, bias, apart), h0, c0)

    assert torch.autograd.gradcheck(states, values)


@needs_compiler
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("units", [5, 16])
@pytest.mark.parametrize("training", [True, False])
def test_zoneout_keeps_what_it_says(cell: str, units: int, training: bool) -> None:
    """Masks of 0 and 1, and shares in between, as in evaluation."""
    values, lengths = inputs(cell, units, 5, 3), torch.tensor([5, 1, 3])
    shares = torch.rand(2, 5, 3, 2 * units, dtype=torch.float64) * 0.9
    zones = Zones(*(shares < 0.4).double()) if training else Zones(*shares)
    expected = outcome(reference, cell, values, lengths, zones)
    for found, wanted in zip(outcome(scan, cell, values, lengths, zones), expected, strict=True):
        assert (found - wanted).abs().max() <= 1e-10 * (1 + wanted.abs().max())


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_and_not_finite_values_come_through(dtype: torch.dtype) -> None:
    if not library().runs(dtype):
        pytest.skip("no bf16 products here")
    x = torch.tensor([3e4, -3e4, float("nan"), float("inf")], dtype=dtype).view(1, 4, 1)
    weights = Weights(
        torch.ones(1, 64, 1, dtype=dtype),
        torch.zeros(1, 64, 16, dtype=dtype),
        torch.zeros(1, 64, dtype=dtype),
        torch.zeros(1, 16),
    )
    zero = torch.zeros(1, 4, 16)
    y, _ = scan("lstm", x, torch.ones(4, dtype=torch.int64), weights, zero, zero)
    assert torch.allclose(y[0, 0].float(), torch.tensor(1.0).tanh(), atol=1e-2)
    assert (y[0, 1] == 0).all()
    assert y[0, 2].isnan().all()
    assert torch.allclose(y[0, 3].float(), torch.tensor(1.0).tanh(), atol=1e-2)


@needs_compiler
@pytest.mark.parametrize("units", [5, 16])
def test_tensors_may_lie_in_memory_as_they_like(units: int) -> None:
    """Transposed, strided and expanded ones, as inputs and as gradients."""
    values, lengths = inputs("lstm", units, 4, 3), torch.tensor([4, 1, 3])

    def scattered(x: Tensor) -> Tensor:
        return x.transpose(0, -1).contiguous().transpose(0, -1)

    def results(values: list[Tensor], lengths: Tensor) -> list[Tensor]:
        x, *weights, h0, c0 = values
        y, c = scan("lstm", x, lengths, Weights(*weights), h0, c0)
        torch.manual_seed(0)
        loss = (y.transpose(0, 2) * torch.randn_like(y.transpose(0, 2))).sum()
        loss = loss + (c.transpose(0, 1) * torch.randn(3, 2, units)).sum() + y.sum()
        return [y, c, *torch.autograd.grad(loss, values)]

    expected = results(values, lengths)
    apart = torch.tensor([4, 9, 1, 9, 3, 9])[::2]
    moved = [scattered(v.detach()).requires_grad_() for v in values]
    for a, b in zip(results(moved, apart.int()), expected, strict=True):
        assert (a - b).abs().max() < 1e-10


@needs_compiler
def test_what_does_not_fit_is_refused() -> None:
    x, *weights, h0, c0 = inputs("gru", 16, 4, 3)
    w, lengths = Weights(*weights), torch.tensor([4, 1, 3])
    for wrong in ([5, 1, 3], [4, 0, 3]):
        with pytest.raises(ValueError, match=r"are not in 1\.\.4"):
            scan("gru", x, torch.tensor(wrong), w, h0, c0)
    with pytest.raises(ValueError, match=r"h0 \[2, 1, 16\]: is not \[2, 3, 16\]"):
        scan("gru", x, lengths, w, h0[:, :1], c0)
    assert not library().runs(torch.float16)


@needs_compiler
def test_the_fastest_loop_runs_and_is_named() -> None:
    cpu = torch.device("cpu")
    assert runs("gru", cpu, torch.float32)
    assert described("gru", cpu, torch.float32).startswith("native loops of ")
    for cell in ("lstm", "grid_lstm"):  # oneDNN's is faster, but has no zoneout
        assert not runs(cell, cpu, torch.float32)
        assert described(cell, cpu, torch.float32) == "torch's own loops"
        assert runs(cell, cpu, torch.float32, zoned=True)
        assert runs(cell, cpu, torch.float64)
    cuda = torch.device("cuda")
    assert described("lstm", cuda, torch.bfloat16) == "torch's own loops"
    assert not runs("goru", cuda, torch.float64)


@needs_compiler
def test_second_derivatives_are_refused() -> None:
    values = inputs("gru", 4, 3, 2)
    x, *weights, h0, c0 = values
    y, _ = scan("gru", x, torch.tensor([3, 2]), Weights(*weights), h0, c0)
    (first,) = torch.autograd.grad(y.square().sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
