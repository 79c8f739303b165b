"""Trained models in Python: the predictions and metrics of the commands."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pipeline
from pipeline.errors import ConfigError, InputError, RunError
from pipeline.export.folder import export_folder
from tests.helpers.processes import call

Runs = Callable[[str], Path]
LINES = {
    "classification": ["the film was superb", "a dull plot, and long", "", "the\0film", "music"],
    "multilabel": ["a fine film", "rain"],
    "entailment": ["the red film\tred", "the plot\tblue"],
    "tagging": ["Peter Miller saw it", "the"],
    "translation": ["the film", "a plot"],
    "language_modeling": ["the film", "a"],
    "regression": ["fine lovely film", "dull"],
}


def printed(run: Path, lines: list[str]) -> list[object]:
    """Return what `headrace predict` prints for lines of standard input."""
    text = "".join(f"{line}\n" for line in lines)
    status, out, err = call("predict", "--run", str(run), text=text)
    assert status == 0, err
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("task", LINES)
def test_predictions_are_those_of_the_command(runs: Runs, tmp_path: Path, task: str) -> None:
    run, lines = runs(task), LINES[task]
    expected = printed(run, lines)
    model = pipeline.load(run)
    assert model.predict(lines) == expected
    assert model.predict(iter(lines)) == expected
    assert pipeline.load(run / "checkpoints/best").predict(lines) == expected
    export_folder(model.trained, tmp_path / "exported")
    assert pipeline.load(tmp_path / "exported").predict(lines) == expected
    assert printed(tmp_path / "exported", lines) == expected
    assert (model.task, model.trained.manifest.location) == (task, str(run / "dataset"))


def test_rows_are_predicted_as_texts(runs: Runs) -> None:
    model = pipeline.load(runs("entailment"))
    assert model.columns == ["text", "claim"]
    rows = [{"text": "the red film", "claim": "red", "id": 1}]
    assert model.predict(rows) == model.predict(["the red film\tred"])
    nested = pipeline.load(runs("classification"), {"corpus.text": "body.text"})
    assert nested.predict([{"body": {"text": "music"}}]) == nested.predict(["music"])


def test_values_of_numpy_and_pandas(runs: Runs) -> None:
    model = pipeline.load(runs("classification"))
    expected = model.predict(["music", "", "3.0", ""])
    frame = pd.DataFrame({"text": ["music", None, np.float64(3), pd.NA]}, dtype=object)
    assert model.predict(frame.to_dict("records")) == expected
    assert model.predict(np.array(["music", "", "3.0", ""])) == expected
    tagger = pipeline.load(runs("tagging"))
    (column,) = tagger.columns
    rows = [{column: ["Bob", "sings"]}]
    assert tagger.predict([{column: np.array(["Bob", "sings"])}]) == tagger.predict(rows)


def test_top_k_holds_for_one_call(runs: Runs) -> None:
    model = pipeline.load(runs("classification"))
    before = model.predict(["music"])
    (found,) = model.predict(["music"], top_k=1)
    assert list(found["scores"]) == [found["label"]]
    assert model.predict(["music"]) == before
    with pytest.raises(ConfigError, match=r"--top-k=1: predictions of task\.name=translation"):
        pipeline.load(runs("translation")).predict(["music"], top_k=1)


def test_metrics_are_those_of_the_command(runs: Runs, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": "the film was superb", "label": 1}, {"text": "", "label": 0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, out, _ = call("evaluate", "--run", str(runs("classification")), "--input", str(path))
    assert pipeline.load(runs("classification")).evaluate(path) == json.loads(out)


def test_mistakes(runs: Runs, tmp_path: Path) -> None:
    run = runs("classification")
    model = pipeline.load(run)
    with pytest.raises(TypeError, match="inputs='music': is a single input; give a list of inputs"):
        model.predict("music")
    with pytest.raises(TypeError, match="row 2: is of type int"):
        model.predict(["music", 2])  # type: ignore[list-item]
    table = pd.DataFrame({"text": ["music"]})
    with pytest.raises(TypeError, match="inputs: are of type DataFrame; give its rows as dicts"):
        model.predict(table)
    with pytest.raises(TypeError, match="files: are of type DataFrame"):
        model.evaluate(table)
    with pytest.raises(TypeError, match="files: one is of type dict; give paths, and write rows"):
        model.evaluate([{"text": "music", "label": "a"}])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="--top-k=-1: is negative"):
        model.predict(["music"], top_k=-1)
    with pytest.raises(ConfigError, match=r"device=abacus: cannot be used: .*; use cpu"):
        pipeline.load(run, device="abacus")
    with pytest.raises(ConfigError, match=r"device=cuda:99: cannot be used: .*; use cpu"):
        model.to("cuda:99")
    with pytest.raises(InputError, match="row 1: has no column 'text'; it has 'body'"):
        model.predict([{"body": "music"}])
    with pytest.raises(RunError, match="is not a run folder or an exported model"):
        pipeline.load(tmp_path)
    with pytest.raises(RunError, match=r"model\.hidden=9: the weights of this run"):
        pipeline.load(run, {"model.hidden": 9})
    with pytest.raises(ConfigError, match=r"corpus\.txt=a: no such key"):
        pipeline.load(run, {"corpus.txt": "a"})
    export_folder(model.trained, tmp_path / "exported")
    with pytest.raises(RunError, match="is an exported model and has no checkpoints"):
        pipeline.load(tmp_path / "exported", checkpoint=run / "checkpoints/best")
    shutil.copytree(run / "checkpoints/best", tmp_path / "alone")
    with pytest.raises(RunError, match="is not a run folder"):
        pipeline.load(tmp_path / "alone")
    copy = tmp_path / "run"
    shutil.copytree(run, copy, symlinks=True)
    (next(copy.glob("checkpoints/step-*")) / "model.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="does not have the checksum of the manifest"):
        pipeline.load(copy)


def test_the_tokenizer_is_read_once(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pipeline.load(runs("classification"))
    first = model.predict(["music"])
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
    assert model.predict(["music"]) == first
