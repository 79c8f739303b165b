"""The benchmark that types two commands for each form of data."""

import re
from pathlib import Path

import pytest

from benchmarks import two_commands
from benchmarks.own_files import FORMS
from benchmarks.two_commands import Transcript, run, table_rows
from pipeline.inspection.inspection import inspect

TASKS = {
    "JSON lines, texts only": "language_modeling",
    "CoNLL, documents": "tagging",
    "CoNLL, comments": "tagging",
    "CoNLL-U": "tagging",
    "JSON lines, words and tags": "tagging",
    "fastText": "multilabel",
    "folder of images": "images",
    "captions": "captioning",
    "parallel files": "translation",
    "JSON lines, label lists": "multilabel",
    "CSV, joined labels": "multilabel",
    "CSV, columns of 0 and 1": "multilabel",
    "JSON lines, label maps": "multilabel",
    "JSON lines, label vectors": "multilabel",
}
"""The tasks of all forms other than classification."""
PRINTED = {
    "init": "own.yaml: tagging, lists of words\n",
    "train": (
        "validation  accuracy 0.9000 at step 40, best 0.9500 at step 30\n"
        "baseline    accuracy 0.5519 by always guessing 'O'\n"
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_task_that_fits(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = inspect(FORMS[form](tmp_path))
    assert found.proposal.task == TASKS.get(form, "classification")


def test_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cells of a row are those of the lines that the commands print."""

    def typed(self: Transcript, *words: str) -> tuple[str, float]:
        self.lines.append(" ".join(words))
        return PRINTED[words[0]], 2.04

    monkeypatch.setattr(Transcript, "type", typed)
    cells, transcript = run("CoNLL-U", tmp_path / "own")
    assert cells == [
        "CoNLL-U", "en.conllu", "tagging", "2.0", "2", "accuracy 0.9500",
        "accuracy 0.5519 by always guessing 'O'",
    ]  # fmt: skip
    assert transcript.lines == ["init en.conllu -o own.yaml", "train --config own.yaml"]
    rows = list(table_rows(["CoNLL-U"], tmp_path / "logs"))
    assert rows[2].startswith("| CoNLL-U | en.conllu | tagging |")
    assert (tmp_path / "logs" / "CoNLL-U.txt").is_file()


def test_a_command_that_fails_is_shown(tmp_path: Path) -> None:
    transcript = Transcript(tmp_path)
    printed, seconds = transcript.type("init", "missing.csv")
    assert "missing.csv: no such file" in printed
    assert seconds > 0
    assert transcript.failed
    assert re.search(r"exit status 2\)$", transcript.text())
    assert two_commands.HEADRACE.is_file()
