"""Grid-LSTM cell by cell, as the paper writes it, in float64."""

import itertools

import pytest
import torch
from torch import Tensor

from pipeline.models.cells import Cell
from pipeline.models.encoder import encoder
from pipeline.models.layers.grid import GridStack
from pipeline.models.settings import ModelSettings


def lstm(cell: Cell, inputs: Tensor, h: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """(h_i, m_i) = LSTM_i(H, m_i), H = [inputs, h]."""
    i, f, g, o = (cell.input @ inputs + cell.recurrent() @ h + cell.bias).chunk(4)
    m = f.sigmoid() * m + i.sigmoid() * g.tanh()
    return o.sigmoid() * m.tanh(), m


def grid(net: GridStack, x: Tensor, length: int) -> Tensor:
    """The top's hidden states of one row x [T, E], cell by cell."""
    units = net.outputs
    zero = x.new_zeros(units)
    hidden = [net.project(x[t]) for t in range(length)]
    memory = [zero] * length
    for number in range(len(net.dropouts)):
        time = net.times[number % len(net.times)].cells
        (depth,) = net.depths[number % len(net.depths)].layer.cells
        now, before = [], []
        for d, cell in enumerate(time):
            h, m, reached, left = zero, zero, {}, {}
            for t in reversed(range(length)) if d else range(length):
                left[t] = h
                h, m = lstm(cell, hidden[t], h, m)
                reached[t] = h
            now.append(reached)
            before.append(left)
        seen = now if net.priority else before
        for t in range(length):
            states = torch.cat([direction[t] for direction in seen])
            hidden[t], memory[t] = lstm(depth, states, hidden[t], memory[t])
    return torch.stack(hidden)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("priority", [True, False])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_states_and_gradients_are_those_of_the_grid_cell_by_cell(
    native: bool, priority: bool, tied: bool, bidirectional: bool
) -> None:
    torch.manual_seed(0)
    settings = ModelSettings(
        cell="grid_lstm",
        hidden=4,
        layers=3,
        bidirectional=bidirectional,
        grid_tied=tied,
        grid_priority=priority,
        native=native,
    )
    net = encoder(6, settings).double()
    assert isinstance(net, GridStack)
    x, lengths = torch.randn(5, 3, 6, dtype=torch.float64), torch.tensor([5, 1, 3])
    y, _ = net(x, lengths, lengths)
    rows = [grid(net, x[:, b], n) for b, n in enumerate([5, 1, 3])]
    for b, row in enumerate(rows):
        assert (y[: len(row), b] - row).abs().max() < 1e-10
        assert (y[len(row) :, b] == 0).all()
    draw = torch.randn_like(y)
    found = torch.autograd.grad((y * draw).sum(), list(net.parameters()))
    expected_loss = sum((row * draw[: len(row), b]).sum() for b, row in enumerate(rows))
    assert isinstance(expected_loss, Tensor)
    expected = torch.autograd.grad(expected_loss, list(net.parameters()))
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() < 1e-9


def test_tied_layers_share_their_weights() -> None:
    def parameters(tied: bool, layers: int) -> int:
        settings = ModelSettings(cell="grid_lstm", hidden=4, layers=layers, grid_tied=tied)
        return sum(p.numel() for p in encoder(4, settings).parameters())

    assert parameters(True, 5) == parameters(True, 1) == parameters(False, 1)
    assert parameters(False, 5) > 4 * parameters(True, 5)


@pytest.mark.parametrize("tied", [True, False])
def test_zoneout_draws_for_each_layer_anew(tied: bool) -> None:
    settings = ModelSettings(cell="grid_lstm", hidden=8, layers=6, grid_tied=tied, zoneout=0.5)
    net = encoder(4, settings)
    assert isinstance(net, GridStack)
    drawn: list[Tensor] = []
    for time in net.times:
        time.zoneout.register_forward_hook(lambda module, inputs, zones: drawn.append(zones.h))
    net(torch.randn(5, 2, 4), torch.tensor([5, 5]), torch.tensor([1, 2]))
    assert len(drawn) == 6
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))


def test_a_grid_of_one_dimension_is_an_lstm_along_depth() -> None:
    """Without input: its state goes from layer to layer, token by token."""
    settings = ModelSettings(
        cell="grid_lstm", hidden=4, layers=6, grid_dimensions=1, grid_tied=True
    )
    net = encoder(3, settings).double()
    assert isinstance(net, GridStack)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    y, _ = net(x, torch.tensor([5, 5]), torch.tensor([0, 0]))
    (depth,) = net.depths[0].layer.cells
    own = torch.nn.LSTMCell(1, 4).double()
    with torch.no_grad():
        own.weight_ih.zero_()
        own.weight_hh.copy_(depth.recurrent())
        own.bias_ih.copy_(depth.bias)
        own.bias_hh.zero_()
        state = net.project(x).flatten(0, 1), torch.zeros(10, 4, dtype=torch.float64)
        for _ in range(6):
            state = own(torch.zeros(10, 1, dtype=torch.float64), state)
    assert (y.flatten(0, 1) - state[0]).abs().max() < 1e-12
