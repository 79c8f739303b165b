"""Runs with other optimizers and schedules resume bit for bit."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import config
from pipeline.training.session import train
from tests.helpers.corpora import small_run_overrides
from tests.helpers.processes import weights

CASES = {
    "asgd": ["train.asgd_patience=1", "train.lr=9", "train.max_grad_norm=0"],
    "muon": ["train.lr=0.03", "train.schedule=warmup_stable_decay", "train.decay_fraction=0.5"],
    "adafactor": ["train.lr=0.03", "train.schedule=plateau", "train.plateau_patience=0"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(
    name: str, corpora: Callable[[str], Path], tmp_path: Path
) -> None:
    common = [
        *small_run_overrides(corpora("classification")), f"train.optimizer={name}", *CASES[name],
        "train.ema_decay=0", "train.evaluate_every=2", "train.epochs=2",
    ]  # fmt: skip
    for folder, ends in (("whole", [14]), ("resumed", [7, 14])):
        for end in ends:
            train(config.load(None, [*common, f"run.dir={tmp_path / folder}",
                                     f"train.max_steps={end}"]))  # fmt: skip
    assert weights(tmp_path / "whole") == weights(tmp_path / "resumed")
    state = json.loads((tmp_path / "whole/checkpoints/latest/state.json").read_text())
    if name == "asgd":
        assert state["components"]["optimizer"]["algorithm"]["begin"] < 14, "averaging has begun"
