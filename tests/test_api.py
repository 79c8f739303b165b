"""Training from Python: the run that the command makes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline
from pipeline.errors import ConfigError
from tests.helpers.processes import call

SMALL: dict[str, Any] = {
    "train.max_steps": 3, "train.epochs": 9, "model.hidden": 8, "model.layers": 1,
    "corpus.vocab_size": 300, "track.trackers": [], "train.precision": "fp32",
}  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {"text": f"Film {n} was {('fine', 'dull')[n % 2]}.", "label": np.int64(n % 2)}
    for n in range(60)
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_rows_are_trained_on_as_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    run = pipeline.train(rows=iter(ROWS), task="classification", quiet=True, **SMALL)
    assert run.summary.step == 3
    assert run.folder == Path("runs") / next(Path("data").glob("rows-*.jsonl")).stem
    output = capsys.readouterr()
    assert "rows      train" not in output.err
    assert output.out.startswith("validation  accuracy ")
    Path("data/own.jsonl").write_text(
        "".join(
            json.dumps({"text": row["text"], "label": int(row["label"])}) + "\n" for row in ROWS
        )
    )
    keys = [f"{key}={json.dumps(value)}" for key, value in SMALL.items()]
    status, _, err = call("train", "corpus.input=own.jsonl", *keys)
    assert status == 0, err
    texts = ["Film 3 was fine.", "Dull."]
    assert run.model().predict(texts) == pipeline.load("runs/own").predict(texts)


def test_the_same_call_resumes(caplog: pytest.LogCaptureFixture) -> None:
    first = pipeline.train(rows=ROWS, **SMALL)
    again = pipeline.train(rows=ROWS, **SMALL)
    assert "is finished: it reached the end of train.max_steps" in caplog.text
    assert again == first
    longer = pipeline.train(rows=ROWS, **{**SMALL, "train.max_steps": 5})
    assert (longer.folder, longer.summary.step) == (first.folder, 5)


def test_a_config_with_overrides() -> None:
    Path("data").mkdir()
    lines = [f"{row['label']},{row['text']}\n" for row in ROWS]
    Path("data/a.csv").write_text("label,text\n" + "".join(lines))
    Path("own.yaml").write_text("corpus: {input: a.csv}\nrun: {name: '0'}\n")
    run = pipeline.train("own.yaml", quiet=True, **SMALL)
    assert (run.folder, run.summary.step) == (Path("runs/0"), 3)


@pytest.mark.parametrize(
    "arguments,error",
    [
        ({"rows": []}, "rows: is empty; give at least one row per label and split"),
        ({"rows": ["a"]}, "rows: row 1 is of type str; give a dict from column to value"),
        (
            {"rows": [{"text": b"a"}]},
            "rows: row 1 cannot be written as JSON: a value of type bytes",
        ),
        ({"rows": ROWS, "corpus.input": "a.csv"}, "leave out one of the two"),
        ({"config": "no.yaml"}, "--config no.yaml: no such file"),
        ({"config": "imdb", "train.lr": -1}, "train.lr=-1: input should be greater than 0"),
    ],
)
def test_mistakes(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        pipeline.train(**arguments)
    assert error in str(raised.value)
    assert not Path("runs").exists()
