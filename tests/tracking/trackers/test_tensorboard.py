"""TensorBoard's event files have every point once, whatever happens to the run."""

from collections import Counter

import pytest

pytest.importorskip("tensorboard")

from pipeline.tracking import plots, reports
from tests.helpers.tracked import EVALUATION, PLAN, delivered_before_kill, log, start_trackers


def stored(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(
        str(folder / "tensorboard"), {"scalars": 0, "images": 0}, purge_orphaned_data=False
    ).Reload()


def steps(folder, name="train/loss"):
    return Counter(event.step for event in stored(folder).Scalars(name))


def has_step(folder, step):
    scalars = stored(folder).Tags()["scalars"] if (folder / "tensorboard").exists() else []
    return "train/loss" in scalars and step in steps(folder)


def test_metrics_and_plots_are_written(folder):
    tracking = start_trackers(folder, ["tensorboard"])
    log(folder, range(1, 6))
    log(folder, [6], **{"val/loss": None})
    reports.write_length_histogram(folder, PLAN)
    reports.write_evaluation(folder, 6, EVALUATION, [])
    tracking.close("FINISHED")
    events = stored(folder)
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(
        [1 / step for step in range(1, 7)]
    )
    assert set(events.Tags()["scalars"]) == {"train/loss", "optim/lr"}
    assert events.Images("confusion")[0].encoded_image_string.startswith(b"\x89PNG")
    assert [event.step for event in events.Images("lengths")] == [0]


def test_a_resumed_run_writes_no_point_and_no_plot_twice(folder, monkeypatch):
    tracking = start_trackers(folder, ["tensorboard"])
    log(folder, range(1, 11))
    reports.write_evaluation(folder, 10, EVALUATION, [])
    tracking.close("KILLED")
    file = folder / "metrics.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:6]))
    monkeypatch.setattr(plots, "confusion_matrix", None)  # is not drawn again
    tracking = start_trackers(folder, ["tensorboard"])
    log(folder, range(7, 13), **{"val/loss": 0.3})
    tracking.close("FINISHED")
    assert steps(folder) == Counter(range(1, 13))
    assert steps(folder, "val/loss") == Counter(range(7, 13))
    assert len(stored(folder).Images("confusion")) == 1


@pytest.mark.slow
def test_a_killed_run_has_all_points_once_after_it_resumes(folder):
    delivered_before_kill(folder, "tensorboard", lambda: has_step(folder, 3))
    (events,) = (folder / "tensorboard").iterdir()
    events.write_bytes(events.read_bytes()[:-10])  # cut short by a power failure
    log(folder, [4, 5])
    tracking = start_trackers(folder, ["tensorboard"])
    log(folder, [6])
    tracking.close("FINISHED")
    assert steps(folder) == steps(folder, "optim/lr") == Counter(range(1, 7))
