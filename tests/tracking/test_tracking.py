"""Several trackers at once; an outage of one does not affect the others or training."""

import csv
import threading
import time
from collections import Counter

import pytest

from pipeline import components, config
from pipeline.errors import ConfigError, TrainingError
from pipeline.tracking import reports, tracking
from pipeline.tracking.base import Tracker
from pipeline.tracking.settings import TrackSettings
from pipeline.tracking.tracking import watch_commands
from tests.helpers.tracked import EVALUATION, MISTAKE, eventually, log, start_trackers

MINE = """
import csv
from pipeline.settings import setting
from pipeline.tracking.base import Tracker
from pipeline.tracking.settings import TrackSettings

class Table(Tracker):
    class Settings(TrackSettings):
        table: str = setting("table.csv", "name of the file", may_change=True)

    fails = suffix = ""
    calls = []

    def connect(self):
        self.call("connect")
        self.path = self.run.folder / (self.settings.table + self.suffix)
        with self.path.open("a+", newline="") as file:
            file.seek(0)
            return {name: int(step) for step, name, _ in csv.reader(file)}

    def log_metrics(self, points):
        self.call("log_metrics")
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows((p.step, p.name, p.value) for p in points)

    def log_report(self, name, report):
        self.call("log_report")

    def ended(self, status, time):
        self.call("ended")

    def close(self):
        self.call("close")

    def call(self, name):
        type(self).calls.append(name)
        if name == type(self).fails:
            raise OSError(f"{name} fails")

class Broken(Table):
    pass
"""


@pytest.fixture
def mine(folder):
    """The reference to the file of two trackers, and their classes."""
    path = folder.parent / "mine.py"
    path.write_text(MINE)
    classes = [components.load("tracker", f"{path}:{name}") for name in ("Table", "Broken")]
    for each in classes:
        each.suffix = "" if each is classes[0] else ".broken"
        each.fails, each.calls = "", []
    return path, *classes


def steps(folder, name="train/loss", table="table.csv"):
    with (folder / table).open() as file:
        return Counter(int(step) for step, metric, _ in csv.reader(file) if metric == name)


def test_a_tracker_of_a_file_has_keys_and_receives_all_points_once(folder, mine):
    path, table, _ = mine
    keys = f"track.trackers=[{path}:Table]", "track.table=points.csv"
    started = start_trackers(folder, [f"{path}:Table"], *keys)
    log(folder, range(1, 4))
    reports.write_evaluation(folder, 3, EVALUATION, [MISTAKE])
    started.close("KILLED")
    assert Counter(table.calls)["log_report"] == 1
    assert [name for name in table.calls if name in ("ended", "close")] == ["ended", "close"]
    started = start_trackers(folder, [f"{path}:Table"], *keys)
    log(folder, range(3, 7))
    started.close("FINISHED")
    assert steps(folder, table="points.csv") == Counter(range(1, 7))


@pytest.mark.parametrize("point", ["connect", "log_metrics", "log_report"])
def test_an_outage_of_one_tracker_is_one_warning_and_the_others_get_everything(
    point, folder, mine, caplog
):
    path, table, broken = mine
    broken.fails = point
    started = start_trackers(folder, [f"{path}:Table", f"{path}:Broken"], "track.table=points.csv")
    log(folder, range(1, 4))
    reports.write_evaluation(folder, 3, EVALUATION, [MISTAKE])
    eventually(lambda: broken.calls.count("connect") > 2)
    eventually(lambda: "log_report" in table.calls)
    assert caplog.text.count("training continues") == 1
    assert f"Broken: {point} fails" in caplog.text
    assert steps(folder, table="points.csv") == Counter(range(1, 4))

    broken.fails = ""
    eventually(lambda: "reachable again" in caplog.text)
    log(folder, [4])
    started.close("FINISHED")
    assert steps(folder, table="points.csv.broken") == Counter(range(1, 5))
    assert "lacks" not in caplog.text


def test_a_tracker_that_waits_forever_delays_the_end_for_a_limited_time(folder, mine, caplog):
    path, table, broken = mine
    started = start_trackers(folder, [f"{path}:Broken", f"{path}:Table"])
    blocked = threading.Event()
    broken.ended = lambda self, status, time: blocked.wait(20)
    log(folder, [1])
    begin = time.monotonic()
    started.close("FINISHED", seconds=1)
    assert time.monotonic() - begin < 3
    blocked.set()
    (warning,) = [r.message for r in caplog.records if "lacks" in r.message]
    assert warning.startswith("Broken lacks the end of the run: no answer in time; ")
    assert table.calls[-1] == "close"


def test_a_missing_package_is_one_line_that_names_the_key(folder, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name == "wandb" else name)
    with pytest.raises(TrainingError) as caught:
        start_trackers(folder, ["mlflow", "wandb"])
    assert caught.value.lines == [
        (
            "track.trackers: wandb needs wandb, not installed here; pip install headrace[wandb], "
            "or remove wandb from track.trackers, or set track.enabled=false"
        )
    ]


def test_keys_of_a_tracker_that_is_not_chosen_are_one_line():
    with pytest.raises(ConfigError) as caught:
        config.load(None, ["track.trackers=[tensorboard]", "track.uri=x"])
    (line,) = caught.value.lines
    assert "would be ignored with track.trackers=[tensorboard]" in line
    assert "track.uri" not in config.flatten(config.load(None, ["track.trackers=[wandb]"]))


def test_only_chosen_trackers_say_how_to_watch_the_run(folder, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def watch(*overrides):
        return watch_commands(config.load(None, overrides).track, folder)

    assert watch() == ["mlflow ui"]
    assert watch("track.uri=http://u:secret@host") == ["http://host"]
    assert watch("track.trackers=[tensorboard, wandb]") == [
        f"tensorboard --logdir {folder}/tensorboard", f"wandb sync {folder}/wandb/*run-*",
    ]  # fmt: skip
    assert watch("track.enabled=false") == watch("track.trackers=[]") == []


def test_the_base_class_needs_no_settings_of_its_own():
    assert Tracker.Settings is TrackSettings
