"""Classification of texts: one label a row (many-to-one)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.corpus.fields import Field
from pipeline.corpus.settings import CorpusSettings
from pipeline.models.classifier import Classifier
from pipeline.models.settings import ModelSettings
from pipeline.stream.batch import Batch
from pipeline.tasks.task import Evaluation, Mistake


class Classification:
    """Cross entropy over the labels; accuracy and macro-averaged F1.

    Legend: B rows of a batch, C labels.
    """

    sums: tuple[str, ...] = ("loss", "rows", "correct")
    best = "accuracy"

    def __init__(self, model: ModelSettings, vocabulary: int, labels: Sequence[str]) -> None:
        self.settings, self.vocabulary, self.labels = model, vocabulary, labels

    @staticmethod
    def fields(corpus: CorpusSettings) -> tuple[Field, ...]:
        return (Field("tokens", corpus.text, "text"), Field("label", corpus.label, "label"))

    def build(self) -> nn.Module:
        return Classifier(self.settings, self.vocabulary, len(self.labels))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        scores, losses = self._losses(model, batch)
        correct = (scores.argmax(-1) == batch.columns["label"]) * batch.weights
        return torch.stack([losses.sum(), batch.weights.sum(), correct.sum()])

    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        loss, rows, correct = sums
        return {"loss": loss / rows, "accuracy": correct / rows}

    def evaluate(self, model: nn.Module, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """The tally is [C * C + 1]: the confusion matrix (true, predicted), then the loss."""
        scores, losses = self._losses(model, batch)
        label, predicted = batch.columns["label"], scores.argmax(-1)
        cells = label * len(self.labels) + predicted  # [B]
        counts = torch.bincount(cells, batch.weights.double(), len(self.labels) ** 2)
        wrong = torch.nonzero((label != predicted) & (batch.weights > 0)).flatten().tolist()
        probability = scores.softmax(-1)
        mistakes = [
            Mistake(
                losses[i].item(),
                batch.columns["tokens"][i, : batch.lengths[i]].tolist(),
                {
                    "label": self.labels[int(label[i])],
                    "predicted": self.labels[int(predicted[i])],
                    "probability": probability[i, predicted[i]].item(),
                },
            )
            for i in wrong
        ]
        return torch.cat([counts, losses.double().sum()[None]]), mistakes

    def evaluation(self, tally: Tensor) -> Evaluation:
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

    def predict(self, model: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        scores = model(batch.columns["tokens"], batch.lengths, batch.keys).float().softmax(-1)
        best = scores.argmax(-1).tolist()
        return [
            {
                "label": self.labels[k],
                "probability": round(row[k], 6),
                "scores": {name: round(p, 6) for name, p in zip(self.labels, row, strict=True)},
            }
            for k, row in zip(best, scores.tolist(), strict=True)
        ]

    def _losses(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The scores [B, C] and the losses [B], 0 for a filling row."""
        scores = model(batch.columns["tokens"], batch.lengths, batch.keys).float()
        losses = functional.cross_entropy(scores, batch.columns["label"], reduction="none")
        return scores, losses * batch.weights
