"""Rotations are orthogonal, also after training, and GORU follows its equations."""

import pytest
import torch

from pipeline.models.cells.goru import Goru, Rotations
from pipeline.models.layers.recurrent import Layer


@pytest.mark.parametrize("units, capacity", [(2, 0), (64, 0), (256, 0), (7, 2), (100, 4), (64, 64)])
def test_rotations_give_an_orthogonal_matrix(units: int, capacity: int) -> None:
    torch.manual_seed(0)
    q = Rotations(units, capacity)()
    assert (q.T @ q - torch.eye(units)).abs().max() < 5e-6
    assert torch.linalg.det(q.double()).item() == pytest.approx(1, abs=1e-5)


def test_the_fft_style_connects_all_coordinates() -> None:
    assert (Rotations(32)() != 0).all()


def test_layers_rotate_neighbors_in_alternating_pairs() -> None:
    rotations = Rotations(4, 2).double()
    with torch.no_grad():
        rotations.angles.copy_(torch.tensor([0.3, 0.5, 0.7, 0.0]))
    c, s = (lambda a: torch.tensor(a).cos()), (lambda a: torch.tensor(a).sin())
    first = torch.block_diag(
        *(torch.stack([torch.stack([c(a), -s(a)]), torch.stack([s(a), c(a)])]) for a in (0.3, 0.5))
    )
    second = torch.eye(4)
    second[1:3, 1:3] = torch.tensor([[c(0.7), -s(0.7)], [s(0.7), c(0.7)]])
    assert torch.allclose(rotations().float(), second @ first, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [0, 4])
def test_rotations_stay_orthogonal_in_training(capacity: int) -> None:
    """Check the entries of Q'Q - I after 1,000 steps of AdamW."""
    torch.manual_seed(0)
    cell = Goru(4, Goru.Settings(cell="goru", hidden=32, goru_capacity=capacity))
    optimizer = torch.optim.AdamW(cell.parameters(), lr=1e-2)
    before = cell.rotations().detach()
    for _ in range(1000):
        x = torch.randn(3, 8, 4)
        states, _ = cell.run_stepwise(x, torch.zeros(8, 32), torch.zeros(8, 32))
        loss = (states[-1, :, :4] - x[0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    q = cell.rotations().detach()
    assert (q - before).abs().max() > 0.1
    assert (q.T @ q - torch.eye(32)).abs().max() < 5e-6


def test_with_open_gates_and_no_rotation_states_sum_the_inputs() -> None:
    """For r = 1, g = 0, Q = I: h = modReLU(h' + x), which is h' + x + 0.001 for x >= 0."""
    layer = Layer(3, Goru.Settings(cell="goru", hidden=4), bidirectional=False).double()
    (cell,) = layer.cells
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.bias[:4], cell.bias[4:8] = 100.0, -100.0
        cell.input[8:, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    x = torch.ones(5, 1, 3, dtype=torch.float64)
    y, _ = layer(x, torch.tensor([5]), torch.tensor([0]))
    per_step = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64) + 1e-3
    assert torch.allclose(y[-1, 0], 5 * per_step)
