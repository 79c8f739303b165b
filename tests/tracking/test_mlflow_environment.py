"""MLflow's own environment variables decide where a run goes, or a line says why not."""

import json
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

from mlflow import MlflowClient

from pipeline.tracking.mlflow_environment import Destination, choose
from pipeline.tracking.replay import replay
from tests.helpers.tracked import Stored, log, start

VARIABLES = [
    "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def names(tmp_path):
    """Names of experiments that no other test uses."""
    return f"{tmp_path}/a", f"{tmp_path}/b"


def track(folder, uri, *overrides, steps=range(1, 4)):
    """Track a run from start to end with the default experiment; return its `mlflow.json`."""
    tracker = start(folder, uri, "track.experiment=headrace", *overrides)
    log(folder, steps)
    tracker.close("FINISHED")
    return json.loads((folder / "mlflow.json").read_text())


def test_variables_replace_defaults_only(tmp_path, monkeypatch, caplog):
    assert choose("", "headrace", tmp_path) == Destination(
        f"sqlite:///{Path.cwd()}/mlflow.db", "headrace"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@theirs")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    assert choose("", "headrace", tmp_path) == Destination("http://user:secret@theirs", "theirs")
    assert not caplog.messages
    assert choose("http://mine", "mine", tmp_path) == Destination("http://mine", "mine")
    assert caplog.messages == [
        "MLFLOW_TRACKING_URI=http://theirs: ignored; the run has track.uri=http://mine",
        "MLFLOW_EXPERIMENT_NAME=theirs: ignored; the run has track.experiment=mine",
    ]


def test_an_experiment_s_name_goes_before_its_id(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    assert choose("u", "headrace", tmp_path) == Destination("u", "", "7")
    assert not caplog.messages
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    assert choose("u", "headrace", tmp_path) == Destination("u", "theirs")
    expected = "MLFLOW_EXPERIMENT_ID=7: ignored; MLFLOW_EXPERIMENT_NAME is theirs"
    assert caplog.messages == [expected]


def test_the_named_experiment_gets_the_run_also_when_it_resumes(
    folder, store, names, monkeypatch, caplog
):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", names[0])
    track(folder, store)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    track(folder, store, steps=range(4, 6))
    assert not caplog.messages
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", names[1])
    track(folder, store, steps=range(6, 8))
    reason = f"{folder} is in the MLflow experiment {names[0]}"
    assert caplog.messages == [f"MLFLOW_EXPERIMENT_NAME={names[1]}: ignored; {reason}"]
    assert Stored(store, names[0]).steps() == [1, 2, 3, 4, 5, 6, 7]
    assert Stored(store, names[1]).runs == []


def test_an_experiment_is_found_by_its_id(folder, store, names, monkeypatch, caplog):
    number = MlflowClient(store).create_experiment(names[0])
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    for steps in (range(1, 4), range(4, 6)):
        assert track(folder, store, steps=steps)["experiment"] == names[0]
    assert Stored(store, names[0]).steps() == [1, 2, 3, 4, 5]
    assert not caplog.messages


@pytest.mark.parametrize("number", ["987654", "none"])
def test_an_experiment_that_is_not_there_is_one_line(folder, store, number, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    assert track(folder, store)["experiment"] == "headrace"
    assert caplog.messages == [f"MLFLOW_EXPERIMENT_ID={number}: ignored; there is none in MLflow"]


def test_an_existing_run_receives_everything(folder, store, names, monkeypatch, caplog):
    client = MlflowClient(store)
    run = client.create_run(client.create_experiment(names[0]), run_name="theirs")
    client.log_param(run.info.run_id, "seed", 3)
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    assert track(folder, store)["run_id"] == run.info.run_id
    monkeypatch.delenv("MLFLOW_RUN_ID")
    assert track(folder, store, steps=range(4, 6))["run_id"] == run.info.run_id
    stored = Stored(store, names[0])
    assert stored.steps() == [1, 2, 3, 4, 5]
    assert (stored.run.info.run_name, stored.run.info.status) == ("theirs", "FINISHED")
    assert stored.run.data.params["seed"] == "3"
    assert "train.lr" in stored.run.data.params
    assert not caplog.messages


def test_the_experiment_of_an_existing_run_goes_before_another(
    folder, store, names, monkeypatch, caplog
):
    client = MlflowClient(store)
    run_id = client.create_run(client.create_experiment(names[0])).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    assert track(folder, store, f"track.experiment={names[1]}")["experiment"] == names[0]
    reason = f"so the run goes there and not to the experiment {names[1]}"
    assert caplog.messages == [f"MLFLOW_RUN_ID={run_id}: is in the experiment {names[0]}, {reason}"]


def test_a_run_that_is_in_mlflow_stays_there(folder, store, names, monkeypatch, caplog):
    own = track(folder, store, f"track.experiment={names[0]}")["run_id"]
    client = MlflowClient(store)
    other = client.create_run(client.create_experiment(names[1])).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", other)
    assert track(folder, store, f"track.experiment={names[0]}")["run_id"] == own
    line = f"MLFLOW_RUN_ID={other}: ignored; {folder} already has the MLflow run {own}"
    assert caplog.messages == [line]
    assert not client.get_run(other).data.metrics


@pytest.mark.parametrize("problem", ["missing", "deleted", "another folder's"])
def test_a_run_that_cannot_be_used_is_one_line(
    problem, folder, store, names, tmp_path, monkeypatch, caplog
):
    client, run_id = MlflowClient(store), "0" * 32
    if problem == "deleted":
        run_id = client.create_run(client.create_experiment(names[1])).info.run_id
        client.delete_run(run_id)
    elif problem == "another folder's":
        (tmp_path / "other").mkdir()
        run_id = track(tmp_path / "other", store, f"track.experiment={names[1]}")["run_id"]
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    found = track(folder, store, f"track.experiment={names[0]}")
    assert found["run_id"] != run_id
    assert Stored(store, names[0]).steps() == [1, 2, 3]
    reason = "it has another run folder" if problem == "another folder's" else "there is none"
    assert caplog.messages == [f"MLFLOW_RUN_ID={run_id}: ignored; {reason} in MLflow"]


def test_a_run_that_was_never_delivered_is_replayed_to_the_given_run(
    folder, store, names, monkeypatch
):
    client = MlflowClient(store)
    run_id = client.create_run(client.create_experiment(names[0])).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    unreachable = "http://127.0.0.1:9"
    tracker = start(folder, unreachable, "track.experiment=headrace")
    log(folder, range(1, 4))
    tracker._followers[0].end("FINISHED", 1.0)
    monkeypatch.delenv("MLFLOW_RUN_ID")
    assert replay(folder, store) == run_id
    assert Stored(store, names[0]).steps() == [1, 2, 3]
