"""Modules that `predict` imports, and files that it reads."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline
from tests.helpers.processes import REPOSITORY

UNUSED = {
    "pyarrow", "pandas", "mlflow", "matplotlib", "torchmetrics", "sacrebleu", "PIL", "tqdm",
    "scipy", "sklearn", "filelock", "fsspec", "asyncio.runners", "multiprocessing.pool",
    "torch._dynamo", "torch._inductor",
}  # fmt: skip
"""Modules that predictions for texts do not need."""
COMMAND = """
import atexit, runpy, sys
import torch  # what torch imports itself does not count
before = set(sys.modules)
atexit.register(lambda: print(*sorted(set(sys.modules) - before), file=sys.stderr))
sys.argv[0] = "headrace"
runpy.run_module("pipeline.cli", run_name="__main__")
"""


@pytest.mark.parametrize("task", ["classification", "tagging", "multilabel"])
def test_predict_imports_nothing_that_texts_do_not_need(
    task: str, runs: Callable[[str], Path]
) -> None:
    command = [sys.executable, "-c", COMMAND, "predict", "-q", "--run", str(runs(task))]
    done = subprocess.run(
        command, input="the fine film\n", capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "error" not in json.loads(done.stdout)
    imported = set(done.stderr.split())
    assert {"pipeline.inference.predictor", "tokenizers"} <= imported
    assert not imported & UNUSED


def test_a_loaded_model_reads_its_files_once(runs: Callable[[str], Path]) -> None:
    folder = str(runs("classification"))
    opened: list[str] = []
    is_counting = True

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if is_counting and event == "open" and str(arguments[0]).startswith(folder):
            opened.append(Path(str(arguments[0])).name)

    sys.addaudithook(count)  # cannot be removed
    try:
        model = pipeline.load(folder)
        first = model.predict(["the fine film"])
        assert opened.count("tokenizer.json") == opened.count("config.yaml") == 1
        opened.clear()
        assert model.predict(["the fine film"]) == first
        assert not opened
    finally:
        is_counting = False
