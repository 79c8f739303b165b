"""A run folder whose trackers are checked often, and an MLflow store."""

from contextlib import chdir

import pytest

from pipeline.tracking import follower


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(follower, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(follower, "RETRY_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """The URI of an SQLite store, shared by all tests because creating one takes seconds."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    with chdir(folder):  # artifacts go to this folder
        MlflowClient(uri).search_experiments()
    return uri
