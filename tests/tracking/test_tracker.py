"""MLflow receives everything in the run folder, whatever happens to the run or the server."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

from pipeline import config as config_file
from pipeline.errors import RunError, TrainingError
from pipeline.report import samples
from pipeline.storage.redaction import redacted, without_password
from pipeline.tasks.base.task import Evaluation
from pipeline.tracking import mlflow_copy, plots, reports, tracking
from pipeline.tracking.replay import replay
from pipeline.tracking.run_description import to_mlflow_params
from pipeline.tracking.trackers import mlflow as mlflow_tracker
from tests.helpers.tracked import (
    EVALUATION,
    MISTAKE,
    PLAN,
    SHOWN,
    Server,
    Stored,
    eventually,
    free_port,
    json_run_id,
    log,
    start,
)

ROOT = Path(__file__).parents[2]


def test_metrics_params_tags_dataset_and_artifacts_of_a_run_are_copied(folder, store):
    tracker = start(folder, store, "run.name=first", world_size=4, torch="2.13")
    log(folder, range(1, 6))
    log(folder, [6], **{"val/loss": None})
    reports.write_length_histogram(folder, PLAN)
    reports.write_evaluation(folder, 6, EVALUATION, [{**MISTAKE, "loss": float("inf")}])
    tracker.close("FINISHED")

    stored = Stored(store, folder)
    run = stored.run
    assert stored.steps() == [1, 2, 3, 4, 5, 6]
    assert set(run.data.metrics) == {"train/loss", "optim/lr"}
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first")
    assert run.info.end_time > run.info.start_time
    assert float(run.data.params["train.lr"]) == config_file.load().train.lr
    assert run.data.params["corpus.replace"] == '{"<br />": " "}'
    assert run.data.tags["headrace.world_size"] == "4"
    assert run.info.run_id == json.loads((folder / "mlflow.json").read_text())["run_id"]
    (dataset_input,) = run.inputs.dataset_inputs
    dataset = dataset_input.dataset
    assert (dataset.name, dataset.digest) == ("imdb", "0123456789abcdef")
    assert dataset_input.tags[0].value == "training"

    assert stored.artifacts() == ["confusion", "lengths.png", "mistakes"]
    for plot in ("lengths.png", "confusion/step-00000006.png"):
        assert stored.artifact(plot).startswith(b"\x89PNG")
    table = json.loads(stored.artifact("mistakes/step-00000006.json"))
    assert table["columns"] == ["text", "label", "predicted", "probability", "loss"]
    assert table["data"] == [["not bad", "positive", "negative", 0.9, None]]
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "mistakes/step-00000006.json", "type": "table"}
    ]


def test_mlflow_can_load_the_tables_and_the_dataset(folder, store, monkeypatch):
    import mlflow

    tracker = start(folder, store)
    reports.write_evaluation(folder, 1, EVALUATION, [MISTAKE, MISTAKE])
    tracker.close("FINISHED")
    run = Stored(store, folder).run
    source: Any = mlflow.data.get_source(run.inputs.dataset_inputs[0])
    assert source.uri == str(Path.cwd() / "data/shards/imdb")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    table = mlflow.MlflowClient().load_table(
        run.info.experiment_id, "mistakes/step-00000001.json", [run.info.run_id]
    )
    assert list(table["text"]) == ["not bad", "not bad"]


def test_a_resumed_run_logs_no_point_twice(folder, store, monkeypatch, caplog):
    tracker = start(folder, store, "train.epochs=1", device="A")
    log(folder, range(1, 11))
    reports.write_evaluation(folder, 10, EVALUATION, [MISTAKE])
    tracker.close("KILLED")
    assert Stored(store, folder).run.info.status == "KILLED"

    # The run resumes from the checkpoint of step 6: later lines are removed, their steps repeated.
    metrics_file = folder / "metrics.jsonl"
    metrics_file.write_text("".join(metrics_file.read_text().splitlines(keepends=True)[:6]))
    monkeypatch.setattr(plots, "confusion_matrix", None)  # logged already, must not be drawn again
    tracker = start(folder, store, "train.epochs=2", device="B")
    log(folder, range(7, 13), **{"val/loss": 0.3})
    eventually(lambda: Stored(store, folder).run.info.status == "RUNNING")
    reports.write_evaluation(folder, 10, EVALUATION, [{**MISTAKE, "text": "repeated"}])
    tracker.close("FINISHED")

    stored = Stored(store, folder)
    assert "lacks the end" not in caplog.text
    assert b"not bad" in stored.artifact("mistakes/step-00000010.json")
    assert Counter(stored.steps()) == Counter(range(1, 13))
    assert stored.steps("val/loss") == [7, 8, 9, 10, 11, 12]
    assert stored.run.info.status == "FINISHED"
    assert stored.run.data.params["train.epochs"] == "1"
    assert stored.run.data.tags["headrace.changed.train.epochs"] == "1 -> 2"
    assert stored.run.data.tags["headrace.device"] == "B"
    assert len(stored.run.inputs.dataset_inputs) == 1

    start(folder, store, "train.epochs=1").close("FINISHED")
    assert not any(
        tag.startswith("headrace.changed") for tag in Stored(store, folder).run.data.tags
    )


def test_an_incomplete_line_waits_and_a_damaged_line_is_skipped(folder, store, caplog):
    metrics_file = folder / "metrics.jsonl"
    tracker = start(folder, store)
    log(folder, [1])
    with metrics_file.open("a") as file:
        file.write('{"step": 2, "time": 1.0, "train/')
        file.flush()
        eventually(lambda: Stored(store, folder).runs and Stored(store, folder).steps() == [1])
        file.write('loss": 0.5}\n{"step": 3, "ti{"step": 3}\n')
    log(folder, [4])
    tracker.close("FINISHED")
    assert Stored(store, folder).steps() == [1, 2, 4]
    assert "not a line of metrics" in caplog.text


def test_a_new_experiment_opens_in_the_model_training_view(folder, store):
    start(folder, store).close("FINISHED")
    experiment = Stored(store, folder).experiment
    assert experiment is not None
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_kind_of_an_existing_experiment_is_not_changed(folder, store):
    from mlflow import MlflowClient

    MlflowClient(store).create_experiment(str(folder))
    start(folder, store).close("FINISHED")
    stored = Stored(store, folder)
    assert stored.run.info.status == "FINISHED"
    assert stored.experiment is not None
    assert "mlflow.experimentKind" not in stored.experiment.tags


def test_many_points_are_logged_in_batches(folder, store):
    log(folder, range(1, 301), **{f"perf/{i}": i for i in range(12)})
    start(folder, store).close("FINISHED")
    assert Stored(store, folder).steps("perf/11") == list(range(1, 301))


def test_the_tag_that_lists_tables_is_bounded(folder, store, monkeypatch):
    monkeypatch.setattr(mlflow_copy, "MAX_LISTED_TABLES", 2)
    tracker = start(folder, store)
    for step in range(1, 5):
        reports.write_evaluation(folder, step, Evaluation({}), [MISTAKE])
    tracker.close("FINISHED")
    stored = Stored(store, folder)
    listed = [t["path"] for t in json.loads(stored.run.data.tags["mlflow.loggedArtifacts"])]
    assert listed == ["mistakes/step-00000003.json", "mistakes/step-00000004.json"]
    assert len(stored.artifacts("mistakes")) == 4


def test_a_plot_that_cannot_be_drawn_is_skipped_and_blocks_nothing_else(folder, store, caplog):
    tracker = start(folder, store)
    report = Evaluation({}, [[1]], ["a", "b"])
    reports.write_evaluation(folder, 1, report, [MISTAKE], {"samples": SHOWN})
    reports.write_evaluation(folder, 2, EVALUATION, [])
    log(folder, range(1, 4))
    eventually(lambda: "table of shape" in caplog.text)
    log(folder, range(4, 6))
    tracker.close("FAILED", 10)
    stored = Stored(store, folder)
    assert stored.steps() == [1, 2, 3, 4, 5]
    assert stored.run.info.status == "FAILED"
    assert stored.artifacts("confusion") == ["confusion/step-00000002.png"]
    assert stored.artifacts("mistakes") == ["mistakes/step-00000001.json"]
    assert stored.artifacts("samples") == ["samples/step-00000001.html"]
    assert caplog.text.count("cannot be drawn") == 1


def test_samples_become_a_page_that_is_drawn_once(folder, store, monkeypatch):
    tracker = start(folder, store)
    pages = {"samples": SHOWN, "mistakes": SHOWN, "none": []}
    reports.write_evaluation(folder, 3, EVALUATION, [], pages)
    tracker.close("KILLED")
    monkeypatch.setattr(samples, "render_page", None)
    start(folder, store).close("FINISHED")
    stored = Stored(store, folder)
    assert stored.artifacts() == ["confusion", "mistakes", "samples"]
    html = stored.artifact("samples/step-00000003.html").decode()
    assert "samples, step 3" in html
    assert "<mark class='e0'>a film<b>NP</b></mark>" in html
    assert "data:image/png" in stored.artifact("mistakes/step-00000003.html").decode()


def test_a_password_is_neither_logged_nor_stored(folder, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = start(folder, f"http://u:secret@127.0.0.1:{free_port()}")
    eventually(lambda: "training continues" in caplog.text)
    tracker.close("FINISHED")
    assert "lacks the end of the run" in caplog.text
    assert "secret" not in caplog.text + (folder / "mlflow.json").read_text()


def test_long_params_are_truncated_and_passwords_are_removed():
    config = config_file.load(
        None,
        [
            f"corpus.label_names={[f'label{i}' for i in range(2000)]}",
            "track.uri=http://u:secret@h/p",
        ],
    )
    params = to_mlflow_params(redacted(config_file.flatten(config)))
    assert len(params["corpus.label_names"]) == 6000
    assert params["track.uri"] == "http://h/p"
    assert without_password("postgresql://u:p@h:1/d") == "postgresql://h:1/d"
    assert without_password("at http://u:p@s@h/x a@b") == "at http://h/x a@b"
    assert without_password("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


def test_an_unreachable_server_does_not_block_training(folder, store, caplog):
    start_time = time.perf_counter()
    tracker = start(folder, f"http://127.0.0.1:{free_port()}")
    assert time.perf_counter() - start_time < 1  # including the time to read the config
    log(folder, range(1, 4))
    start_time = time.perf_counter()
    reports.write_evaluation(folder, 3, EVALUATION, [MISTAKE])
    assert time.perf_counter() - start_time < 0.05
    start_time = time.perf_counter()
    tracker.close("KILLED", seconds=0.5)
    assert time.perf_counter() - start_time < 1
    (warning,) = [
        r.message for r in caplog.records if "lacks" in r.message and "deliver" in r.message
    ]
    assert "up to 3 lines of metrics.jsonl" in warning
    assert f"python -m pipeline.tracking.replay {folder}" in warning

    run_id = replay(folder, store)
    assert replay(folder, store) == run_id
    stored = Stored(store, folder)
    assert (stored.run.info.run_id, stored.run.info.status) == (run_id, "KILLED")
    assert stored.steps() == [1, 2, 3]
    assert stored.artifacts() == ["confusion", "mistakes"]


@pytest.mark.slow
def test_the_replay_command_reports_an_error_in_one_line(folder):
    command = [sys.executable, "-m", "pipeline.tracking.replay", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 2
    assert result.stderr == (
        f"{folder}: has no mlflow.json, so the run was not tracked in MLflow; see track.trackers\n"
    )


def test_a_damaged_run_description_raises(folder, store):
    (folder / "mlflow.json").write_text("{")
    with pytest.raises(RunError, match=r"mlflow\.json"):
        start(folder, store)


def test_the_error_for_a_missing_package_names_it_and_the_fix(folder, store, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name == "mlflow" else name)
    with pytest.raises(
        TrainingError, match=r"needs mlflow.*headrace\[track\].*track.enabled=false"
    ):
        start(folder, store)


@pytest.mark.slow
def test_mlflow_matplotlib_and_psutil_are_not_imported_before_a_run_is_tracked():
    code = (
        "import sys, pipeline.tracking.tracking, pipeline.tracking.plots;"
        "import pipeline.tracking.trackers.mlflow;"
        "assert not {'mlflow', 'matplotlib', 'psutil'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


CHILD = """
import sys
import time
from pathlib import Path
sys.path.insert(0, {root!r})
from pipeline.tracking import follower, reports
from tests.helpers.tracked import EVALUATION, MISTAKE, log, start
folder, follower.POLL_SECONDS = Path({folder!r}), 0.05
tracker = start(folder, "", "track.system_metrics=true")
reports.write_evaluation(folder, 2, EVALUATION, [MISTAKE])
log(folder, range(1, 4))
time.sleep(60)
"""


@pytest.mark.slow
def test_resuming_completes_a_killed_run_which_mlflow_ui_shows(folder, server, monkeypatch):
    """The default URI is a store in the working folder, and the server uses the same folder."""
    uri = f"sqlite:///{server.folder}/mlflow.db"
    monkeypatch.chdir(server.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = CHILD.format(root=str(ROOT), folder=str(folder))
    child = subprocess.Popen([sys.executable, "-c", code])
    eventually(lambda: json_run_id(folder), 60)
    eventually(lambda: Stored(uri, folder).steps() == [1, 2, 3])
    eventually(lambda: "mistakes" in Stored(uri, folder).artifacts())
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert Stored(uri, folder).run.info.status == "RUNNING"

    log(folder, [4, 5])  # written, but not delivered before the run was killed
    tracker = start(folder, "")
    log(folder, [6])
    tracker.close("FINISHED")
    stored = Stored(uri, folder)
    assert stored.steps() == [1, 2, 3, 4, 5, 6]
    assert stored.run.info.status == "FINISHED"

    server.start()
    shown = Stored(server.address, folder)
    assert shown.run.info.run_id == stored.run.info.run_id
    plot_path = f"/get-artifact?path=confusion/step-00000002.png&run_uuid={stored.run.info.run_id}"
    with urllib.request.urlopen(server.address + plot_path, timeout=10) as response:
        assert response.read().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_server_that_was_down_receives_everything_in_the_end(folder, server, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(mlflow_tracker, "SYSTEM_METRICS_SECONDS", 1)
    cpu_metric = "system/cpu_utilization_percentage"
    server.start()
    tracker = start(folder, server.address, "track.system_metrics=true")
    log(folder, range(1, 6))
    reports.write_evaluation(folder, 5, EVALUATION, [MISTAKE])
    eventually(lambda: json_run_id(folder))
    eventually(lambda: len(Stored(server.address, folder).steps(cpu_metric)) > 1)

    server.kill()
    log(folder, range(6, 11))
    reports.write_evaluation(folder, 10, EVALUATION, [MISTAKE])
    eventually(lambda: "training continues" in caplog.text)
    log(folder, range(11, 14))

    server.start()
    eventually(lambda: "reachable again" in caplog.text)
    log(folder, range(14, 16))
    measured = len(Stored(server.address, folder).steps(cpu_metric))
    eventually(lambda: len(Stored(server.address, folder).steps(cpu_metric)) > measured)
    tracker.close("FINISHED")
    stored = Stored(server.address, folder)
    assert stored.steps() == list(range(1, 16))
    assert stored.run.info.status == "FINISHED"
    assert len(stored.artifacts("confusion")) == len(stored.artifacts("mistakes")) == 2
    assert max(Counter(stored.steps(cpu_metric)).values()) == 1
    assert caplog.text.count("training continues") == 1


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()
