"""`launch/predict.py --output` in processes that torchrun starts, also after SIGKILL."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import config
from pipeline.training import session
from tests.helpers.corpora import small_run_overrides
from tests.helpers.files import reviews, write
from tests.helpers.processes import (
    REPOSITORY,
    call,
    error_lines,
    finish,
    kill,
    start,
    torchrun,
    wait_for,
)

SCRIPT = str(REPOSITORY / "launch" / "predict.py")


@pytest.fixture(scope="module")
def run(corpora: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    overrides = small_run_overrides(corpora("classification"), "classification")
    settings = [*overrides, f"run.dir={folder}", "train.max_steps=2", "train.epochs=1"]
    session.train(config.load(None, settings))
    return folder


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("part-*")}


@pytest.mark.distributed
def test_a_killed_prediction_resumes_with_another_number_of_processes(
    run: Path, tmp_path: Path
) -> None:
    write(tmp_path / "a.parquet", reviews(4000, 1))
    write(tmp_path / "b.jsonl", reviews(2500, 2))
    options = ["--run-dir", str(run), "--keep", "source", "--rows-per-part", "50"]
    options += ["--input", f"{tmp_path}/a.parquet", "--input", f"{tmp_path}/b.jsonl"]
    status, out, err = call("predict", *options, "--output", str(tmp_path / "whole"))
    assert (status, out) == (0, ""), err
    whole = parts(tmp_path / "whole")
    assert len(whole) == 130
    folder, rng = tmp_path / "out", random.Random(3)
    command = torchrun(SCRIPT, *options, "--output", str(folder), nproc=2)
    killed = start(command)
    wait_for(lambda: len(parts(folder)) >= 10)
    time.sleep(rng.random() / 4)
    kill(killed, signal.SIGKILL)
    finish(killed)
    wait_for(lambda: not (folder / "_manifest.json").exists())
    made = parts(folder)
    assert 10 <= len(made) < 130
    status, out, err = call("predict", *options, "--output", str(folder))
    assert (status, out) == (0, ""), err
    assert f"{folder}: 6,500 rows in 130 parts, 0 with errors; padding " in err
    assert parts(folder) == whole
    manifest = json.loads((folder / "_manifest.json").read_text())
    assert manifest == json.loads((tmp_path / "whole/_manifest.json").read_text())


@pytest.mark.distributed
def test_an_error_of_two_processes_is_one_line(run: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", reviews(50))
    options = ["--run-dir", str(run), "--keep", "name", "--input", str(path)]
    command = torchrun(SCRIPT, *options, "--output", str(tmp_path / "out"), nproc=2)
    status, _, err = finish(start(command))
    assert status != 0
    assert error_lines(err) == [
        f"error: {path}: has no column 'name'; it has 'text', 'label', 'source'"
    ]
    assert not (tmp_path / "out").exists()


def test_mistakes_are_one_line(run: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", reviews(5))
    here = ["--run", str(run), "--input", str(path)]
    output = ["--output", str(tmp_path / "out")]
    cases = {
        "the following arguments are required: --run/--run-dir": output,
        "--keep=source: applies only with --output": [*here, "--keep", "source"],
        "--rows-per-part=0: is not at least 1": [*here, *output, "--rows-per-part", "0"],
        "invalid choice: 'csv'": [*here, *output, "--output-format", "csv"],
        "--input -: is a stream": ["--run", str(run), *output],
    }
    for expected, arguments in cases.items():
        status, out, err = call("predict", *arguments)
        assert (status, out) == (2, "")
        (line,) = error_lines(err)
        assert expected in line
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_is_one_line(run: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", reviews(5))
    (tmp_path / "out").mkdir(mode=0o500)
    arguments = ["--run", str(run), "--input", str(path), "--output", str(tmp_path / "out")]
    status, _, err = call("predict", *arguments)
    assert status == 2
    (line,) = error_lines(err)
    assert "cannot be written: Permission denied" in line
