"""Samples show the same few rows after each evaluation and do not change the run's results."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("mlflow")

from pipeline.evaluation.sample_selection import SAMPLE_ROWS, SampleSelection
from pipeline.runtime.precision import Precision
from pipeline.stream.batch import Batch
from pipeline.tasks.base.sample import SAMPLES, Sample, TextSpan
from pipeline.tasks.tagging import Tagging
from tests.helpers.campaign import cases
from tests.helpers.processes import call, losses

FP32 = Precision("fp32", torch.device("cpu"))


class EchoTask(Tagging):
    """Shows each row's key and content."""

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


def batch(keys: list[int], length: int, padding_rows: int = 0) -> Batch:
    """Return a batch with one row per key k: min(|k| + 1, length) tokens k, and pairs (k, 2k).

    The last `padding_rows` rows have weight 0.
    """
    lengths = torch.tensor([min(abs(key) + 1, length) for key in keys])
    valid = torch.arange(length) < lengths[:, None]
    tokens = torch.tensor(keys)[:, None] * valid
    weights = torch.ones(len(keys))
    weights[len(keys) - padding_rows :] = 0
    table = torch.stack([tokens, 2 * tokens], -1)
    return Batch({"tokens": tokens, "table": table}, lengths, weights, torch.tensor(keys))


def test_rows_with_the_smallest_keys_are_shown_regardless_of_their_batches() -> None:
    selection, model = SampleSelection(EchoTask(), rows=4), nn.Linear(1, 1).train()
    first = [batch([5, 3], 6), batch([1, -9, 8, -30], 4, padding_rows=1), batch([2], 3)]
    assert selection.samples(model, FP32) == []
    assert list(selection.observe(first)) == first
    samples = selection.samples(model, FP32)
    assert [sample.texts["key"] for sample in samples] == ["-9", "1", "2", "3"]
    assert (
        samples[1].texts["row"] == "[1, 1, 0, 0, 0, 0]"
    )  # padded to the widest batch that a selected row comes from
    assert samples[2].texts["table"] == "[[2, 4], [2, 4], [2, 4]]"
    assert model.training
    list(selection.observe([batch([-50], 1)]))  # a later evaluation
    assert selection.samples(model, FP32) == samples


def test_selection_restarts_after_an_interrupted_evaluation() -> None:
    selection = SampleSelection(EchoTask(), rows=2)
    next(selection.observe([batch([1], 1), batch([2], 1)]))
    list(selection.observe([batch([4], 1), batch([3], 1)]))
    samples = selection.samples(nn.Linear(1, 1), FP32)
    assert [sample.texts["key"] for sample in samples] == ["3", "4"]


TEXT_NAMES = {
    "tagging": {"true", "predicted"},
    "translation": {"source", "translation", "reference"},
    "language_modeling": {"given", "continuation"},
    "captioning": {"caption", "reference"},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(TEXT_NAMES, ["translation"]), indirect=True)
def test_showing_samples_does_not_change_the_losses(
    case: list[str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The losses are bit-identical, and each evaluation shows the same rows."""
    monkeypatch.chdir(tmp_path)
    training = [
        "train.max_steps=6", "train.evaluate_every=2", "train.log_every=1", "model.dropout=0.3",
    ]  # fmt: skip
    for name, tracked in (("plain", "false"), ("tracked", "true")):
        run = [f"run.dir={tmp_path}/{name}", f"track.enabled={tracked}"]
        tracking = [
            f"track.uri=sqlite:///{tmp_path}/mlflow.db", "track.system_metrics=false",
            "track.log_model=false",
        ]  # fmt: skip
        status, _, err = call("train", *case, *training, *run, *tracking)
        assert status == 0, err
        assert "no samples" not in err
    assert losses(tmp_path / "plain") == losses(tmp_path / "tracked")
    paths = sorted((tmp_path / "tracked" / "reports").glob("step-*.json"))
    reports = [json.loads(path.read_text()) for path in paths]
    assert [report["step"] for report in reports] == [2, 4, 6]
    shown = [SAMPLES.validate_python(report["pages"]["samples"]) for report in reports]
    expected = TEXT_NAMES[request.node.callspec.params["case"]]
    assert all(set(sample.texts) == expected for samples in shown for sample in samples)
    # A language model also shows a text generated from nothing; a search may find no text.
    assert SAMPLE_ROWS // 2 <= len(shown[0]) <= SAMPLE_ROWS + 1
    fixed_names = sorted(expected - {"translation", "continuation", "caption", "predicted"})

    def fixed_texts(samples: list[Sample]) -> list[str]:
        return [_to_text(sample.texts[name]) for sample in samples for name in fixed_names]

    assert fixed_texts(shown[0]) == fixed_texts(shown[1]) == fixed_texts(shown[2])


def _to_text(text: str | list[TextSpan]) -> str:
    return text if isinstance(text, str) else " ".join(span.text for span in text)
