"""Training from Python: the run that the command makes."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pipeline
from pipeline.errors import ConfigError, InputError, RunError
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


def test_values_of_pandas_and_texts_that_are_not_unicode() -> None:
    odd: list[dict[str, Any]] = [
        {"text": np.str_("a fine film"), "label": np.float64(1)},
        {"text": float("nan"), "label": 1},
        {"text": pd.NA, "label": 1},
        {"text": pd.NaT, "label": 0},
        {"text": "a\ud800b", "label": 0},
        {"text": "a\udc80b", "label": 0},
    ]
    with pytest.raises(InputError) as raised:
        pipeline.train(rows=[*ROWS, *odd], **{**SMALL, "corpus.max_skipped_ratio": 0})
    assert "5 of 66 rows" in str(raised.value)
    assert "3 with no text" in str(raised.value)
    assert "2 with bytes that are not text" in str(raised.value)


def test_training_in_a_thread() -> None:
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(lambda: pipeline.train(rows=ROWS, quiet=True, **SMALL)).result()
    assert run.summary.step == 3


SCHEDULE = """
from pipeline.optim.schedules.constant import Constant

class Mine(Constant):
    version = 1
"""


def test_a_component_is_read_from_its_file_again(folder: Path) -> None:
    """An edit applies, even after the run with the code before it was loaded."""
    (folder / "mine.py").write_text(SCHEDULE)
    keys = {**SMALL, "train.schedule": "mine.py:Mine"}
    first = pipeline.train(rows=ROWS, quiet=True, **keys)
    first.model()
    (folder / "mine.py").write_text(SCHEDULE.replace("version = 1", "version = 2"))
    with pytest.raises(RunError, match=r"mine\.py: has changed since the run in .* began"):
        pipeline.train(rows=ROWS, quiet=True, **{**keys, "train.max_steps": 5})
    second = pipeline.train(rows=ROWS, quiet=True, **{**keys, "run.dir": "runs/second"})
    (copy,) = (second.folder / "code").iterdir()
    assert "version = 2" in copy.read_text()


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


def test_a_table_of_pandas_is_refused() -> None:
    with pytest.raises(TypeError, match="rows: are of type DataFrame; give its rows as dicts"):
        pipeline.train(rows=pd.DataFrame(ROWS))
