"""Regression: a number for each text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.kinds.number import NumberField
from pipeline.corpus.fields.kinds.text import TextField
from pipeline.models.classifier import Classifier
from pipeline.models.settings import Pretrained
from pipeline.settings import Conflict, Sections, same_column, setting
from pipeline.stream.batch import Batch
from pipeline.tasks.base.abilities import Embeds
from pipeline.tasks.base.metric import NUMBER
from pipeline.tasks.base.row_task import RowTask
from pipeline.tasks.base.settings import TaskSettings
from pipeline.tasks.base.task import Baseline, DatasetInfo, Evaluation, Mistake


class Regression(RowTask, Embeds):
    """A number per document, evaluated by the mean absolute error and by the correlations of
    Pearson and Spearman.

    The model is trained on numbers that are scaled to mean 0 and standard deviation 1 over the
    training split, so its settings do not depend on the unit. `loss` is on that scale; everything
    else is in the unit of the input.

    Shapes: B rows of a batch, which have one output each.
    """

    class Settings(TaskSettings):
        loss: Literal["mse", "mae", "huber"] = setting(
            "mse",
            "training loss: squared error, absolute error, or squared error up to one standard "
            "deviation and absolute error beyond",
        )

    uses = (Classifier, Pretrained, TextField, NumberField)
    settings: Settings
    best_metric = "pearson_corrcoef"
    predicts = NUMBER
    default_metrics = ("mean_absolute_error", "pearson_corrcoef", "spearman_corrcoef", "r2_score")

    def __init__(self, settings: Settings, model: Classifier.Settings, data: DatasetInfo) -> None:
        self.settings, self.model = settings, model
        self.vocabulary = data.vocabularies["tokenizer"]
        stats = data.numbers["number"]
        self.mean, self.scale = stats.mean, stats.std or 1.0

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        yield from same_column(config, "label", "text")

    @staticmethod
    def fields(corpus: Any) -> tuple[FieldSpec, ...]:
        return (
            FieldSpec("tokens", corpus.text, "text"),
            FieldSpec("number", corpus.label, "number"),
        )

    def build(self) -> nn.Module:
        return Classifier(self.model, self.vocabulary, 1)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        output: Tensor = model(batch.columns["tokens"], batch.lengths, batch.keys)
        return output.float()

    def embed(self, model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, Classifier)
        return model.pool(batch.columns["tokens"], batch.lengths, batch.keys).float()

    def row_losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        target = (batch.columns["number"] - self.mean) / self.scale
        return LOSSES[self.settings.loss](outputs[:, 0], target.to(outputs.dtype))

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """Return the sums of `RowTask` and, last, that of the distances from the mean."""
        sums, mistakes = super().evaluate(outputs, batch)
        distances = (batch.columns["number"].double() - self.mean).abs() * batch.weights
        return torch.cat([sums, distances.sum()[None].to(sums)]), mistakes

    def summarize(self, sums: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        evaluation = super().summarize(sums[:-1], texts)
        error = sums[-1].item() / evaluation.metrics["examples"]
        baseline = Baseline("mean_absolute_error", error, f"the mean, {self.mean:.4g}")
        return replace(evaluation, baseline=baseline)

    def scored(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        return self._numbers(outputs), batch.columns["number"]

    def details(self, outputs: Tensor, batch: Batch, row: int) -> dict[str, Any]:
        predicted = self._numbers(outputs)[row].item()
        return {"number": batch.columns["number"][row].item(), "predicted": predicted}

    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{"number": float(f"{x:.7g}")} for x in self._numbers(outputs).tolist()]

    def _numbers(self, outputs: Tensor) -> Tensor:
        """Convert outputs [B, 1] to numbers [B] in the unit of the input."""
        return outputs[:, 0] * self.scale + self.mean


def _squared(x: Tensor, y: Tensor) -> Tensor:
    return functional.mse_loss(x, y, reduction="none")


def _absolute(x: Tensor, y: Tensor) -> Tensor:
    return functional.l1_loss(x, y, reduction="none")


def _huber(x: Tensor, y: Tensor) -> Tensor:
    return functional.huber_loss(x, y, reduction="none")


LOSSES = {"mse": _squared, "mae": _absolute, "huber": _huber}
"""Losses by the values of `task.loss`; both arguments are [B]."""
