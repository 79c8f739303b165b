"""The grid LSTM equals the paper's equations, computed cell by cell in float64."""

import itertools

import pytest
import torch
from torch import Tensor

from pipeline.models.cell import Cell
from pipeline.models.encoder import encoder
from pipeline.models.encoders.grid import GridStack
from pipeline.models.layers.depth_lstm import DepthLSTM
from pipeline.models.layers.recurrent import Layer
from tests.helpers.modules import modules_of_type
from tests.helpers.settings import model_settings


def lstm(cell: Cell, inputs: Tensor, h: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """Compute (h_i, m_i) = LSTM_i(H, m_i) with H = [inputs, h]."""
    i, f, g, o = (cell.input @ inputs + cell.recurrent_weight() @ h + cell.bias).chunk(4)
    m = f.sigmoid() * m + i.sigmoid() * g.tanh()
    return o.sigmoid() * m.tanh(), m


def reference(net: GridStack, x: Tensor, length: int) -> Tensor:
    """Compute the top layer's hidden states of one row x [T, E], cell by cell."""
    units = net.outputs
    zero = x.new_zeros(units)
    hidden = [net.project(x[t]) for t in range(length)]
    memory = [zero] * length
    times, depths = modules_of_type(net.times, Layer), modules_of_type(net.depths, DepthLSTM)
    for number in range(len(net.dropouts)):
        time_cells = times[number % len(times)].cells
        (depth,) = depths[number % len(depths)].layer.cells
        new_states, old_states = [], []
        for d, cell in enumerate(time_cells):
            h, m, new, old = zero, zero, {}, {}
            for t in reversed(range(length)) if d else range(length):
                old[t] = h
                h, m = lstm(cell, hidden[t], h, m)
                new[t] = h
            new_states.append(new)
            old_states.append(old)
        time_states = new_states if net.priority else old_states
        for t in range(length):
            states = torch.cat([direction[t] for direction in time_states])
            hidden[t], memory[t] = lstm(depth, states, hidden[t], memory[t])
    return torch.stack(hidden)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("priority", [True, False])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_states_and_gradients_equal_the_equations(
    native: bool, priority: bool, tied: bool, bidirectional: bool
) -> None:
    torch.manual_seed(0)
    settings = model_settings(
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
    y, _ = net(x, lengths, torch.arange(3))  # dropout keys
    rows = [reference(net, x[:, b], n) for b, n in enumerate([5, 1, 3])]
    for b, row in enumerate(rows):
        assert (y[: len(row), b] - row).abs().max() < 1e-10
        assert (y[len(row) :, b] == 0).all()
    dy = torch.randn_like(y)
    actual = torch.autograd.grad((y * dy).sum(), list(net.parameters()))
    expected_loss = sum((row * dy[: len(row), b]).sum() for b, row in enumerate(rows))
    assert isinstance(expected_loss, Tensor)
    expected = torch.autograd.grad(expected_loss, list(net.parameters()))
    for gradient, expected_gradient in zip(actual, expected, strict=True):
        assert (gradient - expected_gradient).abs().max() < 1e-9


def test_tied_layers_share_their_weights() -> None:
    def parameter_count(tied: bool, layers: int) -> int:
        settings = model_settings(cell="grid_lstm", hidden=4, layers=layers, grid_tied=tied)
        return sum(p.numel() for p in encoder(4, settings).parameters())

    assert parameter_count(True, 5) == parameter_count(True, 1) == parameter_count(False, 1)
    assert parameter_count(False, 5) > 4 * parameter_count(True, 5)


@pytest.mark.parametrize("tied", [True, False])
def test_each_layer_has_its_own_zoneout_masks(tied: bool) -> None:
    settings = model_settings(cell="grid_lstm", hidden=8, layers=6, grid_tied=tied, zoneout=0.5)
    net = encoder(4, settings)
    assert isinstance(net, GridStack)
    masks: list[Tensor] = []
    for layer in modules_of_type(net.times, Layer):
        layer.zoneout.register_forward_hook(lambda module, inputs, zones: masks.append(zones.h))
    net(torch.randn(5, 2, 4), torch.tensor([5, 5]), torch.tensor([1, 2]))
    assert len(masks) == 6
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(masks, 2))


def test_a_grid_of_one_dimension_is_an_lstm_along_depth() -> None:
    """The LSTM has no input; its state goes from layer to layer, separately for each token."""
    settings = model_settings(
        cell="grid_lstm", hidden=4, layers=6, grid_dimensions=1, grid_tied=True
    )
    net = encoder(3, settings).double()
    assert isinstance(net, GridStack)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    y, _ = net(x, torch.tensor([5, 5]), torch.tensor([0, 0]))
    (depth,) = modules_of_type(net.depths, DepthLSTM)[0].layer.cells
    lstm_cell = torch.nn.LSTMCell(1, 4).double()
    with torch.no_grad():
        lstm_cell.weight_ih.zero_()
        lstm_cell.weight_hh.copy_(depth.recurrent_weight())
        lstm_cell.bias_ih.copy_(depth.bias)
        lstm_cell.bias_hh.zero_()
        state = net.project(x).flatten(0, 1), torch.zeros(10, 4, dtype=torch.float64)
        for _ in range(6):
            state = lstm_cell(torch.zeros(10, 1, dtype=torch.float64), state)
    assert (y.flatten(0, 1) - state[0]).abs().max() < 1e-12
