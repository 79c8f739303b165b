"""The facts that the first screen shows."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline import config
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.field_spec import FieldSpec
from pipeline.run.folder import RunFolder
from pipeline.runtime.process_group import World
from pipeline.training.run_facts import collect, origin, run_length
from pipeline.training.session import build
from pipeline.training.trainer import Trainer
from tests.helpers.corpora import small_run_overrides


@pytest.fixture
def make(corpus: Path, manifest: Manifest, tmp_path: Path) -> Callable[..., Any]:
    """A function that returns a config and its trainer."""

    def made(*overrides: str) -> tuple[Any, Trainer]:
        keys = [*small_run_overrides(corpus), f"run.dir={tmp_path}", *overrides]
        settings = config.load(None, keys)
        world = World(0, 1, torch.device("cpu"))
        return settings, build(settings, manifest, world, RunFolder(tmp_path), None)

    return made


def test_facts_of_a_classifier(
    make: Callable[..., Any], manifest: Manifest, tmp_path: Path
) -> None:
    settings, trainer = make("train.max_steps=7", "train.warmup=0.1")
    facts = collect(
        settings, manifest, trainer, device="1 x CPU", chosen={"train.lr": 0.1}, checkpoint=None
    )
    split = manifest.splits["train"]
    assert (facts.rows, facts.tokens, facts.token_unit) == (split.rows, split.tokens, "tokens")
    assert facts.splits == {name: s.rows for name, s in manifest.splits.items()}
    assert facts.labels is not None
    assert facts.labels.kind == "label"
    assert sum(facts.labels.counts) == sum(s.rows for s in manifest.splits.values())
    assert facts.lengths is not None
    assert facts.lengths.median < facts.lengths.percentile_95 <= facts.lengths.longest
    assert facts.lengths.longest == split.max_length
    assert facts.megabytes == pytest.approx(trainer.parameters * 4 / 1e6)
    updates = len(list(trainer.stream.remaining()))
    assert trainer.stream.plan
    assert trainer.stream.plan.window_count(0) > 4
    assert facts.schedule.per_epoch == pytest.approx(updates, abs=1)
    assert not facts.schedule.exact
    assert facts.schedule.total == 7
    assert facts.schedule.warmup_updates == round(0.1 * 3 * facts.schedule.per_epoch)
    assert (facts.budget, facts.batch_rows, facts.folder) == (768, 0, str(tmp_path))
    assert facts.rate == "0.003, cosine over 3 epochs; optimizer adamw"
    length = run_length(settings, trainer)
    assert (length.updates, length.epochs, length.rows) == (7, 3, 3 * split.rows)


def test_the_rate_of_a_resumed_run_is_that_of_its_step(
    make: Callable[..., Any], manifest: Manifest, tmp_path: Path
) -> None:
    settings, trainer = make("train.warmup=0.5", "train.lr=0.01")
    trainer.state.step, trainer.state.schedule_rows = 9, trainer.schedule_rows // 4
    facts = collect(
        settings, manifest, trainer, device="", chosen={}, checkpoint=tmp_path / "step-00000009"
    )
    assert facts.rate == "0.01, cosine over 3 epochs, 0.005 at step 9; optimizer adamw"
    assert (facts.step, facts.checkpoint) == (9, f"{tmp_path}/step-00000009")


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"validation": 0.1}, "0.1 of the rows"),  # of an earlier version
        ({"validation": 0.1, "stratify": None}, "0.1 of each label"),
        ({"validation": 0.1, "stratify": False}, "0.1 of the rows"),
        (
            {"validation": 0.25, "stratify": None, "group": "author"},
            "0.25 of the rows, grouped by author",
        ),
        ({"validation": 0.1, "time": "date"}, "the latest 0.1 of the rows by date"),
        ({"validation": "dev.csv"}, "dev.csv"),
        ({"validation": ["a.csv", "b.csv", "c.csv"]}, "a.csv and 2 more"),
        ({"validation": {"source": ["val.de"], "target": ["val.en"]}}, "val.de, val.en"),
        ({}, ""),
    ],
)
def test_how_a_split_was_made(settings: dict[str, Any], expected: str) -> None:
    manifest: Any = SimpleNamespace(
        settings=settings, fields=[FieldSpec("label", "label", "label")]
    )
    assert origin(manifest, "validation") == expected
