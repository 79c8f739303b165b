"""A checkpoint is whole or not there, and comes back bit by bit."""

from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.errors import RunError
from pipeline.optim.optimizer import build
from pipeline.run import checkpoint
from pipeline.run.checkpoint import TrainingState
from pipeline.stream.plan import Position
from pipeline.train.settings import TrainSettings

FACTS = {"plan version": 1, "dataset": "abc"}


def network(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Embedding(7, 4), nn.LSTM(4, 3))
    return model, build(model, TrainSettings())


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        tokens = torch.arange(step, step + 5)[:, None] % 7
        model(tokens)[0].square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def save(folder: Path, step: int, keep: int = 2, best: int = 0) -> Path:
    model, optimizer = network()
    train(model, optimizer, 1)
    state = TrainingState(step=step, best_step=best)
    return checkpoint.save(folder, state, model, optimizer, facts=FACTS, keep=keep)


def test_what_is_loaded_goes_on_bit_by_bit(tmp_path: Path) -> None:
    model, optimizer = network()
    train(model, optimizer, 3)
    state = TrainingState(
        step=3, position=Position(1, 2, 3), rows=99, best=0.5, since_log=[0.1, 1 / 3], seconds=1.5
    )
    path = checkpoint.save(tmp_path, state, model, optimizer, facts=FACTS, keep=2)
    other, other_optimiser = network(seed=1)
    checkpoint.load_all(path, other, other_optimiser, None)
    assert checkpoint.read_state(path, FACTS) == state
    for m, o in ((model, optimizer), (other, other_optimiser)):
        train(m, o, 3)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"]
)
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_newest_is_passed_over(tmp_path: Path, name: str, damage: str) -> None:
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    data = bytearray((bad / name).read_bytes())
    if damage == "remove":
        (bad / name).unlink()
    elif damage == "truncate":
        (bad / name).write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        (bad / name).write_bytes(data)
    path, lines = checkpoint.newest(tmp_path)
    assert path == good
    assert len(lines) == 1
    assert str(bad) in lines[0]


def test_when_none_verifies_training_does_not_start_afresh(tmp_path: Path) -> None:
    (save(tmp_path, 1) / "model.safetensors").unlink()
    with pytest.raises(RunError, match="no checkpoint verifies"):
        checkpoint.newest(tmp_path)


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 8):
        save(tmp_path, step, best=3 if step >= 3 else 0)
    names = sorted(path.name for path in tmp_path.glob("step-*"))
    assert names == ["step-00000003", "step-00000006", "step-00000007"]
    assert (tmp_path / "best").readlink().name == "step-00000003"
    assert (tmp_path / "latest").readlink().name == "step-00000007"


def test_a_write_cut_short_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = save(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "_sha256", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert (tmp_path / ".tmp-step-00000002").exists()
    assert checkpoint.newest(tmp_path) == (good, [])
    assert checkpoint.newest(tmp_path)[0] == good
    save(tmp_path, 3)
    assert not (tmp_path / ".tmp-step-00000002").exists()


def test_another_dataset_or_format_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    with pytest.raises(RunError, match="made with dataset abc, now it is xyz"):
        checkpoint.read_state(path, FACTS | {"dataset": "xyz"})
    text = (path / "state.json").read_text()
    (path / "state.json").write_text(text.replace('"stale"', '"stal"'))
    with pytest.raises(RunError, match="stal"):
        checkpoint.read_state(path, FACTS)
    (path / "state.json").write_text(text.replace(f'"format": {checkpoint.FORMAT}', '"format": 99'))
    with pytest.raises(RunError, match="format 99"):
        checkpoint.read_state(path, FACTS)


def test_a_model_of_another_shape_is_one_clear_line(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    with pytest.raises(RunError, match="cannot be loaded"):
        checkpoint.load(path, nn.Embedding(3, 3))


def test_averaged_weights_are_those_to_use_and_the_models_own_come_back(tmp_path: Path) -> None:
    model, optimizer = network()
    average, _ = network()
    train(model, optimizer, 5)
    path = checkpoint.save(
        tmp_path, TrainingState(step=5), model, optimizer, average, facts=FACTS, keep=2
    )
    used, _ = network(seed=1)
    checkpoint.load(path, used)
    again, again_optimiser = network(seed=2)
    again_average, _ = network(seed=3)
    checkpoint.load_all(path, again, again_optimiser, again_average)
    for expected, found in ((average, used), (average, again_average), (model, again)):
        for a, b in zip(expected.parameters(), found.parameters(), strict=True):
            assert torch.equal(a, b)
