"""Defaults that follow from the size of the corpus."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import config
from pipeline.config import BUNDLED, dump, load_run_config, size_defaults, with_values


def chosen(tokens: int, *overrides: str, rows: int = 0, task: str = "classification") -> Any:
    """Return the values for a training split, by the last part of their keys."""
    manifest: Any = SimpleNamespace(
        splits={"train": SimpleNamespace(tokens=tokens, rows=rows or tokens // 20)}
    )
    loaded = config.load(None, ["corpus.input=a.csv", f"task.name={task}", *overrides])
    return {k.partition(".")[2]: v for k, v in size_defaults(loaded, manifest).items()}


@pytest.mark.parametrize(
    "tokens, budget, epochs, lr",
    [
        (100, 512, 50, 3e-3),
        (5_747, 512, 50, 3e-3),
        (30_000, 512, 11, 3e-3),
        (100_000, 1024, 7, 3e-3),
        (500_000, 8192, 10, 3e-3),
        (6_000_000, 16384, 2, 3e-3),
        (10_000_000, 16384, 1, 1e-3),
        (10**10, 16384, 1, 1e-3),
    ],
)
def test_values_by_tokens(tokens: int, budget: int, epochs: int, lr: float) -> None:
    """Large corpora have the declared defaults."""
    assert chosen(tokens) == {"token_budget": budget, "epochs": epochs, "lr": lr}
    if tokens >= 512 * 50:
        assert tokens / budget >= 50
    if epochs < 50:
        assert epochs * tokens / budget >= 600


def test_keys_that_are_set_stay_and_the_others_follow_from_them() -> None:
    keys = ["stream.token_budget=2048", "train.epochs=8"]
    assert chosen(5_747, *keys) == {"lr": 3e-3}
    assert chosen(5_747, *keys, "train.lr=0.1") == {}
    assert chosen(10_000_000, "stream.token_budget=65536") == {"epochs": 4, "lr": 3e-3}


def test_the_longest_row_fits_into_the_budget() -> None:
    assert chosen(5_747, "corpus.max_tokens=1000")["token_budget"] == 1000
    keys = ("corpus.max_tokens=1000", "stream.accumulation_steps=4")
    assert chosen(5_747, *keys)["token_budget"] == 4000
    assert chosen(10**9, "corpus.max_tokens=30000")["token_budget"] == 30000


def test_updates_of_a_fixed_number_of_rows_and_of_a_language_model() -> None:
    found = chosen(20_000, "stream.batch_rows=10", rows=1000)
    assert found == {"epochs": 6, "lr": 3e-3}
    found = chosen(32 * 70 * 100, task="language_modeling")
    assert found == {"epochs": 6, "lr": 3e-3}


def test_more_passes_per_epoch_need_fewer_epochs() -> None:
    found = [chosen(12_800, f"stream.repeat={n}")["epochs"] for n in (1, 2)]
    assert found == [24, 12]


def test_unprepared_rows_have_the_declared_defaults() -> None:
    loaded = config.load(None, ["corpus.input=a.csv"])
    manifest: Any = SimpleNamespace(splits={})
    assert size_defaults(loaded, manifest) == {}


@pytest.mark.parametrize("name", sorted(path.stem for path in BUNDLED.glob("*.yaml")))
def test_bundled_configs_set_all_of_the_keys(name: str) -> None:
    """So they behave the same whatever the size of their corpus is."""
    manifest: Any = SimpleNamespace(splits={"train": SimpleNamespace(tokens=1, rows=1)})
    assert size_defaults(config.load(Path(name)), manifest) == {}


def test_a_runs_config_has_the_values(tmp_path: Path) -> None:
    loaded = config.load(None, ["corpus.input=a.csv"])
    values = {"stream.token_budget": 512, "train.epochs": 50, "train.lr": 0.003}
    path = tmp_path / "config.yaml"
    path.write_text(dump(with_values(loaded, values)))
    again = load_run_config(path)
    assert (again.stream.token_budget, again.train.epochs, again.train.lr) == (512, 50, 0.003)
    manifest: Any = SimpleNamespace(splits={"train": SimpleNamespace(tokens=1, rows=1)})
    assert size_defaults(again, manifest) == {}
