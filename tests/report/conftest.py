"""Made-up run folders that have data for every section of the report."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.tasks.base.sample import SAMPLES, AttentionMap, Sample, TextSpan

BAD = "<script>alert('x')</script>"
LONG = "a review of many words " * 60
WORD = "Donaudampfschiffahrtsgesellschaft" * 8

SUMMARY = {
    "step": 40, "epochs": 2.0, "metric": "accuracy", "best": 0.75, "best_step": 20,
    "validation": {"accuracy": 0.7, "loss": 0.5}, "seconds": 125.0, "tokens_per_s": 1234.5,
    "test": {"accuracy": 0.72, "examples": 50}, "intervals": {"accuracy": [0.61, 0.83]},
    "test_step": 20, "baseline": {"metric": "accuracy", "value": 0.5, "guess": "good"},
}  # fmt: skip
MANIFEST = {
    "splits": {
        "train": {"rows": 800, "tokens": 9600, "max_length": 31},
        "validation": {"rows": 100, "tokens": 1200, "max_length": 30},
    },
    "names": {"label": ["bad", "good"]},
    "counts": {"label": [300, 600]},
    "report": {"rows": 1000, "duplicates": 70, "no_text": 30, "conflicting": 5, "too_long": 0},
}
ENVIRONMENT = {
    "command": "headrace train --config imdb", "git_commit": "abc123", "torch": "2.11",
    "changed_keys": ["train.lr"],
}  # fmt: skip
CONFIG = {
    "run": {"name": "reviews"},
    "task": {"name": "classification"},
    "corpus": {"shards": "data/shards/reviews-1234", "input": ["https://u:secret@host/a.csv"]},
    "train": {"lr": 0.01, "epochs": 2, "callbacks": [], "native": True},
}


def evaluation(step: int) -> dict[str, Any]:
    """The report of an evaluation that has everything."""
    samples = [
        Sample({"true": [TextSpan("Ann", "person"), TextSpan(BAD)]}),
        Sample(
            {"source": "ein Haus", "translation": WORD, "reference": "a house"},
            attention=AttentionMap(["a", "house"], [[0.9, 0.1], [0.2, 0.8]], ["ein", "Haus"]),
        ),
    ]
    return {
        "step": step, "table": [[40, 10], [20, 30]], "labels": ["bad", BAD], "counted": "rows",
        "left_out": 0, "accuracy": 0.7, "scatter": [[1.0, 1.5], [2.0, 1.0]],
        "calibration": [
            {"low": 0.5, "high": 0.6, "count": 10, "confidence": 0.55, "accuracy": 0.6},
            {"low": 0.9, "high": 1.0, "count": 30, "confidence": 0.97, "accuracy": 0.87},
        ],
        "by_length": [
            {"low": 4, "high": 7, "count": 30, "value": 0.5},
            {"low": 8, "high": 15, "count": 70, "value": 0.8},
        ],
        "length_metric": "accuracy",
        "mistakes": [
            {"text": LONG, "label": "bad", "predicted": "good", "probability": 0.99, "loss": 4.6},
            {"text": BAD + WORD, "label": BAD, "predicted": "bad", "loss": 2.0},
        ],
        "pages": {"samples": SAMPLES.dump_python(samples, mode="json"), "mistakes": []},
    }  # fmt: skip


def metric_lines(steps: int) -> list[dict[str, float]]:
    lines: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        time = 1_700_000_000 + step
        lines.append(
            {"step": step, "time": time, "train/loss": 1 / step, "optim/lr": 0.01,
             "perf/tokens_per_s": 1000.0 + step, "progress/epoch": step / 20}
        )  # fmt: skip
        if step % 20 == 0:
            lines.append({"step": step, "time": time, "val/loss": 0.5, "val/accuracy": 0.75})
    return lines


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run of 40 updates with two evaluations."""
    folder = tmp_path / "run"
    (folder / "reports").mkdir(parents=True)
    (folder / "dataset").mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (folder / "dataset" / "dataset.json").write_text(json.dumps(MANIFEST))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in metric_lines(40)))
    lengths = {"rows": [0, 5, 10, 3], "edges": [3], "total": 18}
    (folder / "reports" / "lengths.json").write_text(json.dumps(lengths))
    for step in (20, 40):
        path = folder / "reports" / f"step-{step:08}.json"
        path.write_text(json.dumps(evaluation(step)))
    return folder
