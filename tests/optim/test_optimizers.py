"""Every optimizer lowers the loss and continues bit for bit from its state."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from pipeline import components, config
from pipeline.errors import ConfigError, TrainingError
from pipeline.optim.groups import parameter_groups
from pipeline.optim.optimizer import Optimizer
from pipeline.optim.optimizers.asgd import ASGD
from pipeline.training.settings import train_settings

RATES = {"adafactor": 0.5, "adamw": 0.05, "asgd": 0.1, "muon": 0.05, "sgd": 0.05}
SCALER = torch.amp.GradScaler("cpu", enabled=False)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))


def make_optimizer(model: nn.Module, name: str, **values: object) -> Optimizer:
    settings = {"optimizer": name, "lr": RATES[name], "warmup": 0.0, "schedule": "constant"}
    return Optimizer(model, train_settings(**(settings | values)))


def steps(model: nn.Module, optimizer: Optimizer, numbers: Sequence[int]) -> list[float]:
    """Train on one batch per number; return the losses before each step."""
    losses = []
    for number in numbers:
        x = torch.arange(number, number + 7) % 7
        loss = ((model(x)[:, 0] - x.float().sin()) ** 2).mean()
        loss.backward()
        optimizer.step(SCALER, torch.tensor(1.0), 0.5, 0.0)
        losses.append(loss.item())
    return losses


def equal(first: nn.Module, second: nn.Module) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_every_built_in_optimizer_is_tested() -> None:
    assert components.names("optimizer") == list(RATES)


@pytest.mark.parametrize("name", RATES)
def test_the_loss_falls(name: str) -> None:
    model = make_model()
    losses = steps(model, make_optimizer(model, name), range(60))
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5]), losses


@pytest.mark.parametrize("name", RATES)
def test_a_restored_optimizer_continues_bit_for_bit(name: str) -> None:
    model = make_model()
    optimizer = make_optimizer(model, name)
    steps(model, optimizer, range(5))
    for loss in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0):
        optimizer.evaluated(loss)
    restored_model = copy.deepcopy(model)
    restored = make_optimizer(restored_model, name)
    tensors = {key: tensor.clone() for key, tensor in optimizer.tensors().items()}
    restored.load_tensors(tensors)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    losses = [
        steps(m, o, range(5, 12)) for m, o in ((model, optimizer), (restored_model, restored))
    ]
    assert losses[0] == losses[1]
    assert equal(model, restored_model)
    averages = [o.algorithm.averaged().values() for o in (optimizer, restored)]
    assert all(torch.equal(a, b) for a, b in zip(*averages, strict=True))


def test_muon_trains_matrices_and_adamw_embeddings_and_vectors() -> None:
    model = make_model()
    names = {id(p): name for name, p in model.named_parameters()}
    muon, adamw = make_optimizer(model, "muon").optimizers
    trained = [
        {names[id(p)] for group in o.param_groups for p in group["params"]} for o in (muon, adamw)
    ]
    assert trained == [{"1.weight", "3.weight"}, {"0.weight", "1.bias", "3.bias"}]


def test_asgd_averages_the_weights_since_the_loss_stopped_falling() -> None:
    model = make_model()
    optimizer = make_optimizer(model, "asgd", asgd_patience=2)
    weight = next(model.parameters())

    def average() -> Tensor:
        return optimizer.algorithm.averaged()[weight]

    steps(model, optimizer, range(3))
    for loss in (2.0, 3.0, 2.5):  # the last two do not count
        optimizer.evaluated(loss)
    steps(model, optimizer, [3])
    assert torch.equal(average(), weight), "without a trigger the average is the last weight"
    optimizer.evaluated(2.2)  # worse than 2.0, before the last two
    history = []
    for number in range(4, 9):
        steps(model, optimizer, [number])
        history.append(weight.detach().clone())
    # torch.optim.ASGD uses a new t0 from the second update on
    assert torch.allclose(average(), torch.stack(history[1:]).mean(0), atol=1e-6)


def test_asgd_without_patience_averages_from_the_first_update() -> None:
    algorithm = ASGD(train_settings(optimizer="asgd", asgd_patience=0))  # type: ignore[arg-type]
    model = make_model()
    (optimizer,) = algorithm.build(parameter_groups(model, train_settings()))
    assert {group["t0"] for group in optimizer.param_groups} == {0}


def test_groups_change_rates_decay_and_freeze_by_name() -> None:
    model = make_model()
    groups = [
        {"pattern": r"0\.weight", "lr_factor": 0.1, "weight_decay": 0.5},
        {"pattern": r".*\.bias", "freeze": True},
    ]
    optimizer = make_optimizer(model, "sgd", groups=groups)
    before = [p.detach().clone() for p in model.parameters()]
    steps(model, optimizer, [0])
    after = list(model.parameters())
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [
        False, False, True, False, True,
    ]  # fmt: skip
    by_decay = {group["weight_decay"]: group for group in optimizer.groups if not group["freeze"]}
    assert by_decay[0.5]["lr"] == pytest.approx(0.1 * RATES["sgd"])
    assert by_decay[0.01]["lr"] == RATES["sgd"]


def test_a_pattern_without_a_parameter_is_one_line() -> None:
    settings = train_settings(groups=[{"pattern": "encoder.*"}])
    with pytest.raises(ConfigError, match=r"'encoder\.\*' matches no parameter .* 0\.weight"):
        parameter_groups(make_model(), settings)


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["train.groups=[{pattern: '('}]"], "train.groups.0.pattern=(: is not a regular expr"),
        (["train.groups=[{patern: x}]"], "train.groups.0.pattern: missing"),
        (
            ["train.optimizer=asgd", "train.ema_decay=0.9"],
            "train.ema_decay=0.9: asgd has an average of its own; set 0, or another",
        ),
    ],
)
def test_mistakes_are_one_line(overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.load(None, overrides)
    assert any(line.startswith(expected) for line in error.value.lines), error.value.lines


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["0.weight", "1.weight"])
def test_an_overflow_in_one_optimizer_skips_the_step_of_all(name: str, value: float) -> None:
    model = make_model()
    optimizer = make_optimizer(model, "muon")
    scaler = torch.amp.GradScaler("cpu", enabled=True, init_scale=2.0)
    before = copy.deepcopy(model)
    scaler.scale(model(torch.arange(7)).sum()).backward()
    gradient = model.get_parameter(name).grad
    assert gradient is not None
    gradient[0] = value
    optimizer.step(scaler, torch.tensor(1.0), 0.5, 0.0)
    assert equal(model, before)
    assert scaler.get_scale() < 2.0


def test_an_optimizer_without_gradients_is_skipped() -> None:
    model = make_model()
    frozen = [{"pattern": r"[13]\.weight", "freeze": True}]
    optimizer = make_optimizer(model, "muon", groups=frozen)
    scaler = torch.amp.GradScaler("cpu", enabled=True, init_scale=2.0)
    scaler.scale(model(torch.arange(7)).sum()).backward()
    optimizer.step(scaler, torch.tensor(1.0), 0.5, 0.0)
    with pytest.raises(ConfigError, match=r"train\.groups: freezes all parameters"):
        make_optimizer(model, "muon", groups=[{"pattern": ".*", "freeze": True}])


def test_state_that_cannot_be_saved_or_restored_is_an_error() -> None:
    model = make_model()
    optimizer = make_optimizer(model, "sgd")
    steps(model, optimizer, [0])
    with pytest.raises(KeyError, match="5/momentum_buffer of 5 parameters"):
        optimizer.load_tensors({**optimizer.tensors(), "5/momentum_buffer": torch.zeros(1)})
    (sgd,) = optimizer.optimizers
    sgd.state[next(model.parameters())]["count"] = 3
    with pytest.raises(TrainingError, match=r"SGD: the state 'count' .* is a int, .* a tensor"):
        optimizer.tensors()
