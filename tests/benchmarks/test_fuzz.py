"""The fuzzing harness: seeds repeat cases; findings are noticed, saved and counted."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from benchmarks import fuzz
from benchmarks.fuzzers import checks, child, files, mutations
from benchmarks.fuzzers.checks import FINDING, OK, REFUSED, line_problem
from pipeline.errors import HeadraceError, InputError
from tests.helpers.processes import REPOSITORY


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(name: str, number: int, folder: Path) -> checks.Outcome:
    folder.mkdir()
    return child.run_case(name, 0, number, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", child.NAMES)
def test_cases_of_each_form_have_no_finding(name, tmp_path):
    outcomes = [run(name, number, tmp_path / str(number)) for number in range(3)]
    assert {outcome.status for outcome in outcomes} <= {OK, REFUSED}, outcomes


def test_a_seed_gives_the_same_files(tmp_path):
    for name in ("first", "again"):
        run("webdataset", 5, tmp_path / name)
    first, again = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.is_file()}
        for name in ("first", "again")
    )
    first.pop("overrides.json"), again.pop("overrides.json")  # with the folder's name
    assert first == again
    assert len(first) >= 2


@pytest.mark.parametrize("change", [*mutations.BYTES, *mutations.LINES])
def test_mutations_accept_any_content(change):
    rng = Random(0)
    for data in (b"", b"\n", b"a", b"a,b\nc,d\n", bytes(range(256))):
        assert isinstance(change(rng, data), bytes)


@pytest.mark.parametrize(
    "line, problem",
    [
        ("a.csv: is empty; remove it", ""),
        ("train.lr=x: input should be a number", ""),
        ("a.csv: is empty", "the error does not say what to do"),
        ("is empty; remove it", "the error has no key or file and colon"),
        ("a.csv: is\nempty; remove it", "the error has a control character"),
        (f"a.csv: {'x' * 5000}; remove it", "the error has 5,018 characters"),
    ],
)
def test_lines_that_do_not_help_are_findings(line, problem, tmp_path):
    assert line_problem(line) == problem
    error = InputError("x")
    error.lines = [line]
    assert checks.refused(error, tmp_path).status == (FINDING if problem else REFUSED)


def test_a_lost_row_is_a_finding(tmp_path, monkeypatch):
    assert run("jsonl", 1, tmp_path / "1").status == OK
    prepared = files._prepare

    def loses_a_row(settings, fields):
        manifest = prepared(settings, fields)
        if not isinstance(manifest, HeadraceError):
            manifest.report["rows"] += 1
        return manifest

    monkeypatch.setattr(files, "_prepare", loses_a_row)
    outcome = run("jsonl", 1, tmp_path / "2")
    assert outcome.status == FINDING
    assert " rows read, " in outcome.detail


def test_a_dataset_that_depends_on_chunks_is_a_finding(tmp_path, monkeypatch):
    prepared = files._prepare

    def depends(settings, fields):
        if settings.chunk_mb < 1:
            return InputError("a.jsonl: is small; enlarge it")
        return prepared(settings, fields)

    monkeypatch.setattr(files, "_prepare", depends)
    outcome = run("jsonl", 1, tmp_path / "1")
    assert outcome.status == FINDING
    assert (
        outcome.detail == "chunks change the outcome: 'a dataset', 'a.jsonl: is small; enlarge it'"
    )


def test_an_exception_is_a_finding_with_its_place(tmp_path, monkeypatch):
    def fails(settings, fields):
        raise KeyError("label")

    monkeypatch.setattr(files, "_prepare", fails)
    outcome = run("csv", 0, tmp_path / "0")
    assert outcome.status == FINDING
    assert outcome.detail.startswith("KeyError in ")


def _crashes(name: str, seed: int, number: int, folder: Path) -> checks.Outcome:
    if number == 1:
        (folder / "input").write_text("x")
        os._exit(9)
    return checks.Outcome(OK)


def test_a_crash_is_a_finding_and_the_cases_after_it_run(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "run_case", _crashes)
    form = fuzz.Form("csv", range(4), tmp_path / "out")
    ((finished, _),) = fuzz.run([form], seed=3, jobs=1)
    assert finished is form
    assert form.counts == {OK: 3, FINDING: 1}
    (line,) = form.findings
    assert line.startswith("csv, --seed 3 --first 1: crashes with status 9")
    assert (tmp_path / "out" / "1" / "input").read_text() == "x"
    assert "--first 1" in (tmp_path / "out" / "1" / "finding.txt").read_text()


@pytest.mark.slow
def test_the_command_prints_a_table_and_refuses_to_write_into_the_repository(tmp_path):
    command = [sys.executable, "benchmarks/fuzz.py", "--files", "2", "--only", "text"]
    out = tmp_path / "out"
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "| text | 2 |" in done.stdout
    assert done.stdout.endswith("0 finding(s), seed 0\n")
    assert not out.exists() or not [*out.iterdir()]
    refused = subprocess.run(
        [*command, "--out", "runs"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "is in the repository; give another folder" in refused.stderr


def test_outcomes_are_lines_of_json(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "_limit_memory", lambda: None)
    monkeypatch.setattr("faulthandler.enable", lambda file: None)
    monkeypatch.setattr("os.dup2", lambda a, b: None)
    monkeypatch.setattr(child, "run_case", lambda *a: checks.Outcome(REFUSED, "a: b; c"))
    monkeypatch.setattr("logging.disable", lambda: None)
    child.main("csv", 0, range(7, 9), tmp_path)
    lines = (tmp_path / child.OUTCOMES).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"number": number, "status": REFUSED, "detail": "a: b; c"} for number in (7, 8)
    ]
