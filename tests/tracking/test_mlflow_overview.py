"""The overview of a run in MLflow: source, best metric, note, order of params, report.html."""

import json
import time

import pytest

pytest.importorskip("mlflow")

from pipeline.run import source
from pipeline.run.source import Repository
from pipeline.tracking import mlflow_copy
from pipeline.tracking.mlflow_copy import MlflowCopy
from pipeline.tracking.mlflow_note import NOTE_TAG
from pipeline.tracking.replay import replay
from pipeline.tracking.run_description import MAX_TAG_CHARS, RunDescription
from tests.helpers.tracked import Stored, eventually, free_port, log, start

REPOSITORY = Repository("1a2b3c", "work", "https://host/headrace.git", dirty=True)
SUMMARY = {
    "step": 6, "metric": "accuracy", "best": 0.75, "best_step": 4, "test_step": 4,
    "test": {"accuracy": 0.7}, "intervals": {"accuracy": [0.6, 0.8]},
}  # fmt: skip


@pytest.fixture
def repository(monkeypatch):
    monkeypatch.setattr(source, "find_repository", lambda folders: REPOSITORY)
    monkeypatch.setenv("LOGNAME", "ada")
    monkeypatch.setattr("sys.argv", ["launch/train.py", "corpus.input=https://u:sesame@host/a"])


def log_evaluation(folder, step, accuracy, *, is_best):
    best = {"best/accuracy": accuracy} if is_best else {}
    log(folder, [step], **{"val/accuracy": accuracy, **best})


def note(stored):
    return stored.run.data.tags.get(NOTE_TAG, "")


def test_user_command_and_commit_are_tags(folder, store, repository):
    start(folder, store, world_size=2).close("FINISHED")
    run = Stored(store, folder).run
    tags = run.data.tags
    assert {name: tags[f"mlflow.source.{name}"] for name in ("name", "type", "git.commit")} == {
        "name": "launch/train.py", "type": "LOCAL", "git.commit": "1a2b3c",
    }  # fmt: skip
    assert tags["mlflow.source.git.branch"] == "work"
    assert tags["mlflow.source.git.repoURL"] == "https://host/headrace.git"
    assert tags["mlflow.source.git.dirty"] == "true"
    assert tags["mlflow.user"] == run.info.user_id == "ada"
    assert tags["headrace.command"] == "python launch/train.py corpus.input=https://host/a"
    assert "sesame" not in (folder / "mlflow.json").read_text()


def test_params_that_differ_come_first_and_keep_their_names(folder, store):
    start(folder, store, "corpus.input=a.csv", "train.lr=0.5", "model.hidden=64").close("FINISHED")
    params = Stored(store, folder).run.data.to_proto().params
    assert [param.key for param in params[:4]] == [
        "corpus.input", "model.hidden", "train.lr", "run.name",
    ]  # fmt: skip
    stored = Stored(store, folder)
    assert stored.experiment is not None
    found = stored.client.search_runs(
        [stored.experiment.experiment_id], "params.`train.lr` = '0.5'"
    )
    assert len(found) == 1


def test_the_note_has_the_best_so_far_and_at_the_end_the_test_result(folder, store):
    tracker = start(folder, store, "corpus.input=a.csv", "model.hidden=64")
    eventually(
        lambda: Stored(store, folder).runs and NOTE_TAG in Stored(store, folder).run.data.tags
    )
    assert note(Stored(store, folder)).startswith("- Dataset `imdb`: train 90 rows\n\nPredict:")
    log_evaluation(folder, 2, 0.5, is_best=True)
    eventually(lambda: "accuracy: 0.5000** at step 2\n" in note(Stored(store, folder)))
    log_evaluation(folder, 4, 0.75, is_best=True)
    log_evaluation(folder, 6, 0.25, is_best=False)
    eventually(lambda: "accuracy: 0.7500** at step 4\n" in note(Stored(store, folder)))
    assert "Test" not in note(Stored(store, folder))

    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    tracker.close("FINISHED")
    stored = Stored(store, folder)
    assert note(stored).startswith(
        "- **Best validation accuracy: 0.7500** at step 4 of 6\n"
        "- **Test accuracy: 0.7000**, 95 % interval 0.6000 to 0.8000, checkpoint at step 4\n"
    )
    assert "| model.hidden | `64` | `128` |" in note(stored)
    assert f"headrace predict --run {folder}" in note(stored).replace(" \\\n    ", " ")
    assert len(note(stored)) <= MAX_TAG_CHARS
    assert stored.run.data.metrics["best/accuracy"] == 0.75  # a column to sort runs by
    assert stored.steps("best/accuracy") == [2, 4]


def test_a_resumed_run_knows_its_best_evaluation(folder, store):
    tracker = start(folder, store)
    log_evaluation(folder, 2, 0.5, is_best=True)
    tracker.close("KILLED")
    tracker = start(folder, store)
    log_evaluation(folder, 4, 0.25, is_best=False)
    tracker.close("KILLED")
    assert "accuracy: 0.5000** at step 2\n" in note(Stored(store, folder))


def test_a_note_that_a_person_has_edited_is_kept(folder, store):
    tracker = start(folder, store)
    tracker.close("KILLED")
    stored = Stored(store, folder)
    stored.client.set_tag(stored.run.info.run_id, NOTE_TAG, "my own words")
    tracker = start(folder, store)
    log_evaluation(folder, 2, 0.5, is_best=True)
    tracker.close("FINISHED")
    stored = Stored(store, folder)
    assert (note(stored), stored.steps("best/accuracy")) == ("my own words", [2])


def test_the_note_is_written_only_when_it_changes(folder, store, monkeypatch):
    start(folder, store).close("KILLED")
    description = RunDescription.read(folder)
    assert description is not None
    copy = MlflowCopy(description, store, folder)
    monkeypatch.setattr(copy._client, "log_batch", None)
    copy.log_results()


def test_the_report_is_an_artifact_and_replaced_if_it_has_changed(folder, store, monkeypatch):
    (folder / "report.html").write_text("<p>first</p>")
    start(folder, store).close("KILLED")
    assert Stored(store, folder).artifact("report.html") == b"<p>first</p>"
    (folder / "report.html").write_text("<p>second</p>")
    start(folder, store).close("FINISHED")
    stored = Stored(store, folder)
    assert stored.artifacts() == ["report.html"]
    assert stored.artifact("report.html") == b"<p>second</p>"
    description = RunDescription.read(folder)
    assert description is not None
    copy = MlflowCopy(description, store, folder)
    monkeypatch.setattr(copy._client, "log_artifact", None)  # the same is not logged again
    copy.log_results()


def test_a_run_that_is_delivered_later_shows_the_same(
    folder, store, repository, monkeypatch, caplog
):
    """The server is down from the start to the end; training does not wait for it."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    begin = time.perf_counter()
    tracker = start(folder, f"http://127.0.0.1:{free_port()}", "model.hidden=64")
    assert time.perf_counter() - begin < 1
    log_evaluation(folder, 2, 0.5, is_best=True)
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    (folder / "report.html").write_text("<p>late</p>")
    tracker.close("FINISHED", seconds=0.5)
    assert "lacks the end of the run" in caplog.text

    replay(folder, store)
    later = Stored(store, folder)
    assert later.run.data.tags["mlflow.source.git.commit"] == "1a2b3c"
    assert later.run.data.tags["mlflow.user"] == "ada"
    assert later.run.data.metrics["best/accuracy"] == 0.5
    assert later.artifact("report.html") == b"<p>late</p>"
    assert "**Test accuracy: 0.7000**" in note(later)
    assert "| model.hidden | `64` | `128` |" in note(later)

    first, run_id = note(later), later.run.info.run_id
    later.client.delete_run(run_id)
    assert replay(folder, store) != run_id
    assert note(Stored(store, folder)) == first


def test_after_an_outage_the_overview_is_complete(folder, store, monkeypatch, caplog):
    """Each step of the overview fails once; the tracker connects again and continues."""
    failed = set()

    def fail_once(name, function):
        def call(*args, **kwargs):
            if name not in failed:
                failed.add(name)
                raise ConnectionError(f"{name} fails")
            return function(*args, **kwargs)

        return call

    for name in ("write_note", "read_summary"):
        monkeypatch.setattr(mlflow_copy, name, fail_once(name, getattr(mlflow_copy, name)))
    tracker = start(folder, store, "model.hidden=64")
    log_evaluation(folder, 2, 0.5, is_best=True)
    eventually(lambda: len(failed) == 2 and Stored(store, folder).runs)
    log_evaluation(folder, 4, 0.75, is_best=True)
    eventually(lambda: "step 4\n" in note(Stored(store, folder)))
    tracker.close("FINISHED")
    assert Stored(store, folder).steps("best/accuracy") == [2, 4]
    assert caplog.text.count(" fails; training continues") == 1


def test_a_run_of_an_earlier_version_can_be_delivered(folder, store):
    start(folder, store).close("FINISHED")
    path = folder / "mlflow.json"
    old = json.loads(path.read_text())
    for name in ("changed", "splits", "predict"):
        del old[name]
    path.write_text(json.dumps(old))
    replay(folder, store)
    assert Stored(store, folder).run.info.status == "FINISHED"
