"""The note of a run: results, commands and settings, within MLflow's limit."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.run_description import COMMAND_TAG, MAX_TAG_CHARS, RunDescription
from pipeline.tracking.run_note import Best, best_of, read_summary, write_note

BEST = Best("accuracy", 0.87654, 1200)
SUMMARY: dict[str, Any] = {
    "step": 1500, "metric": "accuracy", "best": 0.9, "best_step": 1400, "test_step": 1400,
    "test": {"accuracy": 0.88, "loss": 0.4}, "intervals": {"accuracy": [0.85, 0.91]},
    "baseline": {"metric": "accuracy", "value": 0.5125, "guess": "not | bad"},
}  # fmt: skip


def described(**values: Any) -> RunDescription:
    given: dict[str, Any] = {
        "params": {"model.hidden": "64", "train.lr": "0.003", "train.seed": "0"},
        "changed": {"train.lr": "0.001", "model.hidden": "128"},
        "tags": {COMMAND_TAG: "headrace train model.hidden=64"},
        "splits": {"train": 25_000, "validation": 2_500},
        "predict": "echo 'A film.' | headrace predict --run /runs/a",
        **values,
    }
    return RunDescription(
        key="1", uri="", experiment="e", name="a", dataset={"name": "imdb"}, started=0.0, **given
    )


def test_a_run_that_has_no_results_yet() -> None:
    note = write_note(described(), None, {})
    assert note == (
        "- Dataset `imdb`: train 25,000, validation 2,500 rows\n\n"
        "Predict:\n\n```\necho 'A film.' | headrace predict --run /runs/a\n```\n\n"
        "| Setting | Value | Default |\n|---|---|---|\n"
        "| train.lr | `0.003` | `0.001` |\n| model.hidden | `64` | `128` |\n\n"
        "Start the run, or resume it if it was stopped; add `train.epochs=N` to extend it:\n\n"
        "```\nheadrace train model.hidden=64\n```"
    )


def test_the_results_come_first() -> None:
    assert write_note(described(), BEST, {}).splitlines()[0] == (
        "- **Best validation accuracy: 0.8765** at step 1,200"
    )
    assert write_note(described(), best_of(SUMMARY, BEST), SUMMARY).splitlines()[:4] == [
        "- **Best validation accuracy: 0.9000** at step 1,400 of 1,500",
        "- Baseline accuracy: 0.5125 by always guessing `not \\| bad`",
        "- **Test accuracy: 0.8800**, 95 % interval 0.8500 to 0.9100, checkpoint at step 1,400",
        "- Dataset `imdb`: train 25,000, validation 2,500 rows",
    ]


@pytest.mark.parametrize(
    "summary, delivered, expected",
    [
        ({}, None, None),
        ({}, BEST, BEST),
        (SUMMARY, BEST, Best("accuracy", 0.9, 1400)),
        (SUMMARY, Best("accuracy", 0.95, 1600), Best("accuracy", 0.95, 1600)),  # extended
        ({**SUMMARY, "best": None}, None, None),
    ],
)
def test_the_later_best_evaluation_counts(
    summary: dict[str, Any], delivered: Best | None, expected: Best | None
) -> None:
    assert best_of(summary, delivered) == expected


def test_unprepared_rows_and_runs_of_earlier_versions_leave_lines_out() -> None:
    old = described(splits={}, changed={}, predict="", tags={})
    assert write_note(old, None, {}) == "- Dataset `imdb`"
    summary = {"step": 5, "metric": "loss", "best": 0.5, "best_step": 5, "test": {"loss": 0.25},
               "test_step": 5}  # fmt: skip
    assert write_note(old, best_of(summary, None), summary).splitlines()[:2] == [
        "- **Best validation loss: 0.5000** at step 5",
        "- **Test loss: 0.2500**, checkpoint at step 5",
    ]


def test_a_note_is_never_longer_than_the_limit() -> None:
    keys = [f"section.key{number}" for number in range(300)]
    long = described(
        params=dict.fromkeys(keys, "x" * 500),
        changed=dict.fromkeys(keys, "y"),
        tags={COMMAND_TAG: "headrace train " + "a=b " * 3000},
        predict="echo " + "a" * 3000,
    )
    note = write_note(long, BEST, SUMMARY)
    assert MAX_TAG_CHARS - 300 < len(note) <= MAX_TAG_CHARS
    rows = sum(line.startswith("| section.key") for line in note.splitlines())
    assert f"\n\nand {300 - rows} more settings, listed first under Parameters\n\n" in note
    assert note.endswith(" ...\n```")


def test_values_cannot_break_the_table_or_the_code() -> None:
    note = write_note(
        described(
            params={"corpus.replace": '{"a|b": "`"}\nc'},
            changed={"corpus.replace": ""},
            predict="echo '```' | headrace predict",
        ),
        None,
        {},
    )
    assert '\n| corpus.replace | `{"a\\|b": "\'"} c` |  |\n' in note
    assert note.count("```") == 4


def test_a_long_command_fits_the_page_and_means_the_same_to_a_shell() -> None:
    words = ["torchrun", "launch/train.py", "run.name=two words", *(f"key{i}=v" for i in range(30))]
    command = shlex.join(words)
    note = write_note(described(tags={COMMAND_TAG: command}), None, {})
    wrapped = note.rpartition("```\n")[2].removesuffix("\n```")
    assert max(map(len, wrapped.splitlines())) <= 78
    assert len(wrapped.splitlines()) > 3
    script = f"set -- {wrapped}\nprintf '%s,' \"$@\""
    printed = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert printed.stdout == "".join(f"{word}," for word in words)


def test_a_damaged_summary_is_none(tmp_path: Path) -> None:
    assert read_summary(tmp_path) == {}
    for text in ("{", "[1]", ""):
        (tmp_path / "summary.json").write_text(text)
        assert read_summary(tmp_path) == {}
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    assert read_summary(tmp_path) == SUMMARY
