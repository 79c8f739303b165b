"""Grid-LSTM over images, place by place, in float64."""

import pytest
import torch
from torch import Tensor

from pipeline.models.layers.grid_image import GridImage
from pipeline.models.settings import ModelSettings
from tests.models.layers.test_grid import lstm


def grid(net: GridImage, x: Tensor) -> Tensor:
    """The top's hidden states of one image x [R, C, E], place by place."""
    rows, columns, _ = x.shape
    zero = x.new_zeros(net.outputs)
    places = [(r, c) for r in range(rows) for c in range(columns)]
    hidden = {place: net.project(x[place]) for place in places}
    memory = dict.fromkeys(places, zero)
    for number in range(len(net.dropouts)):
        plane = net.planes[number % len(net.planes)]
        (depth,) = net.depths[number % len(net.depths)].layer.cells
        down, across = -1 if number & 1 else 1, -1 if number & 2 else 1
        reached: dict[tuple[int, int], tuple[Tensor, ...]] = {}
        for r, c in sorted(places, key=lambda place: (down * place[0], across * place[1])):
            h_down, m_down = reached.get((r - down, c), (zero,) * 4)[:2]
            h_across, m_across = reached.get((r, c - across), (zero,) * 4)[2:]
            here = hidden[r, c]
            reached[r, c] = (
                *lstm(plane.down, torch.cat([here, h_across]), h_down, m_down),
                *lstm(plane.across, torch.cat([here, h_down]), h_across, m_across),
            )
        for place in places:
            seen = torch.cat([reached[place][0], reached[place][2]])
            hidden[place], memory[place] = lstm(depth, seen, hidden[place], memory[place])
    return torch.stack([hidden[place] for place in places]).view(rows, columns, -1)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shape", [(3, 5), (4, 2), (1, 1)])
def test_states_and_gradients_are_those_of_the_grid_place_by_place(
    tied: bool, shape: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    net = GridImage(6, ModelSettings(cell="grid_lstm", hidden=3, layers=5, grid_tied=tied)).double()
    x = torch.randn(*shape, 2, 6, dtype=torch.float64)
    y = net(x, torch.tensor([1, 2]))
    images = torch.stack([grid(net, x[:, :, b]) for b in range(2)], 2)
    assert (y - images).abs().max() < 1e-10
    draw = torch.randn_like(y)
    found, expected = (
        torch.autograd.grad((states * draw).sum(), list(net.parameters())) for states in (y, images)
    )
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() < 1e-9


def test_from_the_third_layer_on_every_place_knows_of_all_others() -> None:
    def reach(layers: int, place: tuple[int, int]) -> int:
        """How many of the places' inputs a place's state depends on."""
        torch.manual_seed(0)
        net = GridImage(4, ModelSettings(cell="grid_lstm", hidden=8, layers=layers))
        x = torch.randn(3, 3, 1, 4, requires_grad=True)
        (gradient,) = torch.autograd.grad(net(x, torch.tensor([0]))[place].sum(), x)
        return int((gradient.abs().amax(-1) > 0).sum())

    assert [reach(layers, (1, 1)) for layers in (1, 2)] == [4, 6]
    assert {reach(3, (r, c)) for r in range(3) for c in range(3)} == {9}


def test_bf16_keeps_the_memory_in_float32() -> None:
    torch.manual_seed(0)
    net = GridImage(4, ModelSettings(cell="grid_lstm", hidden=16, layers=2))
    x = torch.randn(4, 4, 2, 4)
    exact = net(x, torch.tensor([0, 1]))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(x, torch.tensor([0, 1]))
    assert rounded.dtype == torch.bfloat16
    assert 0 < (rounded - exact).abs().max() < 0.05
