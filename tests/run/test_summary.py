"""The summary of a finished run, and the suggested next commands."""

from dataclasses import replace
from pathlib import Path

from pipeline.run.folder import RunFolder
from pipeline.run.summary import Summary, describe, read_summary

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


def test_description_ends_with_the_next_commands(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    SUMMARY.write(folder)
    lines = describe(folder, watch=["mlflow ui"], example="'A text.'").splitlines()
    assert lines[:2] == SUMMARY.lines()
    assert lines[2:4] == [f"run folder  {tmp_path}", "watch       mlflow ui"]
    # headrace is the command that the package installs
    assert lines[4] == f"predict     echo 'A text.' | headrace predict --run {tmp_path}"
    assert lines[5].startswith("resume ")
    assert "watch" not in describe(folder, watch=[], example="'A text.'")
    odd = RunFolder(tmp_path / "exp #2")
    assert f"--run '{tmp_path}/exp #2'" in describe(odd, watch=[], example="'A text.'")
