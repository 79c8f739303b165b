"""Models are built without random numbers where their weights are replaced."""

import pytest
import torch
from torch import nn

from pipeline import components
from pipeline.models.classifier import Classifier
from pipeline.models.initialization import WithoutRandomInit
from tests.helpers.settings import model_settings


@pytest.mark.parametrize("cell", components.names("cell"))
def test_models_have_the_same_tensors_and_constants(cell: str) -> None:
    settings = model_settings(cell=cell, layers=2)
    expected = Classifier(settings, 20, 3)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with WithoutRandomInit():
        model = Classifier(settings, 20, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert {n: (p.shape, p.dtype) for n, p in model.state_dict().items()} == {
        n: (p.shape, p.dtype) for n, p in expected.state_dict().items()
    }
    for (name, made), (_, buffer) in zip(
        model.named_buffers(), expected.named_buffers(), strict=True
    ):
        assert torch.equal(made, buffer), name
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_only_random_numbers_without_a_generator_are_left_out() -> None:
    with WithoutRandomInit():
        linear = nn.Linear(4, 4)
        nn.init.orthogonal_(linear.weight)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.constant_(linear.bias, 2)
        projection = torch.empty(3).normal_(generator=torch.Generator().manual_seed(1))
        assert torch.equal(torch.zeros(2, 3).uniform_(1, 2), torch.zeros(2, 3))
        matrix = torch.tensor([[2.0, 0], [0, 3]])
        assert torch.allclose(torch.linalg.qr(matrix)[1].abs(), matrix)
    assert (linear.weight == 0).all()
    assert (linear.bias == 2).all()
    assert torch.equal(
        projection, torch.empty(3).normal_(generator=torch.Generator().manual_seed(1))
    )
