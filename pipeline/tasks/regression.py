"""Regression: a number for each text."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
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
from pipeline.tasks.base.metric import NUMBER
from pipeline.tasks.base.settings import TaskSettings
from pipeline.tasks.base.task import DatasetInfo, Evaluation, Mistake, Task


class Regression(Task):
    """A number per document, evaluated by the mean absolute error and by the correlations of
    Pearson and Spearman.

    The model is trained on numbers that are scaled to mean 0 and standard deviation 1 over the
    training split, so its settings do not depend on the unit. `loss` is on that scale; everything
    else is in the unit of the input. Of a document that was split into several rows, the numbers
    of the rows are averaged, weighted by their tokens.

    Shapes: B rows of a batch.
    """

    class Settings(TaskSettings):
        loss: Literal["mse", "mae", "huber"] = setting(
            "mse",
            "training loss: squared error, absolute error, or squared error up to one standard "
            "deviation and absolute error beyond",
        )

    uses = (Classifier, Pretrained, TextField, NumberField)
    settings: Settings
    sum_names = ("loss", "rows", "absolute_error")
    best_metric = "pearson_corrcoef"
    reported = MappingProxyType({"loss": False})
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

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        scaled = self._scaled(model, batch)
        target = ((batch.columns["number"] - self.mean) / self.scale).to(scaled)
        losses = LOSSES[self.settings.loss](scaled, target) * batch.weights
        errors = (scaled - target).abs().detach() * self.scale * batch.weights
        return torch.stack([losses.sum(), batch.weights.sum(), errors.sum()])

    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        loss, rows, error = sums
        return {"loss": loss / rows, "mean_absolute_error": error / rows}

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the predicted number of each row [B, 1]."""
        return self._scaled(model, batch).double()[:, None] * self.scale + self.mean

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """Return sums [2], the loss and the number of rows, and the rows with their errors."""
        predicted, true = self.scored(outputs, batch)
        losses = LOSSES[self.settings.loss](
            (predicted - self.mean) / self.scale, (true - self.mean) / self.scale
        )
        rows = torch.nonzero(batch.weights > 0).flatten().tolist()
        mistakes = [
            Mistake(
                losses[i].item(),
                batch.columns["tokens"][i, : batch.lengths[i]].tolist(),
                {"number": true[i].item(), "predicted": predicted[i].item()},
            )
            for i in rows
        ]
        weights = batch.weights.double()
        return torch.stack([(losses * weights).sum(), weights.sum()]), mistakes

    def scored(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        return outputs[:, 0], batch.columns["number"].double()

    def summarize(self, sums: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        loss, rows = sums.tolist()
        return Evaluation({"examples": int(rows), "loss": loss / rows})

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        return {"tokens": line}

    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{"number": round(number, 6)} for number in outputs[:, 0].tolist()]

    def _scaled(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the model's float32 output [B], on the scale of training."""
        output: Tensor = model(batch.columns["tokens"], batch.lengths, batch.keys)
        return output[:, 0].float()


def _squared(x: Tensor, y: Tensor) -> Tensor:
    return functional.mse_loss(x, y, reduction="none")


def _absolute(x: Tensor, y: Tensor) -> Tensor:
    return functional.l1_loss(x, y, reduction="none")


def _huber(x: Tensor, y: Tensor) -> Tensor:
    return functional.huber_loss(x, y, reduction="none")


LOSSES = {"mse": _squared, "mae": _absolute, "huber": _huber}
"""Losses by the values of `task.loss`; both arguments are [B]."""
