"""The files of W&B have every point once, under one run id, whatever happens to the run."""

import json
import time
from collections import Counter
from importlib import import_module

import pytest

pytest.importorskip("wandb")

from pipeline.errors import TrainingError
from pipeline.tracking.trackers.wandb import Wandb, _records
from tests.helpers.tracked import delivered_before_kill, eventually, log, start_trackers

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_login(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


def rows(folder):
    """Return the rows of the run's history, from all files."""
    record = import_module("wandb.proto.wandb_internal_pb2").Record
    found = []
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        for content in _records(path.read_bytes()):
            items = record.FromString(content).history.item
            if items:
                found.append({i.nested_key[0]: json.loads(i.value_json) for i in items})
    return found


def steps(folder, name="train/loss"):
    return Counter(row["_step"] for row in rows(folder) if name in row)


def run_ids(folder):
    return {path.stem for path in (folder / "wandb").glob("offline-run-*/*.wandb")}


def test_metrics_are_written_with_their_time(folder):
    tracking = start_trackers(folder, ["wandb"])
    before = time.time()
    log(folder, range(1, 6))
    log(folder, [5], **{"val/loss": 0.25})
    after = time.time()
    tracking.close("FINISHED")
    assert [row["train/loss"] for row in rows(folder)] == [1 / step for step in range(1, 6)]
    assert rows(folder)[4]["val/loss"] == 0.25
    assert all(before - 1 <= row["_timestamp"] <= after for row in rows(folder))


def test_a_resumed_run_writes_no_point_twice_and_keeps_its_id(folder):
    tracking = start_trackers(folder, ["wandb"])
    log(folder, range(1, 11))
    tracking.close("KILLED")
    file = folder / "metrics.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:6]))
    tracking = start_trackers(folder, ["wandb"])
    log(folder, range(7, 13), **{"val/loss": 0.3})
    tracking.close("FINISHED")
    assert steps(folder) == Counter(range(1, 13))
    assert steps(folder, "val/loss") == Counter(range(7, 13))
    assert len(run_ids(folder)) == 1


def test_a_killed_run_has_all_points_once_after_it_resumes(folder):
    """What W&B held in memory when the run was killed is delivered again."""
    delivered_before_kill(folder, "wandb", lambda: list((folder / "wandb").glob("*/*.wandb")))
    log(folder, [4, 5])
    tracking = start_trackers(folder, ["wandb"])
    log(folder, [6])
    tracking.close("FINISHED")
    assert steps(folder) == steps(folder, "optim/lr") == Counter(range(1, 7))
    assert len(run_ids(folder)) == 1


def test_an_error_of_wandb_is_one_warning_and_costs_nothing(folder, caplog, monkeypatch):
    def fail(*args, **options):
        raise ValueError("no space")

    tracking = start_trackers(folder, ["wandb"])
    log(folder, range(1, 4))
    eventually(lambda: list((folder / "wandb").glob("*/*.wandb")))
    with monkeypatch.context() as patch:
        patch.setattr(Wandb, "log_metrics", fail)
        log(folder, [4, 5])
        eventually(lambda: "Wandb: no space; training continues" in caplog.text)
    eventually(lambda: "reachable again" in caplog.text)
    log(folder, [6])
    tracking.close("FINISHED")
    assert steps(folder) == Counter(range(1, 7))
    assert caplog.text.count("training continues") == 1
    assert len(run_ids(folder)) == 1


def test_many_metrics_are_read_back_across_blocks(folder):
    tracking = start_trackers(folder, ["wandb"])
    log(folder, range(1, 41), **{f"perf/{i}": i / 7 for i in range(100)})
    tracking.close("FINISHED")
    assert next((folder / "wandb").glob("*/*.wandb")).stat().st_size > 2**16
    assert steps(folder, "perf/99") == Counter(range(1, 41))


def test_online_without_a_login_is_one_line(folder):
    with pytest.raises(TrainingError, match=r"track.wandb_mode=online: there is no W&B API key"):
        start_trackers(folder, ["wandb"], "track.wandb_mode=online")
    eventually(lambda: not (folder / "wandb").exists())
