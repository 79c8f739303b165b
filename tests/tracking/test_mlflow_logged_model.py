"""MLflow gets the best model of a finished run once, whatever happens to the server."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

import pipeline
from pipeline import config
from pipeline.errors import RunError
from pipeline.tracking import follower, mlflow_logged_model
from pipeline.tracking.replay import replay
from pipeline.training import session
from tests.helpers.corpora import small_run_overrides
from tests.helpers.tracked import Stored, free_port

TEXTS = ["the film was superb", "a dull plot"]
Train = Callable[..., None]


@pytest.fixture
def train(
    folder: Path, store: str, corpora: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Train:
    """A function that trains the run in `folder`, which logs its model to `store`.

    On a busy machine, delivery takes longer than a run waits for it.
    """
    name, close = folder.parent.name, follower.close
    monkeypatch.setattr(follower, "close", lambda running, status, _: close(running, status, 240))
    monkeypatch.setattr(follower, "MODEL_SECONDS", 240)

    def run(*overrides: str) -> None:
        session.train(
            config.load(
                None,
                [
                    *small_run_overrides(corpora("classification")),
                    f"run.dir={folder}", "track.enabled=true", f"track.uri='{store}'",
                    f"track.experiment={folder}", "track.system_metrics=false",
                    f"track.registered_model_name={name}", "track.model_alias=champion",
                    "train.epochs=1", "train.max_steps=2", "train.ema_decay=0", *overrides,
                ],
            )
        )  # fmt: skip

    return run


def models(stored: Stored) -> list[Any]:
    assert stored.experiment is not None
    found: list[Any] = stored.client.search_logged_models([stored.experiment.experiment_id])
    return found


def test_a_finished_run_logs_its_best_model_once(
    train: Train, folder: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    train()
    stored = Stored(store, folder)
    (model,) = models(stored)
    run_id, name = stored.run.info.run_id, folder.parent.name
    assert (str(model.status), model.source_run_id, model.tags["headrace.step"]) == (
        "READY", run_id, "2",
    )  # fmt: skip
    linked = {metric.key: metric.value for metric in model.metrics}
    assert linked["val/accuracy"] == stored.run.data.metrics["val/accuracy"]
    assert stored.steps("val/accuracy") == [2]  # the same point, not a second one
    assert [output.model_id for output in stored.run.outputs.model_outputs] == [model.model_id]

    expected = pipeline.load(folder).predict(TEXTS)
    for uri in (
        f"models:/{name}@champion", f"models:/{name}/1", f"runs:/{run_id}/model",
        f"models:/{model.model_id}",
    ):  # fmt: skip
        assert pipeline.load(uri).predict(TEXTS) == expected, uri
    with pytest.raises(RunError, match=r"models:/none/1: cannot be downloaded: .*not found"):
        pipeline.load("models:/none/1")

    train()  # finished already
    assert replay(folder) == run_id
    assert [found.model_id for found in models(stored)] == [model.model_id]
    champion = partial(stored.client.get_model_version_by_alias, name, "champion")
    assert (str(champion().version), champion().run_id) == ("1", run_id)
    train("train.max_steps=4")
    steps = sorted(found.tags["headrace.step"] for found in models(stored))
    assert steps == ["2", "4"] == ["2", str(pipeline.load(folder).trained.files.step)]
    assert str(champion().version) == "2"
    stored.client.set_registered_model_alias(name, "champion", "1")  # by a person
    replay(folder)
    assert str(champion().version) == "1"


def test_a_model_is_delivered_later(
    train: Train,
    folder: Path,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """First the server is down; then it gets everything but the model, whose upload fails."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    train(f"track.uri=http://127.0.0.1:{free_port()}")
    (warning,) = [r.message for r in caplog.records if "deliver it later" in r.message]
    assert "lacks the end of the run" in warning

    def fail(*arguments: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as context:
        context.setattr(MlflowClient, "log_model_artifacts", fail)
        with pytest.raises(pipeline.errors.TrainingError, match="no space left"):
            replay(folder, store)
    stored = Stored(store, folder)
    assert stored.run.info.status == "FINISHED"
    assert not models(stored)
    run_id = replay(folder, store)
    (model,) = models(stored)
    assert pipeline.load(folder).predict(TEXTS) == loaded(store, model.model_id, monkeypatch)
    stored.client.create_logged_model(  # the process was killed while it uploaded
        stored.run.info.experiment_id, "model", run_id, {mlflow_logged_model.DIGEST_TAG: "x"}
    )
    replay(folder, store)
    assert [found.model_id for found in models(stored)] == [model.model_id]


def loaded(store: str, model_id: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return pipeline.load(f"models:/{model_id}").predict(TEXTS)


def test_a_model_neither_fails_nor_delays_a_run(
    train: Train,
    folder: Path,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    event = threading.Event()
    monkeypatch.setattr(follower, "MODEL_SECONDS", 0.2)
    monkeypatch.setattr(mlflow_logged_model, "save_model", lambda *arguments, **ids: event.wait(60))
    train()
    event.set()
    stored = Stored(store, folder)
    assert stored.run.info.status == "FINISHED"
    (warning,) = [r.message for r in caplog.records if "lacks" in r.message]
    assert "lacks the model: no answer in time; deliver it later with: python -m " in warning
