"""The C++ loops equal the cells' equations, computed token by token in float64."""

import pytest
import torch
from torch import Tensor

from pipeline.kernels import Weights, Zones, describe, library, loops, prepare, scan, should_use
from tests.helpers.modules import weights_of

CELLS = {"lstm": 4, "gru": 3, "goru": 3, "elman": 1, "elman_relu": 1}
"""Number of gates of each cell."""
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}


def step(cell: str, x: Tensor, h: Tensor, c: Tensor, w: Weights, d: int) -> tuple[Tensor, Tensor]:
    """Compute one token of one row by the equations of the papers."""
    wx, uh, b = w.input[d] @ x + w.bias[d], w.hidden[d] @ h, w.candidate_bias[d]
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
    """Compute what `scan` returns, row by row and token by token."""
    steps, rows, _ = x.shape
    directions, units = w.candidate_bias.shape
    states = {}
    last = {}
    for d in range(directions):
        for b in range(rows):
            h, c = h0[d, b], c0[d, b]
            tokens = range(int(lengths[b]))
            for t in reversed(tokens) if d else tokens:
                new_h, new_c = step(cell, x[t, b], h, c, w, d)
                if zones:
                    in_direction = slice(d * units, (d + 1) * units)
                    new_h = torch.lerp(new_h, h, zones.h[t, b, in_direction])
                    new_c = torch.lerp(new_c, c, zones.c[t, b, in_direction])
                h, c = new_h, new_c
                states[t, b, d] = h
            last[d, b] = c
    zero = x.new_zeros(units)
    y = [states.get((t, b, d), zero) for t in range(steps) for b in range(rows) for d in (0, 1)]
    c_last = torch.stack([last[d, b] for d in range(directions) for b in range(rows)])
    return torch.stack(y).view(steps, rows, -1), c_last.view_as(c0)


def make_inputs(cell: str, units: int, steps: int, rows: int) -> list[Tensor]:
    """Return x, the four weights, h0 and c0, for two directions."""
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
    values[2] *= units**-0.5  # recurrent weights for which states neither vanish nor explode
    return [value.requires_grad_() for value in values]


def outputs_and_gradients(
    run: object, cell: str, values: list[Tensor], lengths: Tensor, zones: Zones | None = None
) -> list[Tensor]:
    """Return the states, the last c if the cell has one, and the gradients of all inputs."""
    x, *weights, h0, c0 = values
    y, c = run(cell, x, lengths, weights_of(weights), h0, c0, zones)  # type: ignore[operator]
    outputs = [y, c] if cell == "lstm" else [y]
    torch.manual_seed(0)
    loss = sum((o.double() * torch.randn(o.shape, dtype=torch.float64)).sum() for o in outputs)
    assert isinstance(loss, Tensor)
    gradients = torch.autograd.grad(loss, values, materialize_grads=True, allow_unused=True)
    return [*outputs, *gradients]


needs_compiler = pytest.mark.skipif(library().loaded is None, reason=library().reason)


@needs_compiler
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("units", [1, 5, 16, 48, 64])
@pytest.mark.parametrize("steps, rows", [(1, 1), (4, 3), (3, 19)])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_states_and_gradients_equal_the_equations(
    cell: str, units: int, steps: int, rows: int, dtype: torch.dtype
) -> None:
    values = make_inputs(cell, units, steps, rows)
    lengths = torch.randint(1, steps + 1, (rows,))
    lengths[0] = steps
    expected = outputs_and_gradients(reference, cell, values, lengths)
    cast = [value.detach().to(dtype).requires_grad_() for value in values]
    actual = outputs_and_gradients(scan, cell, cast, lengths)
    for a, b in zip(actual, expected, strict=True):
        assert (a - b).abs().max() <= TOLERANCE[dtype] * (1 + b.abs().max())


@pytest.mark.skipif(not library().supports(torch.bfloat16), reason="no bf16 multiplication")
@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
@pytest.mark.parametrize("units", [5, 64])
def test_bf16_differs_only_by_rounding(cell: str, units: int) -> None:
    values = make_inputs(cell, units, 6, 9)
    rounded = [value.detach().bfloat16().double().requires_grad_() for value in values]
    lengths = torch.tensor([6, 1, 2, 3, 4, 5, 6, 6, 1])
    expected = outputs_and_gradients(reference, cell, rounded, lengths)
    cast = [value.detach().bfloat16().requires_grad_() for value in rounded]
    actual = outputs_and_gradients(scan, cell, cast, lengths)
    for a, b in zip(actual, expected, strict=True):
        assert (a - b).abs().max() <= 0.02 * (1 + b.abs().max())


@needs_compiler
@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
def test_gradients_equal_finite_differences(cell: str) -> None:
    values, lengths = make_inputs(cell, 3, 3, 2), torch.tensor([3, 2])

    def states(*values: Tensor) -> tuple[Tensor, Tensor]:
        x, *weights, h0, c0 = values
        return scan(cell, x, lengths, weights_of(weights), h0, c0)

    assert torch.autograd.gradcheck(states, values)


@needs_compiler
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("units", [5, 16])
@pytest.mark.parametrize("training", [True, False])
def test_zoneout_keeps_the_given_shares(cell: str, units: int, training: bool) -> None:
    """Masks of 0 and 1 as in training, and shares in between as in evaluation."""
    values, lengths = make_inputs(cell, units, 5, 3), torch.tensor([5, 1, 3])
    shares = torch.rand(2, 5, 3, 2 * units, dtype=torch.float64) * 0.9
    zones = Zones(*(shares < 0.4).double()) if training else Zones(*shares)
    expected = outputs_and_gradients(reference, cell, values, lengths, zones)
    actual = outputs_and_gradients(scan, cell, values, lengths, zones)
    for a, b in zip(actual, expected, strict=True):
        assert (a - b).abs().max() <= 1e-10 * (1 + b.abs().max())


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_values_saturate_and_nan_propagates(dtype: torch.dtype) -> None:
    if not library().supports(dtype):
        pytest.skip("no bf16 multiplication")
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
def test_tensors_may_have_any_strides(units: int) -> None:
    """Transposed, strided and expanded tensors, as inputs and as gradients."""
    values, lengths = make_inputs("lstm", units, 4, 3), torch.tensor([4, 1, 3])

    def transposed_in_memory(x: Tensor) -> Tensor:
        return x.transpose(0, -1).contiguous().transpose(0, -1)

    def results(values: list[Tensor], lengths: Tensor) -> list[Tensor]:
        x, *weights, h0, c0 = values
        y, c = scan("lstm", x, lengths, weights_of(weights), h0, c0)
        torch.manual_seed(0)
        loss = (y.transpose(0, 2) * torch.randn_like(y.transpose(0, 2))).sum()
        loss = loss + (c.transpose(0, 1) * torch.randn(3, 2, units)).sum() + y.sum()
        return [y, c, *torch.autograd.grad(loss, values)]

    expected = results(values, lengths)
    strided_lengths = torch.tensor([4, 9, 1, 9, 3, 9])[::2]
    moved = [transposed_in_memory(v.detach()).requires_grad_() for v in values]
    for a, b in zip(results(moved, strided_lengths.int()), expected, strict=True):
        assert (a - b).abs().max() < 1e-10


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("cell, units", [("lstm", 32), ("gru", 32), ("gru", 5)])
def test_prepared_weights_give_the_same_states(cell: str, units: int, dtype: torch.dtype) -> None:
    if not library().supports(dtype):
        pytest.skip("no bf16 multiplication")
    x, *weights, h0, c0 = make_inputs(cell, units, 4, 3)
    lengths, given = torch.tensor([4, 1, 3]), weights_of(weights)
    with torch.no_grad():
        expected = scan(cell, x.to(dtype), lengths, given, h0, c0)
        made = prepare(given, dtype)
        actual = scan(cell, x.to(dtype), lengths, made, h0, c0)
    assert bool(made.packed) == (units == 32)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


@needs_compiler
def test_wrong_lengths_and_shapes_are_rejected() -> None:
    x, *weights, h0, c0 = make_inputs("gru", 16, 4, 3)
    w, lengths = weights_of(weights), torch.tensor([4, 1, 3])
    for wrong in ([5, 1, 3], [4, 0, 3]):
        with pytest.raises(ValueError, match=r"expected 1\.\.4"):
            scan("gru", x, torch.tensor(wrong), w, h0, c0)
    with pytest.raises(ValueError, match=r"h0 has shape \[2, 1, 16\]; expected \[2, 3, 16\]"):
        scan("gru", x, lengths, w, h0[:, :1], c0)
    assert not library().supports(torch.float16)


@needs_compiler
def test_the_fastest_implementation_is_used_and_describe() -> None:
    cpu = torch.device("cpu")
    assert should_use("gru", cpu, torch.float32)
    assert describe("gru", cpu, torch.float32).startswith("C++ loops (")
    for cell in ("lstm",):  # oneDNN is faster, but has no zoneout
        assert not should_use(cell, cpu, torch.float32)
        assert describe(cell, cpu, torch.float32) == "PyTorch layers"
        assert should_use(cell, cpu, torch.float32, zoneout=True)
        assert should_use(cell, cpu, torch.float64)
    cuda = torch.device("cuda")
    assert describe("lstm", cuda, torch.bfloat16) == "PyTorch layers"
    assert not should_use("goru", cuda, torch.float64)


def test_triton_that_does_not_compile_is_reported_and_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class CompilationError(Exception):
        """As Triton's: not a RuntimeError."""

    def compile_kernels(*_: object) -> None:
        raise CompilationError("at 12:4: no such instruction\nmore lines")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(loops, "scan", compile_kernels)
    reason = loops._triton_error.__wrapped__("goru", torch.device("cpu"), torch.float32)
    assert reason == "at 12:4: no such instruction"
    monkeypatch.setattr(loops, "_triton_error", lambda *_: reason)
    cuda, slow = torch.device("cuda"), "PyTorch operations, one token at a time, which is slow"
    assert not should_use("goru", cuda, torch.float32)
    assert describe("goru", cuda, torch.float32) == f"{slow} ({reason})"
    zoneout = describe("lstm", cuda, torch.float32, zoneout=True)
    assert zoneout == f"{slow} (zoneout has no GPU kernel)"


@needs_compiler
def test_second_derivatives_are_rejected() -> None:
    values = make_inputs("gru", 4, 3, 2)
    x, *weights, h0, c0 = values
    y, _ = scan("gru", x, torch.tensor([3, 2]), weights_of(weights), h0, c0)
    (first,) = torch.autograd.grad(y.square().sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
