"""Classification of texts: one label a row (many-to-one)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import ConfigError
from pipeline.models.classifier import Classifier
from pipeline.models.settings import ModelSettings
from pipeline.stream.batch import Batch
from pipeline.tasks.sample import ImageData
from pipeline.tasks.settings import TaskSettings
from pipeline.tasks.task import Contents, Evaluation, Mistake, Task

MIN_PROBABILITY = torch.finfo(
    torch.float64
).tiny  # that a likelihood counts as, lest its log be infinite


class Classification(Task):
    """Cross entropy over the labels; accuracy and macro-averaged F1.

    A document of several rows has the mean of their probabilities, weighted by tokens.

    Legend: B rows of a batch, C labels.
    """

    sums = ("loss", "weight", "correct", "rows")
    best = "accuracy"
    reads = "tokens"
    """The column that the model reads."""

    def __init__(self, settings: TaskSettings, model: ModelSettings, data: Contents) -> None:
        self.settings, self.model, self.data = settings, model, data
        self.labels = data.names["label"]
        self.class_weights = torch.tensor(_weights(settings, self.labels, data))  # [C]

    @staticmethod
    def fields(corpus: CorpusSettings) -> tuple[FieldSpec, ...]:
        return (FieldSpec("tokens", corpus.text, "text"), FieldSpec("label", corpus.label, "label"))

    def build(self) -> nn.Module:
        return Classifier(self.model, self.data.vocabularies["tokenizer"], len(self.labels))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        scores, label = self._scores(model, batch), batch.columns["label"]
        class_weights = self.class_weights.to(scores.device)
        losses = functional.cross_entropy(
            scores, label, class_weights, reduction="none",
            label_smoothing=self.settings.label_smoothing,
        ) * batch.weights  # fmt: skip
        weight = (class_weights[label] * batch.weights).sum()
        correct = ((scores.argmax(-1) == label) * batch.weights).sum()
        return torch.stack([losses.sum(), weight, correct, batch.weights.sum()])

    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        loss, weight, correct, rows = sums
        return {"loss": loss / weight, "accuracy": correct / rows}

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """The probabilities of the labels [B, C]."""
        return self._scores(model, batch).double().softmax(-1)

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """The tally is [C * C + 1]: the confusion matrix (true, predicted), then the loss."""
        label, predicted = batch.columns["label"], outputs.argmax(-1)
        likelihood = outputs.gather(-1, label[:, None])[:, 0].clamp_min(MIN_PROBABILITY)  # [B]
        losses = -likelihood.log() * batch.weights
        cells = label * len(self.labels) + predicted  # [B]
        counts = torch.bincount(cells, batch.weights.double(), len(self.labels) ** 2)
        wrong = torch.nonzero((label != predicted) & (batch.weights > 0)).flatten().tolist()
        mistakes = [
            Mistake(
                losses[i].item(),
                self._text(batch, i),
                {
                    "label": self.labels[int(label[i])],
                    "predicted": self.labels[int(predicted[i])],
                    "probability": outputs[i, predicted[i]].item(),
                },
                self._picture(batch, i),
            )
            for i in wrong
        ]
        return torch.cat([counts, losses.sum()[None]]), mistakes

    def evaluation(self, tally: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        size = len(self.labels)
        table = tally[:-1].view(size, size)  # [C, C]
        rows, hits = table.sum(), table.diagonal()
        in_either = table.sum(0) + table.sum(1)  # [C] 2 tp + fp + fn
        seen = in_either > 0  # as usual, a label neither true nor predicted has no F1
        f1 = (2 * hits[seen] / in_either[seen]).mean()
        metrics = {
            "examples": int(rows),
            "loss": (tally[-1] / rows).item(),
            "accuracy": (hits.sum() / rows).item(),
            "macro_f1": f1.item(),
        }
        return Evaluation(metrics, table.long().tolist(), self.labels)

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        return {"tokens": line}

    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        best = outputs.argmax(-1).tolist()
        return [
            {
                "label": self.labels[k],
                "probability": round(row[k], 6),
                "scores": {name: round(p, 6) for name, p in zip(self.labels, row, strict=True)},
            }
            for k, row in zip(best, outputs.tolist(), strict=True)
        ]

    def _text(self, batch: Batch, row: int) -> list[int]:
        """The tokens of a row, by which a person knows it."""
        return batch.columns["tokens"][row, : batch.lengths[row]].tolist()

    def _picture(self, batch: Batch, row: int) -> ImageData | None:
        """The same of an image."""
        return None

    def _scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """[B, C], before the softmax."""
        scores: Tensor = model(batch.columns[self.reads], batch.lengths, batch.keys)
        return scores.float()


def _weights(settings: TaskSettings, labels: Sequence[str], data: Contents) -> list[float]:
    """What a row of each label counts in the loss, 1 on average over the rows if balanced.

    Raises ConfigError for a label that there is not.
    """
    asked = settings.class_weights
    if asked == "none":
        return [1.0] * len(labels)
    if asked == "balanced":
        counts = data.counts.get("label", ())
        if not counts:
            raise ConfigError(
                "task.class_weights=balanced: wants the numbers of rows of each label, which only "
                "a prepared dataset has; set stream.unprepared_rows=0, or give a weight for each label"
            )
        return [sum(counts) / (len(counts) * max(count, 1)) for count in counts]
    if unknown := [name for name in asked if name not in labels]:
        raise ConfigError(
            f"task.class_weights={asked}: the corpus has no label {unknown[0]!r}, it has "
            f"{', '.join(labels)}; mend the name"
        )
    return [asked.get(label, 1.0) for label in labels]
