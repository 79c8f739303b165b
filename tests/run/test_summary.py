"""The summary of a finished run, and the suggested next commands."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.run.folder import RunFolder
from pipeline.run.summary import Summary, describe, predict_command, read_summary

SUMMARY = Summary(
    step=200,
    epochs=1.5,
    metric="accuracy",
    validation={"loss": 0.4, "accuracy": 0.8125},
    signatures={"bleu": "nrefs:1"},
    best=0.875,
    best_step=150,
    seconds=12.3,
    tokens_per_s=45678.9,
)


def test_a_folder_without_a_summary_gives_none(tmp_path: Path) -> None:
    assert read_summary(RunFolder(tmp_path)) is None


def test_summary_is_read_back_unchanged(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    SUMMARY.write(folder)
    assert read_summary(folder) == SUMMARY


def test_lines_show_validation_and_speed() -> None:
    validation, speed = SUMMARY.lines()
    assert validation == "validation  accuracy 0.8125 at step 200, best 0.8750 at step 150"
    assert "45,679 tokens/s" in speed
    assert "1.50 epochs" in speed
    validation, _ = replace(SUMMARY, best=None).lines()
    assert validation == "validation  accuracy 0.8125 at step 200"


FULL = replace(
    SUMMARY,
    baseline={"metric": "accuracy", "value": 0.3704, "guess": "'shipping'"},
    confused=[["billing", "shipping", 12], ["technical", "billing", 5], ["a", "b", 1]],
    test={"examples": 40, "accuracy": 0.79, "loss": 0.5},
    test_step=150,
    intervals={"accuracy": [0.7012, 0.8512]},
)


def test_lines_of_a_full_summary(tmp_path: Path) -> None:
    assert FULL.lines() == [
        "validation  accuracy 0.8125 at step 200, best 0.8750 at step 150",
        "baseline    accuracy 0.3704 by always guessing 'shipping'",
        "test        accuracy 0.7900, 95 % interval 0.7012 to 0.8512, step 150, 40 rows",
        "confused    billing as shipping (12), technical as billing (5), a as b (1)",
        "speed       45,679 tokens/s without padding, 12 s of training, 1.50 epochs",
    ]
    folder = RunFolder(tmp_path)
    FULL.write(folder)
    assert read_summary(folder) == FULL


def test_a_baseline_of_another_metric_has_the_models_value_beside_it() -> None:
    baseline = {"metric": "accuracy", "value": 0.9301, "guess": "'O'"}
    summary = replace(SUMMARY, metric="f1", validation={"f1": 0.5, "accuracy": 0.95},
                      baseline=baseline)  # fmt: skip
    assert summary.lines()[1] == ("baseline    accuracy 0.9301 by always guessing 'O'; here 0.9500")


def test_a_description_has_at_most_12_lines_of_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(Path("runs/tickets"))
    folder.path.mkdir(parents=True)
    names = ["a label with a very long name " + letter for letter in "abc"]
    confused = [[a, b, 1000] for a in names for b in names if a != b][:3]
    replace(FULL, confused=confused).write(folder)
    folder.report.write_text("")
    lines = describe(folder, watch=["mlflow ui"], example="A fine film.").splitlines()
    assert "report      runs/tickets/report.html" in lines
    assert lines[3] == "confused    a label with a ve... as a label with a ve... (1,000)"
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 80


def test_description_ends_with_the_next_commands(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    SUMMARY.write(folder)
    lines = describe(folder, watch=["mlflow ui"], example="A text.").splitlines()
    assert lines[:2] == SUMMARY.lines()
    assert lines[2:4] == [f"run folder  {tmp_path}", "watch       mlflow ui"]
    # headrace is the command that the package installs
    typed = " ".join(line.strip() for line in lines[4:-1])
    assert typed == f"predict     echo 'A text.' | headrace predict --run {tmp_path}"
    assert lines[-1].startswith("resume ")
    assert "watch" not in describe(folder, watch=[], example="A text.")
    odd = RunFolder(tmp_path / "exp #2")
    assert f"--run '{tmp_path}/exp #2'" in describe(odd, watch=[], example="A text.")


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ("image.png", "echo image.png"),
        ("It costs $5 & more", "echo 'It costs $5 & more'"),
        ("A man\tA person", r"printf '%s\t%s\n' 'A man' 'A person'"),
    ],
)
def test_a_line_is_typed_as_a_shell_reads_it(line: str, typed: str) -> None:
    assert predict_command(Path("a"), line) == f"{typed} | headrace predict --run a"
    done = subprocess.run(["sh", "-c", typed], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout == f"{line}\n"


def test_a_long_command_goes_on_after_the_pipe(tmp_path: Path) -> None:
    lines = describe(RunFolder(Path("runs/a")), watch=[], example="a" * 58).splitlines()
    assert lines[1:3] == [
        f"predict     echo {'a' * 58} |", "              headrace predict --run runs/a"
    ]  # fmt: skip
