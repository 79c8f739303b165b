"""Folders for the Hugging Face Hub: the card, and models that are read back."""

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import ModelCard

import pipeline
from pipeline.errors import RunError
from tests.helpers.processes import call, error_lines

Runs = Callable[[str], Path]


def export(run: Path, target: Path, *arguments: str) -> tuple[int, str, str]:
    return call("export", "--run", str(run), "--format", "hub", "-o", str(target), *arguments)


@pytest.mark.parametrize("task", ["classification", "tagging", "translation", "language_modeling"])
def test_the_exported_model_is_that_of_the_run(runs: Runs, tmp_path: Path, task: str) -> None:
    run, target = runs(task), tmp_path / "model"
    status, out, err = export(run, target)
    assert status == 0, err
    assert out == f"{target}\n"
    lines = ["the film was superb", "a plot"]
    assert pipeline.load(target).predict(lines) == pipeline.load(run).predict(lines)
    names = {path.name for path in target.iterdir()}
    assert {"README.md", "config.json", "model.safetensors"} <= names
    card = ModelCard.load(target / "README.md")
    assert card.data.library_name == "headrace"
    assert str(tmp_path) not in card.content
    assert str(run.parent) not in card.content
    assert "[]" not in card.content


def test_a_card_has_the_metrics_of_the_weights(runs: Runs, tmp_path: Path) -> None:
    run = runs("classification")
    export(run, tmp_path / "model")
    summary = json.loads((run / "summary.json").read_text())
    card = ModelCard.load(tmp_path / "model/README.md")
    results = {(r.dataset_split, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert results == {("validation", "accuracy"): round(summary["best"], 6)}
    assert "| validation | accuracy |" in card.text
    assert "Labels: `negative`, `positive`" in card.text
    assert card.data.pipeline_tag == "text-classification"


def test_an_older_export_is_replaced_and_another_folder_is_not(runs: Runs, tmp_path: Path) -> None:
    run, target = runs("classification"), tmp_path / "model"
    export(run, target)
    (target / "old.txt").write_text("")
    assert export(target, tmp_path / "again")[0] == 0  # of the exported model itself
    assert export(run, target)[0] == 0
    assert not (target / "old.txt").exists()
    (tmp_path / "own").mkdir()
    (tmp_path / "own/diary.txt").write_text("")
    status, _, err = export(run, tmp_path / "own")
    assert (status, len(error_lines(err))) == (2, 1)
    assert "exists and is not an exported model" in err
    status, _, err = export(run, target, "task.metrics=[]")
    assert (status, len(error_lines(err))) == (2, 1)
    assert "--format=hub exports the run's config" in err


def test_models_on_the_hub(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(runs("classification"), tmp_path / "model")
    asked = []

    def download(name: str, *, revision: str | None) -> str:
        asked.append((name, revision))
        if name == "me/none":
            raise OSError("no such model")
        return str(tmp_path / ("model" if name == "me/reviews" else "."))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert pipeline.load("hf://me/reviews@v1").task == "classification"
    status, out, err = call("predict", "--run", "hf://me/reviews@v1", text="music\n")
    assert status == 0, err
    assert [json.loads(out)] == pipeline.load(tmp_path / "model").predict(["music"])
    status, _, err = call("predict", "--run", "hf://me/none")
    assert (status, len(error_lines(err))) == (2, 1)
    with pytest.raises(RunError, match="hf://me/none: cannot be downloaded: no such model"):
        pipeline.load("hf://me/none")
    with pytest.raises(RunError, match="hf://me/other: is not a model of Headrace"):
        pipeline.load("hf://me/other")
    assert asked == [
        ("me/reviews", "v1"), ("me/reviews", "v1"), *[("me/none", None)] * 2, ("me/other", None),
    ]  # fmt: skip
