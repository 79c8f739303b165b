"""`headrace export --format onnx`: the folder predicts as the run does, or one line is an error."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from pipeline.errors import RunError
from pipeline.export.onnx import check, export, numpy_runtime
from pipeline.inference.model import Model
from pipeline.inference.trained import load_trained
from pipeline.tasks.base.calibration import Calibration
from tests.export.onnx.small_models import export_of, randomize
from tests.helpers.processes import call, error_lines

Runs = Callable[[str], Path]
LINES = [
    "the film was superb", "", "  \t ", "a dull plot, and long\r", "the\0film", "plot " * 300,
    "<pad> café naïve </s>", "mr anna saw the scene near rovitu", "the film was\tmusic", "music",
]  # fmt: skip
CALIBRATION = Calibration(2.0, 0.45, {"praise": 0.55})
TASKS = [
    "classification", "multilabel", "regression", "tagging", "entailment", "language_modeling",
    "translation",
]  # fmt: skip


def assert_equal(found: Any, expected: Any) -> None:
    """Compare predictions: texts are equal, numbers within 1e-5 (or, relatively, 1e-6)."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_equal(found[key], value)
    elif isinstance(expected, list):
        for pair in zip(found, expected, strict=True):
            assert_equal(*pair)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-5, rel=1e-6)
    else:
        assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_folder_predicts_as_the_run(task: str, runs: Runs, tmp_path: Path) -> None:
    split = ["corpus.overflow=split", "corpus.truncation_side=start"]
    overrides = split if task == "classification" else []
    if task == "translation":
        overrides = ["task.n_best=2", "task.max_length_ratio=0.6"]
    run = load_trained(runs(task), overrides)
    torch.manual_seed(0)
    randomize(run.module)  # a model of two updates predicts the same for all texts
    run.task.calibration = CALIBRATION
    expected = Model(run).predict(LINES)
    assert any("error" not in prediction for prediction in expected)
    export_of(run, tmp_path / "onnx")
    model = numpy_runtime.load(tmp_path / "onnx", threads=1)
    assert_equal(model.predict(LINES), expected)
    assert_equal([model.predict([line])[0] for line in LINES], expected)
    run.task.top_k = model.top_k = 2
    assert_equal(model.predict(LINES), Model(run).predict(LINES))


@pytest.mark.slow
def test_images_are_predicted_from_their_paths(runs: Runs, tmp_path: Path) -> None:
    from PIL import Image

    run = load_trained(runs("images"))
    rng = np.random.default_rng(0)
    for number in range(3):
        pixels = rng.integers(0, 256, (9 + number, 7), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "0.png").read_bytes()[:50])
    lines = [f"{tmp_path}/{name}.png" for name in (0, 1, 2, "damaged", "missing")]
    export_of(run, tmp_path / "onnx")
    found = numpy_runtime.load(tmp_path / "onnx", threads=1).predict(lines)
    assert_equal(found, Model(run).predict(lines))


@pytest.mark.slow
def test_the_command_and_the_script_without_this_package(runs: Runs, tmp_path: Path) -> None:
    folder, output = runs("classification"), tmp_path / "a" / "onnx"
    status, out, err = call("export", "--run", str(folder), "--format", "onnx", "-o", str(output))
    assert (status, out, error_lines(err)) == (0, f"{output}\n", [])
    assert {file.name for file in output.iterdir()} == {
        "model.onnx", "tokenizer.json", "config.json", "predict_onnx.py", "requirements.txt"
    }  # fmt: skip
    text = "".join(f"{line}\n" for line in LINES)
    status, expected, _ = call("predict", "--run", str(folder), text=text)
    assert status == 0
    (tmp_path / "torch.py").write_text("raise ImportError")  # neither torch nor this package
    (tmp_path / "pipeline.py").write_text("raise ImportError")
    done = subprocess.run(
        [sys.executable, output / "predict_onnx.py", "--threads=1"],
        input=text, capture_output=True, text=True, cwd=tmp_path, timeout=120,
        env={"PYTHONPATH": str(tmp_path), "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found, wanted = (
        [json.loads(line) for line in lines.splitlines()] for lines in (done.stdout, expected)
    )
    assert_equal(found, wanted)
    onnx.checker.check_model(output / "model.onnx", full_check=True)  # with inferred shapes

    status, _, err = call("export", "--run", str(folder), "--format", "onnx", "-o", str(output))
    assert status == 2
    (line,) = error_lines(err)
    assert line.startswith(f"error: --output={output}: exists and is not empty; ")
    for name in ("model.onnx", "tokenizer.json", "config.json"):
        content = (output / name).read_bytes()
        for damaged in (content[: len(content) // 2], None):
            (output / name).unlink()
            if damaged is not None:
                (output / name).write_bytes(damaged)
            with pytest.raises(numpy_runtime.OnnxError, match="export") as error:
                numpy_runtime.load(output)
            assert "\n" not in str(error.value)
            (output / name).write_bytes(content)
    numpy_runtime.load(output)


def test_nothing_is_left_if_the_outputs_differ(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_trained(runs("classification"))
    monkeypatch.setattr(check, "TOLERANCE", (0.0, -1.0))
    with pytest.raises(
        RunError, match=r"model\.onnx: the output logits of onnxruntime differs .* nothing was"
    ):
        export_of(run, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_one_line(runs: Runs, tmp_path: Path) -> None:
    run = load_trained(runs("classification"))
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "onnx"):
        with pytest.raises(RunError, match=r"--output=.*: .*; .*another folder") as error:
            export_of(run, output)
        assert len(error.value.lines) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_missing_libraries_are_one_line(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_trained(runs("classification"))
    monkeypatch.setattr(export, "find_spec", lambda n: None if n == "onnx" else find_spec(n))
    with pytest.raises(RunError, match=r"--format=onnx: onnx is not installed; pip install "):
        export_of(run, tmp_path / "onnx")
