"""The MLflow model of a run predicts what `headrace predict` prints, also without this clone."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

import pandas as pd

import pipeline
from pipeline import config
from pipeline.errors import RunError
from pipeline.tracking import mlflow_model
from tests.helpers.processes import REPOSITORY
from tests.helpers.tracked import eventually, free_port

Saved = Callable[[str], Path]
LINES = {
    "classification": ["the film was superb", "a dull plot, and long", "", "music " * 40],
    "multilabel": ["a fine film", "rain " * 40, ""],
    "entailment": ["the red film\tred", "the plot\tblue"],
    "tagging": ["Peter Miller saw it", "the", "near Bonn " * 15],
    "translation": ["the film", "a plot of the film and the actor"],
    "language_modeling": ["the film", "a", "the plot of the film and the music"],
}
COLUMNS = {"entailment": ["text", "claim"], "tagging": ["word"]}


@pytest.fixture(scope="module")
def saved(runs: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A function that returns the MLflow model of a task's run, saved once."""
    folders: dict[str, Path] = {}

    def save(task: str) -> Path:
        if task not in folders:
            folder = tmp_path_factory.mktemp("mlflow-model") / task
            mlflow_model.save_model(runs(task), folder, LINES[task][0])
            folders[task] = folder
        return folders[task]

    return save


def table(task: str) -> pd.DataFrame:
    columns = COLUMNS.get(task, ["text"])
    return pd.DataFrame([line.split("\t") for line in LINES[task]], columns=columns)


def payloads(task: str) -> list[dict[str, Any]]:
    """Return the inputs in all forms of MLflow's server."""
    inputs = table(task)
    records = inputs.to_dict("records")
    forms: list[dict[str, Any]] = [
        {"dataframe_split": {"columns": list(inputs), "data": inputs.to_numpy().tolist()}},
        {"dataframe_records": [{"id": 1, **record} for record in records]},
        {"inputs": inputs.to_dict("list")},
        {"inputs": records},
        {"instances": records},
    ]
    if len(inputs.columns) == 1:
        forms += [{"inputs": LINES[task]}, {"instances": LINES[task]}]
    return forms


@pytest.mark.parametrize("task", LINES)
def test_a_model_predicts_like_the_command(
    runs: Callable[[str], Path], saved: Saved, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import pyfunc
    from mlflow.pyfunc import scoring_server

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setattr(sys, "path", list(sys.path))  # MLflow adds to it
    expected: list[Any] = pipeline.load(runs(task)).predict(LINES[task])
    model = pyfunc.load_model(str(saved(task)))
    assert model.predict(table(task)) == expected
    assert model.unwrap_python_model().predict(None, LINES[task]) == expected
    for payload in payloads(task):
        response = scoring_server.invocations(
            json.dumps(payload), "application/json", model, model.metadata.get_input_schema()
        )
        assert json.loads(response.response) == {"predictions": expected}, payload.keys()
    outputs = {spec.name for spec in model.metadata.get_output_schema().inputs}
    assert outputs >= {name for prediction in expected for name in prediction}
    assert list(model.input_example.iloc[0]) == LINES[task][0].split("\t")


def test_images_are_the_bytes_of_files(
    runs: Callable[[str], Path], corpora: Callable[[str], Path], tmp_path: Path
) -> None:
    from mlflow import pyfunc

    image = pd.read_parquet(corpora("images") / "images.parquet")["image"][0]
    path = tmp_path / "a.png"
    path.write_bytes(image)
    for example, target in ((str(path), "with"), ("missing.png", "without")):
        mlflow_model.save_model(runs("images"), tmp_path / target, example)
    model = pyfunc.load_model(str(tmp_path / "with"))
    expected = pipeline.load(runs("images")).predict([str(path)])
    assert model.predict(pd.DataFrame({"image": [image]})) == expected
    assert model.predict(model.input_example) == expected
    assert pyfunc.load_model(str(tmp_path / "without")).input_example is None
    assert "pillow==" in (tmp_path / "with/requirements.txt").read_text()


def test_an_example_without_a_prediction_is_an_error(
    runs: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="the model cannot predict '': the text is empty"):
        mlflow_model.save_model(runs("classification"), tmp_path / "model", "")
    assert not (tmp_path / "model").exists()


def test_nothing_in_a_model_is_pickled(saved: Saved) -> None:
    files = [path for path in saved("classification").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pyc")]
    assert {path.name for path in files} >= {"model.safetensors", "tokenizer.json", "MLmodel"}


def test_requirements_are_those_of_the_package_pinned(saved: Saved) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["predict"]]
    names = {re.split(r"[<>=\[]", line)[0] for line in needed} - {"pillow"}
    assert {*names, "mlflow", "pandas"} == set(mlflow_model.REQUIREMENTS)
    lines = (saved("classification") / "requirements.txt").read_text().split()
    assert lines == mlflow_model.requirements(images=False)
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)


ALONE = """
import sys
sys.path += {packages!r}
try:
    import pipeline
except ModuleNotFoundError:
    pass
else:
    sys.exit("the package is found without the model")
import json
from mlflow import pyfunc
model = pyfunc.load_model({model!r})
import pandas, pipeline
assert pipeline.__file__.startswith({model!r}), pipeline.__file__
print(json.dumps(model.predict(pandas.DataFrame({{"text": {lines!r}}}))))
"""


@pytest.mark.slow
def test_a_model_loads_without_this_package(
    runs: Callable[[str], Path], saved: Saved, tmp_path: Path
) -> None:
    """Without `site`, an editable installation of this package is not on the path either."""
    model, lines = str(saved("classification")), LINES["classification"]
    packages = [path for path in sys.path if path.endswith("-packages")]
    code = ALONE.format(packages=packages, model=model, lines=lines)
    command = [sys.executable, "-I", "-S", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == pipeline.load(runs("classification")).predict(lines)


@pytest.fixture
def served(saved: Saved, tmp_path: Path) -> Iterator[str]:
    """The address of `mlflow models serve` with the model of a tagging run."""
    port, log = free_port(), tmp_path / "server.log"
    command = ["models", "serve", "-m", str(saved("tagging")), "-p", str(port)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    env["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, "--env-manager", "local"],
            env=env, cwd=tmp_path, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            return bool(urllib.request.urlopen(f"{address}/ping", timeout=5).status == 200)
        except OSError:
            return False

    try:
        eventually(answers, 240)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_mlflow_serves_a_model(runs: Callable[[str], Path], served: str) -> None:
    expected = {"predictions": pipeline.load(runs("tagging")).predict(LINES["tagging"])}
    for payload in payloads("tagging"):
        request = urllib.request.Request(
            f"{served}/invocations",
            json.dumps(payload).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            assert json.load(response) == expected


def test_a_process_with_another_version_warns(
    saved: Saved, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow import pyfunc

    model, version = str(saved("classification")), pipeline.__version__
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(pipeline, "__version__", "9.9")
    pyfunc.load_model(model)
    expected = f"was logged with Headrace {version}, but this process has imported Headrace 9.9"
    assert expected in caplog.text


@pytest.mark.parametrize(
    "overrides, line",
    [
        (
            ["registered_model_name=a", "log_model=false"],
            "registered_model_name=a: applies only to a logged model, but track.log_model=false",
        ),
        (["registered_model_name=a/b"], "registered_model_name=a/b: has a / or :"),
        (["model_alias=a"], "model_alias=a: applies only to a registered model"),
        (
            ["registered_model_name=a", "model_alias=v1"],
            "model_alias=v1: is not an alias of MLflow",
        ),
    ],
)
def test_settings_that_do_not_fit_are_one_line(overrides: list[str], line: str) -> None:
    with pytest.raises(pipeline.errors.ConfigError) as caught:
        config.load(None, [f"track.{override}" for override in overrides])
    (found,) = caught.value.lines
    assert found.startswith(f"track.{line}")
    assert "; " in found
