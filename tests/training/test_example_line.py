"""The input in the last lines of a run: one of the run's own rows."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from pipeline.training.example_line import MAX_CHARACTERS, MAX_PAIR_CHARACTERS, shortened
from tests.helpers.corpora import CASES, small_run_overrides
from tests.helpers.processes import call

SHELL_FUNCTION = 'headrace() { printf "%s\\n" "$@" ""; cat; }'
"""Prints its arguments, one per line, an empty line, and its stdin."""
LONG = "a very long text " * 8


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["short", "a longer text", LONG], "a longer text"),
        ([LONG, LONG + "more"], "a very long text a very long text a very long text a very"),
        (["x" * 90], "x" * MAX_CHARACTERS),
        (["two\nlines and  spaces"], "two lines and spaces"),
        (["it's quoted", "fine"], "fine"),
        ([r"C:\new", "-n", "", "\x07", "fine"], "fine"),
        (["", "it's"], ""),
        ([LONG + "that's all"], "a very long text a very long text a very long text a very"),
        (["one\ttwo", "one\t"], "one\ttwo"),
        ([f"{LONG}\t{LONG}"], "a very long text a\ta very long text a"),
    ],
)
def test_the_longest_line_that_is_short_enough_is_shown(lines: list[str], expected: str) -> None:
    assert shortened(lines) == expected
    assert len(expected.replace("\t", "")) <= (
        MAX_PAIR_CHARACTERS if "\t" in expected else MAX_CHARACTERS
    )


@pytest.mark.slow
@pytest.mark.parametrize("task", CASES)
def test_the_printed_command_predicts(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    CASES[task].write(tmp_path / CASES[task].file, 60)
    overrides = small_run_overrides(tmp_path, task)
    status, out, err = call(
        "train", *overrides, "train.max_steps=1", "track.trackers=[]", "run.dir=run",
    )  # fmt: skip
    assert status == 0, err
    command = re.search(r"^predict +(.*?)^resume", out, re.M | re.S)
    assert command
    assert max(map(len, out.splitlines())) <= 80
    if CASES[task].file.endswith(".parquet"):  # the images are in the table
        assert command[1].startswith("echo image.png |")
        return
    typed = ["sh", "-c", f"{SHELL_FUNCTION}\n{command[1]}"]
    done = subprocess.run(typed, check=True, text=True, stdout=subprocess.PIPE)
    arguments, _, text = done.stdout.partition("\n\n")
    status, out, err = call(*arguments.splitlines(), text=text)
    assert status == 0, err
    assert len(out.splitlines()) == 1
    assert "error" not in json.loads(out)
