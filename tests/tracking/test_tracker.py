"""MLflow holds what the run folder holds, whatever becomes of the run or the server."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import chdir
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

from pipeline import config as config_file
from pipeline.errors import RunError, TrainingError
from pipeline.tasks.task import Evaluation
from pipeline.tracking import mlflow_copy, plots
from pipeline.tracking import tracker as tracker_module
from pipeline.tracking.tracker import replay
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


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """The URI of an SQLite store; making one takes seconds."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    with chdir(folder):  # where artifacts will lie
        MlflowClient(uri).search_experiments()
    return uri


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tracker_module, "POLL", 0.05)
    monkeypatch.setattr(tracker_module, "PAUSE", 0.5)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_a_run_is_copied_whole(folder, store):
    tracker = start(folder, store, "run.name=first", world_size=4, torch="2.13")
    log(folder, range(1, 6))
    log(folder, [6], **{"val/loss": None})
    tracker.histogram(PLAN)
    tracker.evaluation(6, EVALUATION, [{**MISTAKE, "loss": float("inf")}])
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
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("imdb", "0123456789abcdef")
    assert given.tags[0].value == "training"

    assert stored.artifacts() == ["confusion", "lengths.png", "mistakes"]
    for figure in ("lengths.png", "confusion/step-00000006.png"):
        assert stored.artifact(figure).startswith(b"\x89PNG")
    table = json.loads(stored.artifact("mistakes/step-00000006.json"))
    assert table["columns"] == ["text", "label", "predicted", "probability", "loss"]
    assert table["data"] == [["not bad", "positive", "negative", 0.9, None]]
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "mistakes/step-00000006.json", "type": "table"}
    ]


def test_mlflow_itself_reads_the_tables_and_the_dataset(folder, store, monkeypatch):
    import mlflow

    tracker = start(folder, store)
    tracker.evaluation(1, EVALUATION, [MISTAKE, MISTAKE])
    tracker.close("FINISHED")
    run = Stored(store, folder).run
    source = mlflow.data.get_source(run.inputs.dataset_inputs[0])
    assert source.uri == str(Path.cwd() / "data/shards/imdb")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    table = mlflow.MlflowClient().load_table(
        run.info.experiment_id, "mistakes/step-00000001.json", [run.info.run_id]
    )
    assert list(table["text"]) == ["not bad", "not bad"]


def test_a_resumed_run_goes_on_without_a_point_twice(folder, store, monkeypatch, caplog):
    tracker = start(folder, store, "train.epochs=1", device="A")
    log(folder, range(1, 11))
    tracker.evaluation(10, EVALUATION, [MISTAKE])
    tracker.close("KILLED")
    assert Stored(store, folder).run.info.status == "KILLED"

    # Resumed from the checkpoint of step 6: the later lines go, their steps are done again.
    journal = folder / "metrics.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:6]))
    monkeypatch.setattr(plots, "confusion_matrix", None)  # it is there, and not drawn again
    tracker = start(folder, store, "train.epochs=2", device="B")
    log(folder, range(7, 13), **{"val/loss": 0.3})
    eventually(lambda: Stored(store, folder).run.info.status == "RUNNING")
    tracker.evaluation(10, EVALUATION, [{**MISTAKE, "text": "of the second time"}])
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


def test_a_line_that_is_not_whole_waits_and_one_that_is_damaged_is_left_out(folder, store, caplog):
    journal = folder / "metrics.jsonl"
    tracker = start(folder, store)
    log(folder, [1])
    with journal.open("a") as file:
        file.write('{"step": 2, "time": 1.0, "train/')
        file.flush()
        eventually(lambda: Stored(store, folder).runs and Stored(store, folder).steps() == [1])
        file.write('loss": 0.5}\n{"step": 3, "ti{"step": 3}\n')
    log(folder, [4])
    tracker.close("FINISHED")
    assert Stored(store, folder).steps() == [1, 2, 4]
    assert "not a line of metrics" in caplog.text


def test_many_points_are_logged_in_batches(folder, store):
    log(folder, range(1, 301), **{f"perf/{i}": i for i in range(12)})
    start(folder, store).close("FINISHED")
    assert Stored(store, folder).steps("perf/11") == list(range(1, 301))


def test_the_tag_of_tables_stays_short(folder, store, monkeypatch):
    monkeypatch.setattr(mlflow_copy, "LISTED_TABLES", 2)
    tracker = start(folder, store)
    for step in range(1, 5):
        tracker.evaluation(step, Evaluation({}), [MISTAKE])
    tracker.close("FINISHED")
    stored = Stored(store, folder)
    listed = [t["path"] for t in json.loads(stored.run.data.tags["mlflow.loggedArtifacts"])]
    assert listed == ["mistakes/step-00000003.json", "mistakes/step-00000004.json"]
    assert len(stored.artifacts("mistakes")) == 4


def test_what_cannot_be_drawn_is_left_out_and_holds_up_nothing_else(folder, store, caplog):
    tracker = start(folder, store)
    tracker.evaluation(1, Evaluation({}, [[1]], ["a", "b"]), [MISTAKE], {"samples": SHOWN})
    tracker.evaluation(2, EVALUATION, [])
    log(folder, range(1, 4))
    eventually(lambda: "a table of shape" in caplog.text)
    log(folder, range(4, 6))
    tracker.close("FAILED", 10)
    stored = Stored(store, folder)
    assert stored.steps() == [1, 2, 3, 4, 5]
    assert stored.run.info.status == "FAILED"
    assert stored.artifacts("confusion") == ["confusion/step-00000002.png"]
    assert stored.artifacts("mistakes") == ["mistakes/step-00000001.json"]
    assert stored.artifacts("samples") == ["samples/step-00000001.html"]
    assert caplog.text.count("cannot be drawn") == 1


def test_samples_are_a_page_which_is_not_drawn_twice(folder, store, monkeypatch):
    tracker = start(folder, store)
    tracker.evaluation(3, EVALUATION, [], {"samples": SHOWN, "mistakes": SHOWN, "none": []})
    tracker.close("KILLED")
    monkeypatch.setattr(mlflow_copy.pages, "page", None)
    start(folder, store).close("FINISHED")
    stored = Stored(store, folder)
    assert stored.artifacts() == ["confusion", "mistakes", "samples"]
    html = stored.artifact("samples/step-00000003.html").decode()
    assert "samples, step 3" in html
    assert "<mark>a film<b>NP</b></mark>" in html
    assert "data:image/png" in stored.artifact("mistakes/step-00000003.html").decode()


def test_a_password_is_neither_shown_nor_stored(folder, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = start(folder, f"http://u:secret@127.0.0.1:{free_port()}")
    eventually(lambda: "training goes on" in caplog.text)
    tracker.close("FINISHED")
    assert "lacks the end of the run" in caplog.text
    assert "secret" not in caplog.text + (folder / "mlflow.json").read_text()


def test_long_values_are_cut_and_passwords_are_left_out():
    config = config_file.load(
        None,
        [
            f"corpus.label_names={[f'label{i}' for i in range(2000)]}",
            "track.uri=http://u:secret@h/p",
        ],
    )
    params = tracker_module._params(config)
    assert len(params["corpus.label_names"]) == 6000
    assert params["track.uri"] == "http://h/p"
    assert tracker_module._without_password("postgresql://u:p@h:1/d") == "postgresql://h:1/d"
    assert tracker_module._without_password("at http://u:p@s@h/x a@b") == "at http://h/x a@b"
    assert tracker_module._without_password("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


def test_a_port_that_nobody_listens_at_holds_up_nothing(folder, store, caplog):
    began = time.perf_counter()
    tracker = start(folder, f"http://127.0.0.1:{free_port()}")
    assert time.perf_counter() - began < 1  # reading the config takes the most of it
    log(folder, range(1, 4))
    began = time.perf_counter()
    tracker.evaluation(3, EVALUATION, [MISTAKE])
    assert time.perf_counter() - began < 0.05
    began = time.perf_counter()
    tracker.close("KILLED", seconds=0.5)
    assert time.perf_counter() - began < 1
    (warning,) = [r.message for r in caplog.records if "lacks" in r.message and "Copy" in r.message]
    assert "up to 3 lines of metrics.jsonl" in warning
    assert f"python -m pipeline.tracking.tracker {folder}" in warning

    run_id = replay(folder, store)
    assert replay(folder, store) == run_id
    stored = Stored(store, folder)
    assert (stored.run.info.run_id, stored.run.info.status) == (run_id, "KILLED")
    assert stored.steps() == [1, 2, 3]
    assert stored.artifacts() == ["confusion", "mistakes"]


def test_the_command_line_tells_of_mistakes_in_a_line(folder):
    command = [sys.executable, "-m", "pipeline.tracking.tracker", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr == f"{folder}: has no mlflow.json, was not tracked; see track.enabled\n"


def test_a_damaged_description_is_refused(folder, store):
    (folder / "mlflow.json").write_text("{")
    with pytest.raises(RunError, match=r"mlflow\.json"):
        start(folder, store)


def test_a_missing_package_is_named_with_what_to_do(folder, store, monkeypatch):
    monkeypatch.setattr(
        tracker_module, "find_spec", lambda name: None if name == "mlflow" else name
    )
    with pytest.raises(
        TrainingError, match=r"needs mlflow.*headrace\[track\].*track.enabled=false"
    ):
        start(folder, store)


def test_nothing_heavy_is_imported_before_a_run_is_tracked():
    code = (
        "import sys, pipeline.tracking.tracker, pipeline.tracking.plots;"
        "assert not {'mlflow', 'matplotlib', 'psutil'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


CHILD = """
import sys
import time
from pathlib import Path
sys.path.insert(0, {root!r})
from pipeline.tracking import tracker
from tests.helpers.tracked import EVALUATION, MISTAKE, log, start
folder, tracker.POLL = Path({folder!r}), 0.05
tracker = start(folder, "", "track.system_metrics=true")
tracker.evaluation(2, EVALUATION, [MISTAKE])
log(folder, range(1, 4))
time.sleep(60)
"""


def test_a_killed_run_is_put_right_and_a_plain_mlflow_ui_shows_it(folder, server, monkeypatch):
    """Tracked with the default URI, hence in the working folder, which is the server's."""
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

    log(folder, [4, 5])  # written, but not delivered before the end
    tracker = start(folder, "")
    log(folder, [6])
    tracker.close("FINISHED")
    stored = Stored(uri, folder)
    assert stored.steps() == [1, 2, 3, 4, 5, 6]
    assert stored.run.info.status == "FINISHED"

    server.start()
    shown = Stored(server.address, folder)
    assert shown.run.info.run_id == stored.run.info.run_id
    figure = f"/get-artifact?path=confusion/step-00000002.png&run_uuid={stored.run.info.run_id}"
    with urllib.request.urlopen(server.address + figure, timeout=10) as answer:
        assert answer.read().startswith(b"\x89PNG")


def test_a_server_that_goes_away_misses_nothing_in_the_end(folder, server, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(tracker_module, "SAMPLE", 1)
    system = "system/cpu_utilization_percentage"
    server.start()
    tracker = start(folder, server.address, "track.system_metrics=true")
    log(folder, range(1, 6))
    tracker.evaluation(5, EVALUATION, [MISTAKE])
    eventually(lambda: json_run_id(folder))
    eventually(lambda: len(Stored(server.address, folder).steps(system)) > 1)

    server.kill()
    log(folder, range(6, 11))
    tracker.evaluation(10, EVALUATION, [MISTAKE])
    eventually(lambda: "training goes on" in caplog.text)
    log(folder, range(11, 14))

    server.start()
    eventually(lambda: "reached again" in caplog.text)
    log(folder, range(14, 16))
    sampled = len(Stored(server.address, folder).steps(system))
    eventually(lambda: len(Stored(server.address, folder).steps(system)) > sampled)
    tracker.close("FINISHED")
    stored = Stored(server.address, folder)
    assert stored.steps() == list(range(1, 16))
    assert stored.run.info.status == "FINISHED"
    assert len(stored.artifacts("confusion")) == len(stored.artifacts("mistakes")) == 2
    assert max(Counter(stored.steps(system)).values()) == 1
    assert caplog.text.count("training goes on") == 1


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()
