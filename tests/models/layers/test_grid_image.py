"""The grid LSTM over images equals its equations, computed position by position in float64."""

import pytest
import torch
from torch import Tensor

from pipeline.models.cells.grid_lstm import GridLstm
from pipeline.models.layers.depth_lstm import DepthLSTM
from pipeline.models.layers.grid_image import GridImage, PlaneLSTM
from tests.helpers.modules import modules_of_type
from tests.models.layers.test_grid import lstm


def reference(net: GridImage, x: Tensor) -> Tensor:
    """Compute the top layer's hidden states of one image x [R, C, E], position by position."""
    rows, columns, _ = x.shape
    zero = x.new_zeros(net.outputs)
    positions = [(r, c) for r in range(rows) for c in range(columns)]
    hidden = {position: net.project(x[position]) for position in positions}
    memory = dict.fromkeys(positions, zero)
    planes, depths = modules_of_type(net, PlaneLSTM), modules_of_type(net, DepthLSTM)
    for number in range(len(net.dropouts)):
        plane = planes[number % len(planes)]
        (depth,) = depths[number % len(depths)].layer.cells
        down, across = -1 if number & 1 else 1, -1 if number & 2 else 1
        new: dict[tuple[int, int], tuple[Tensor, ...]] = {}
        for r, c in sorted(positions, key=lambda rc: (down * rc[0], across * rc[1])):
            h_down, m_down = new.get((r - down, c), (zero,) * 4)[:2]
            h_across, m_across = new.get((r, c - across), (zero,) * 4)[2:]
            depth_h = hidden[r, c]
            new[r, c] = (
                *lstm(plane.down, torch.cat([depth_h, h_across]), h_down, m_down),
                *lstm(plane.across, torch.cat([depth_h, h_down]), h_across, m_across),
            )
        for p in positions:
            plane_states = torch.cat([new[p][0], new[p][2]])
            hidden[p], memory[p] = lstm(depth, plane_states, hidden[p], memory[p])
    return torch.stack([hidden[p] for p in positions]).view(rows, columns, -1)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shape", [(3, 5), (4, 2), (1, 1)])
def test_states_and_gradients_equal_the_equations(tied: bool, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = GridImage(
        6, GridLstm.Settings(cell="grid_lstm", hidden=3, layers=5, grid_tied=tied)
    ).double()
    x = torch.randn(*shape, 2, 6, dtype=torch.float64)
    y = net(x, torch.tensor([1, 2]))
    expected = torch.stack([reference(net, x[:, :, b]) for b in range(2)], 2)
    assert (y - expected).abs().max() < 1e-10
    dy = torch.randn_like(y)
    gradients, expected_gradients = (
        torch.autograd.grad((states * dy).sum(), list(net.parameters())) for states in (y, expected)
    )
    for a, b in zip(gradients, expected_gradients, strict=True):
        assert (a - b).abs().max() < 1e-9


def test_from_the_third_layer_on_every_position_depends_on_all_others() -> None:
    def receptive_field(layers: int, position: tuple[int, int]) -> int:
        """Count the positions whose inputs affect a position's state."""
        torch.manual_seed(0)
        net = GridImage(4, GridLstm.Settings(cell="grid_lstm", hidden=8, layers=layers))
        x = torch.randn(3, 3, 1, 4, requires_grad=True)
        (gradient,) = torch.autograd.grad(net(x, torch.tensor([0]))[position].sum(), x)
        return int((gradient.abs().amax(-1) > 0).sum())

    assert [receptive_field(layers, (1, 1)) for layers in (1, 2)] == [4, 6]
    assert {receptive_field(3, (r, c)) for r in range(3) for c in range(3)} == {9}


def test_bf16_keeps_the_memory_in_float32() -> None:
    torch.manual_seed(0)
    net = GridImage(4, GridLstm.Settings(cell="grid_lstm", hidden=16, layers=2))
    x = torch.randn(4, 4, 2, 4)
    exact = net(x, torch.tensor([0, 1]))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(x, torch.tensor([0, 1]))
    assert rounded.dtype == torch.bfloat16
    assert 0 < (rounded - exact).abs().max() < 0.05
