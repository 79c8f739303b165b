"""Learning-rate schedule, parameter groups, gradient clipping, averaging and unfreezing."""

import itertools
import math

import pytest
import torch
from torch import nn

from pipeline.models.classifier import Classifier
from pipeline.optim import ema
from pipeline.optim.groups import parameter_groups
from pipeline.optim.learning_rates import LearningRates
from pipeline.optim.optimizer import clipped_step
from pipeline.training.settings import train_settings
from tests.helpers.settings import model_settings


def test_learning_rate_warms_up_then_decays_along_a_cosine() -> None:
    settings = train_settings(lr=2.0, warmup=0.1, min_lr_ratio=0.25)
    assert LearningRates(settings).learning_rate(0.05) == 1.0
    assert LearningRates(settings).learning_rate(0.1) == 2.0
    assert math.isclose(LearningRates(settings).learning_rate(0.55), 2.0 * (0.25 + 0.75 / 2))
    assert math.isclose(LearningRates(settings).learning_rate(1.0), 0.5)
    falling = [LearningRates(settings).learning_rate(0.1 + i / 100) for i in range(91)]
    assert all(a > b for a, b in itertools.pairwise(falling))


def test_matrices_embeddings_and_vectors_have_different_weight_decay() -> None:
    model = nn.ModuleDict({"e": nn.Embedding(5, 4), "r": nn.LSTM(4, 3), "o": nn.Linear(3, 2)})
    settings = train_settings(weight_decay=0.3, embedding_decay=0.5)
    names = {id(p): name for name, p in model.named_parameters()}
    decays = {
        names[id(p)]: group["weight_decay"]
        for group in parameter_groups(model, settings)
        for p in group["params"]
    }
    assert decays == {
        "e.weight": 0.5,
        "r.weight_ih_l0": 0.3,
        "r.weight_hh_l0": 0.3,
        "r.bias_ih_l0": 0.0,
        "r.bias_hh_l0": 0.0,
        "o.weight": 0.3,
        "o.bias": 0.0,
    }


@pytest.mark.parametrize("max_norm,expected", [(0.0, 10.0), (100.0, 10.0), (1.0, 1.0)])
def test_gradients_are_clipped_after_they_are_scaled(max_norm: float, expected: float) -> None:
    """The gradient (3, 4) times the factor 2 has norm 10."""
    model = nn.Linear(2, 1, bias=False)
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    sgd = torch.optim.SGD([{"params": model.parameters(), "frozen": False}], lr=1.0)
    before = model.weight.detach().clone()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    norm = clipped_step(model, [sgd], scaler, torch.tensor(2.0), max_norm)
    assert norm.item() == 10.0
    assert math.isclose((before - model.weight).norm().item(), expected, rel_tol=1e-5)


def test_averaged_weights_follow_faster_in_the_first_steps() -> None:
    model, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(average.weight)
    nn.init.ones_(model.weight)
    ema.update_average(average, model, decay=0.9, step=1)
    assert average.weight.item() == pytest.approx(1 - 2 / 11)
    nn.init.zeros_(average.weight)
    ema.update_average(average, model, decay=0.9, step=10_000)
    assert average.weight.item() == pytest.approx(0.1)


def test_deeper_layers_have_lower_rates_and_unfreeze_later() -> None:
    settings = train_settings(lr=1.0, warmup=0.0, layer_decay=0.5, unfreeze=2.0)
    model = Classifier(model_settings(embedding=3, hidden=2, layers=2), 5, 2)
    groups = parameter_groups(model, settings)
    names = {id(p): name for name, p in model.named_parameters()}
    depth = {names[id(p)]: group["depth"] for group in groups for p in group["params"]}
    assert {depth[name] for name in depth if name.startswith("scores.")} == {0}
    assert {depth[name] for name in depth if name.startswith("stack.layers.1.")} == {1}
    assert {depth[name] for name in depth if name.startswith("stack.layers.0.")} == {2}
    assert depth["embedding.weight"] == 3
    assert LearningRates(settings).set_rates(groups, progress=0.0, epochs=4.0) == 1.0
    rates = {group["depth"]: (group["lr"], group["frozen"]) for group in groups}
    assert rates == {0: (1.0, False), 1: (0.5, False), 2: (0.25, False), 3: (0.125, True)}


def test_frozen_parameters_do_not_move_and_do_not_count_in_the_norm() -> None:
    model = nn.ParameterList([torch.zeros(1), torch.zeros(1)])
    sgd = torch.optim.SGD(
        [{"params": [model[0]], "frozen": False}, {"params": [model[1]], "frozen": True}], lr=1.0
    )
    for parameter, gradient in zip(model, (3.0, 4.0), strict=True):
        parameter.grad = torch.tensor([gradient])
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    assert clipped_step(model, [sgd], scaler, torch.tensor(1.0), 0.0).item() == 3.0
    assert [parameter.item() for parameter in model] == [-3.0, 0.0]
