"""What a person is shown: the same few rows after each evaluation, at no cost to the run."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("mlflow")

from pipeline.evaluation.sample_selection import SampleSelection
from pipeline.runtime.precision import Precision
from pipeline.stream.batch import Batch
from pipeline.tasks.sample import SAMPLES, Sample, TextSpan
from pipeline.tasks.tagging import Tagging
from tests.helpers.processes import command, finish, losses, start

FP32 = Precision("fp32", torch.device("cpu"))


class Told(Tagging):
    """Says of each row its key and what it holds."""

    def __init__(self) -> None:
        pass

    def samples(self, model: nn.Module, batch: Batch) -> list[Sample]:
        assert not model.training
        assert not torch.is_grad_enabled()
        return [
            Sample({"key": str(key), "row": str(row), "table": str(table[:length])})
            for key, row, table, length in zip(
                batch.keys.tolist(), batch.columns["tokens"].tolist(),
                batch.columns["table"].tolist(), batch.lengths.tolist(), strict=True,
            )
        ]  # fmt: skip


def batch(keys: list[int], length: int, filling: int = 0) -> Batch:
    """Rows that hold their key, as many as it says and one more, and a table of twice as much."""
    lengths = torch.tensor([min(abs(key) + 1, length) for key in keys])
    inside = torch.arange(length) < lengths[:, None]
    tokens = torch.tensor(keys)[:, None] * inside
    weights = torch.ones(len(keys))
    weights[len(keys) - filling :] = 0
    table = torch.stack([tokens, 2 * tokens], -1)
    return Batch({"tokens": tokens, "table": table}, lengths, weights, torch.tensor(keys))


def test_rows_of_the_least_keys_are_shown_whatever_batches_they_came_in() -> None:
    shown, model = SampleSelection(Told(), rows=4), nn.Linear(1, 1).train()
    first = [batch([5, 3], 6), batch([1, -9, 8, -30], 4, filling=1), batch([2], 3)]
    assert shown.samples(model, FP32) == []
    assert list(shown.passing(first)) == first
    samples = shown.samples(model, FP32)
    assert [sample.texts["key"] for sample in samples] == ["-9", "1", "2", "3"]
    assert samples[1].texts["row"] == "[1, 1, 0, 0, 0, 0]"  # as wide as the widest
    assert samples[2].texts["table"] == "[[2, 4], [2, 4], [2, 4]]"
    assert model.training
    list(shown.passing([batch([-50], 1)]))  # a later evaluation
    assert shown.samples(model, FP32) == samples


def test_an_evaluation_that_was_cut_short_is_looked_through_anew() -> None:
    shown = SampleSelection(Told(), rows=2)
    next(shown.passing([batch([1], 1), batch([2], 1)]))
    list(shown.passing([batch([4], 1), batch([3], 1)]))
    samples = shown.samples(nn.Linear(1, 1), FP32)
    assert [sample.texts["key"] for sample in samples] == ["3", "4"]


KEYS = {
    "tagging": {"true", "predicted"},
    "translation": {"source", "translation", "reference"},
    "language_modeling": {"given", "continuation"},
    "captioning": {"caption", "reference"},
}


@pytest.mark.parametrize("case", KEYS, indirect=True)
def test_a_run_that_shows_samples_is_the_run_that_does_not(
    case: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Its losses are the same to the last bit, and each evaluation shows the same rows."""
    few = ["train.max_steps=6", "train.evaluate_every=2", "train.log_every=1", "model.dropout=0.3"]
    for name, tracked in (("plain", "false"), ("tracked", "true")):
        own = [f"run.dir={tmp_path}/{name}", f"track.enabled={tracked}"]
        where = [f"track.uri=sqlite:///{tmp_path}/mlflow.db", "track.system_metrics=false"]
        status, _, err = finish(start(command(*case, *few, *own, *where), cwd=tmp_path))
        assert status == 0, err
        assert "no samples" not in err
    assert losses(tmp_path / "plain") == losses(tmp_path / "tracked")
    paths = sorted((tmp_path / "tracked" / "reports").glob("step-*.json"))
    reports = [json.loads(path.read_text()) for path in paths]
    assert [report["step"] for report in reports] == [2, 4, 6]
    found = [SAMPLES.validate_python(report["pages"]["samples"]) for report in reports]
    expected = KEYS[request.node.callspec.params["case"]]
    assert all(set(sample.texts) == expected for samples in found for sample in samples)
    assert 4 <= len(found[0]) <= 9
    given = sorted(expected - {"translation", "continuation", "caption", "predicted"})

    def rows(samples: list[Sample]) -> list[str]:
        return [_plain(sample.texts[name]) for sample in samples for name in given]

    assert rows(found[0]) == rows(found[1]) == rows(found[2])


def _plain(text: str | list[TextSpan]) -> str:
    return text if isinstance(text, str) else " ".join(piece.text for piece in text)
