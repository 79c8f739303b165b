"""`task.calibrate`: fitted for the best checkpoint when a run ends, used by all commands."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import config
from pipeline.run.calibration import CalibrationRecord, read_record
from pipeline.run.folder import RunFolder
from pipeline.tasks.base.calibration import Calibration, with_temperature
from pipeline.training import calibrating, session
from tests.helpers.campaign import cases
from tests.helpers.corpora import SMALL
from tests.helpers.processes import call, error_lines, metrics, run

NOISE = 0.1
WORDS = {"fun": "funny", "war": "warlike", "sad": "gloomy"}


def one_label(draw: random.Random) -> Any:
    """Return a text and its label, which is a random one with probability NOISE."""
    label = draw.choice(list(WORDS))
    text = f"the plot is {WORDS[label]}"
    return text, draw.choice(list(WORDS)) if draw.random() < NOISE else label


def several(draw: random.Random) -> Any:
    """Return a text and its labels, of which many are missing: their probability is below 0.5."""
    labels = [name for name in WORDS if draw.random() < 0.4]
    text = " ".join(["the plot is", *(WORDS[name] for name in labels)])
    return text, [name for name in labels if draw.random() < 0.45]


def write_rows(path: Path, count: int, row: Callable[[random.Random], Any], seed: int) -> Path:
    draw = random.Random(seed)
    with path.open("w") as file:
        for number in range(count):
            text, label = row(draw)
            words = f"{text} n{seed}-{number}"
            file.write(json.dumps({"text": words, "label": label}) + "\n")
    return path


TASKS: dict[str, Callable[[random.Random], Any]] = {
    "classification": one_label,
    "multilabel": several,
}


def overrides_for(folder: Path, task: str) -> list[str]:
    if not (folder / "rows.jsonl").exists():
        write_rows(folder / "rows.jsonl", 1500, TASKS[task], 0)
        write_rows(folder / "test.jsonl", 400, TASKS[task], 1)
    return [
        *SMALL, f"task.name={task}", f"corpus.input={folder}/rows.jsonl", "corpus.validation=0.3",
        f"corpus.test={folder}/test.jsonl", f"corpus.shards={folder}/shards", "train.max_steps=40",
        "train.epochs=8", "train.evaluate_every=10", "train.lr=0.03", "model.dropout=0",
        "model.embedding_dropout=0", "train.ema_decay=0", "train.warmup=0",
        "train.keep_checkpoints=9", f"run.dir={folder}/run",
        "task.label_smoothing=0.5" if task == "classification" else "task.calibrate=per_label",
    ]  # fmt: skip


def train(overrides: list[str]) -> None:
    session.train(config.load(None, overrides))


def record_of(folder: Path) -> CalibrationRecord:
    record = read_record(RunFolder(folder))
    assert record is not None
    return record


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that returns the folder of a task's finished run, which it trains once."""
    folders: dict[str, Path] = {}

    def run_of(task: str) -> Path:
        if task not in folders:
            folders[task] = tmp_path_factory.mktemp(task)
            train(overrides_for(folders[task], task))
        return folders[task] / "run"

    return run_of


def predict(folder: Path, *options: str, text: str) -> list[dict[str, Any]]:
    status, out, err = call("predict", "--run", str(folder), *options, text=text)
    assert status == 0, err
    return [json.loads(line) for line in out.splitlines()]


def evaluate(folder: Path, *options: str) -> dict[str, float]:
    file = folder.with_name("test.jsonl")
    status, out, err = call("evaluate", "--run", str(folder), "--input", str(file), *options)
    assert status == 0, err
    return dict(json.loads(out.splitlines()[-1]))


def test_a_run_ends_with_the_calibration_of_its_best_checkpoint(
    runs: Callable[[str], Path],
) -> None:
    folder = runs("classification")
    record, summary = record_of(folder), json.loads((folder / "summary.json").read_text())
    assert record.step == summary["best_step"] > 0
    assert (record.method, record.rows, record.folds, record.test_rows) == (
        "temperature",
        450,
        5,
        400,
    )
    assert record.reason == ""
    assert record.temperature < 0.8  # label smoothing makes the probabilities too small
    assert record.after["loss"] < record.before["loss"]
    assert summary["calibration"]["line"] == record.line()
    error = f"{record.before['calibration_error']:.3f} -> {record.after['calibration_error']:.3f}"
    assert f"temperature {record.temperature:.2f}; ECE {error} (5-fold), test" in record.line()
    assert "label_thresholds" not in summary["calibration"]
    logged = [line for line in metrics(folder) if "calibration/temperature" in line]
    assert [line["calibration/loss"] for line in logged] == [record.after["loss"]]


def test_predictions_have_the_calibrated_probabilities(runs: Callable[[str], Path]) -> None:
    folder = runs("classification")
    text = "the plot is funny\na warlike plot\n"
    calibrated = predict(folder, text=text)
    plain = predict(folder, "task.calibrate=none", text=text)
    temperature = record_of(folder).temperature
    for found, before in zip(calibrated, plain, strict=True):
        scores = torch.tensor(list(before["scores"].values()), dtype=torch.float64)
        expected = with_temperature(scores, temperature).tolist()
        assert list(found["scores"].values()) == pytest.approx(expected, abs=1e-5)
        assert found["label"] == before["label"]
        assert found["probability"] == max(found["scores"].values())
        assert found["probability"] != before["probability"]


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_evaluate_reports_the_calibrated_model(task: str, runs: Callable[[str], Path]) -> None:
    """On the test file, `headrace evaluate` has the metrics of `calibration.json`."""
    folder = runs(task)
    record = record_of(folder)
    shown = {"classification": ("loss",), "multilabel": ("micro_f1", "macro_f1")}[task]
    more = ["task.metrics=[f1_score]"] if task == "multilabel" else []
    after, before = evaluate(folder, *more), evaluate(folder, "task.calibrate=none")
    for name in shown:
        assert after[name] == pytest.approx(record.test_after[name], abs=1e-6)
        assert before[name] == pytest.approx(record.test_before[name], abs=1e-6)
        assert after[name] != pytest.approx(before[name], abs=1e-4)
    if task == "multilabel":
        assert after["f1_score"] == pytest.approx(after["macro_f1"], abs=1e-6)
    else:
        assert after["accuracy"] == before["accuracy"]
    tested = json.loads((folder / "summary.json").read_text())["test"]
    assert tested[shown[0]] == pytest.approx(before[shown[0]], abs=1e-6)


def test_thresholds_choose_the_labels(runs: Callable[[str], Path]) -> None:
    folder = runs("multilabel")
    record = record_of(folder)
    assert (record.method, record.reason) == ("per_label", "")
    assert record.after["micro_f1"] > record.before["micro_f1"] + 0.1
    own = record.calibration.thresholds(list(WORDS)).tolist()
    assert max(own) < 0.5
    text = "the plot is funny warlike gloomy"
    [found] = predict(folder, text=text)
    [before] = predict(folder, "task.calibrate=none", text=text)
    assert found["scores"] == before["scores"]
    chosen = [
        name
        for name, threshold in zip(WORDS, own, strict=True)
        if found["scores"][name] >= threshold
    ]
    assert sorted(found["labels"]) == sorted(chosen) != []
    assert before["labels"] == []


def test_top_k_limits_the_scores(runs: Callable[[str], Path]) -> None:
    text = "the plot is funny\n"
    for task in ("classification", "multilabel"):
        [every] = predict(runs(task), text=text)
        [found] = predict(runs(task), "--top-k", "2", text=text)
        expected = sorted(every["scores"].items(), key=lambda item: -item[1])[:2]
        assert list(found["scores"].items()) == expected
        assert found["scores_left_out"] == 1
        [more] = predict(runs(task), "--top-k=9", text=text)
        assert (len(more["scores"]), "scores_left_out" in more) == (3, False)
    status, _, err = call("predict", "--run", str(runs("multilabel")), "--top-k=0", text=text)
    assert status == 2
    [line] = error_lines(err)
    assert line.startswith("error: argument --top-k: 0: is not at least 1; give the number of")


def test_a_finished_run_is_calibrated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = overrides_for(tmp_path, "classification")
    train(overrides)
    first = record_of(tmp_path / "run")
    file = tmp_path / "run" / "calibration.json"
    with monkeypatch.context() as patch:
        patch.delattr(calibrating, "fit")
        train(overrides)
        train([*overrides, "task.calibrate=none"])
    file.unlink()
    train(overrides)
    assert record_of(tmp_path / "run") == first
    file.write_text("{")
    caplog.clear()
    train(overrides)
    assert record_of(tmp_path / "run") == first
    assert "calibration.json: cannot be read" in caplog.text


def test_a_prolonged_run_calibrates_its_new_best_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = [*overrides_for(tmp_path, "multilabel"), "train.lr=0.003"]
    train([*overrides, "train.max_steps=10"])
    first = record_of(tmp_path / "run")
    train(overrides)
    second = record_of(tmp_path / "run")
    assert second.step > first.step
    assert second.weights != first.weights
    run_folder, old = tmp_path / "run", tmp_path / "run" / "checkpoints" / "step-00000010"
    caplog.clear()
    [found] = predict(run_folder, f"--checkpoint={old}", text="the plot is funny\n")
    assert "was fitted for step" in caplog.text
    options = (f"--checkpoint={old}", "task.calibrate=none")
    assert [found] == predict(run_folder, *options, text="the plot is funny\n")
    caplog.clear()
    predict(run_folder, "task.calibrate=shared", text="the plot is funny\n")
    assert "was fitted with task.calibrate=per_label, not shared" in caplog.text


@pytest.mark.parametrize(
    "content, reason",
    [
        ("{", "Invalid JSON"),
        ('{"step": 1}', "weights: Field required"),
        ("temperature=-1", "temperature: Input should be greater than 0"),
        ("threshold=2", "threshold: Input should be less than or equal to 1"),
    ],
)
def test_a_damaged_calibration_is_one_line(
    content: str, reason: str, runs: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for path in runs("classification").iterdir():
        (folder / path.name).symlink_to(path)
    file = folder / "calibration.json"
    values = json.loads(file.read_text())
    file.unlink()
    if "=" in content:
        name, _, value = content.partition("=")
        content = json.dumps({**values, name: float(value)})
    file.write_text(content)
    status, _, err = call("predict", "--run", str(folder), text="the plot\n")
    assert status == 2
    [line] = error_lines(err)
    assert line.startswith(f"error: {file}: cannot be read ({reason}")
    assert line.endswith("delete it, and the training command writes it again")
    predict(folder, "task.calibrate=none", text="the plot\n")


def test_few_validation_rows_leave_the_outputs_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train([*overrides_for(tmp_path, "classification"), "corpus.validation=0.04"])
    record = record_of(tmp_path / "run")
    assert record.calibration == Calibration()
    assert record.reason == f"only {record.rows} rows, at least 100 are needed"
    assert f"calibration none: {record.reason}" in capsys.readouterr().out


def test_a_task_without_calibration_writes_no_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 300, lambda draw: ("a plot", draw.random()), 0)
    train(
        [
            *SMALL, "task.name=regression", f"corpus.input={tmp_path}/rows.jsonl",
            f"corpus.shards={tmp_path}/shards", f"run.dir={tmp_path}/run", "train.max_steps=2",
        ]
    )  # fmt: skip
    assert not (tmp_path / "run" / "calibration.json").exists()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["calibration"] is None
    options = ("--run", str(tmp_path / "run"), "--top-k=3")
    status, _, err = call("predict", *options, text="a plot\n")
    assert status == 2
    [line] = error_lines(err)
    assert line.startswith("error: --top-k=3: predictions of task.name=regression have no scores")


@pytest.mark.distributed
@pytest.mark.parametrize("task", cases(TASKS, ["multilabel"]))
def test_values_do_not_depend_on_the_number_of_processes(
    task: str, runs: Callable[[str], Path], tmp_path: Path
) -> None:
    one = record_of(runs(task))
    overrides = overrides_for(runs(task).parent, task)
    status, _, err = run(*overrides, f"run.dir={tmp_path}/two", nproc=2)
    assert status == 0, err
    two = record_of(tmp_path / "two")
    assert (two.step, two.rows, two.test_rows) == (one.step, one.rows, one.test_rows)
    assert two.temperature == pytest.approx(one.temperature, rel=1e-2)
    assert two.threshold == pytest.approx(one.threshold, abs=1e-2)
    assert two.label_thresholds == pytest.approx(one.label_thresholds, abs=1e-2)
    for name, value in one.after.items():
        assert two.after[name] == pytest.approx(value, rel=1e-2), name
