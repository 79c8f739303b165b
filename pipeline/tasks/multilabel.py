"""Classification of texts into any number of labels: each is there or not (many-to-one)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.settings import CorpusSettings
from pipeline.models.classifier import Classifier
from pipeline.models.settings import ModelSettings
from pipeline.stream.batch import Batch
from pipeline.tasks.settings import TaskSettings
from pipeline.tasks.task import Contents, Evaluation, Mistake, Task

MIN_PROBABILITY = 1e-12  # that a likelihood counts as, lest its log be infinite


class MultiLabel(Task):
    """Binary cross entropy of each label, added up; F1 over all (row, label) and averaged over the
    labels, and the share of rows of which every label is right. A label is said from 0.5 on.

    A document of several rows has the mean of their probabilities, weighted by tokens.

    Legend: B rows of a batch, C labels.
    """

    sums = ("loss", "rows", "correct")
    best = "micro_f1"
    per_row_fields = ("labels",)

    def __init__(self, settings: TaskSettings, model: ModelSettings, data: Contents) -> None:
        self.model = model
        self.vocabulary, self.labels = data.vocabularies["tokenizer"], data.names["labels"]

    @staticmethod
    def fields(corpus: CorpusSettings) -> tuple[FieldSpec, ...]:
        return (
            FieldSpec("tokens", corpus.text, "text"),
            FieldSpec("labels", corpus.label, "labels"),
        )

    def build(self) -> nn.Module:
        return Classifier(self.model, self.vocabulary, len(self.labels))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        scores, true = self._scores(model, batch), self._true(batch)
        losses = functional.binary_cross_entropy_with_logits(scores, true, reduction="none").sum(-1)
        correct = ((scores >= 0) == (true > 0)).all(-1)
        return torch.stack(
            [(losses * batch.weights).sum(), batch.weights.sum(), (correct * batch.weights).sum()]
        )

    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        loss, rows, correct = sums
        return {"loss": loss / rows, "accuracy": correct / rows}

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """The probability of each label [B, C]."""
        return self._scores(model, batch).double().sigmoid()

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """The tally is [3 * C + 3]: of each label how many rows have it, are said to and do both;
        then the loss, the rows that are wholly right, and the rows."""
        true, said = self._true(batch).double(), (outputs >= 0.5).double()  # [B, C]
        weights = batch.weights.double()
        likelihood = torch.where(true > 0, outputs, 1 - outputs).clamp_min(MIN_PROBABILITY)
        losses = -likelihood.log().sum(-1) * weights  # [B]
        right = (true == said).all(-1).double()
        counts = torch.stack([true, said, true * said]) * weights[:, None]  # [3, B, C]
        rest = torch.stack([losses.sum(), (right * weights).sum(), weights.sum()])
        wrong = torch.nonzero((right == 0) & (weights > 0)).flatten().tolist()
        mistakes = [
            Mistake(
                losses[i].item(),
                batch.columns["tokens"][i, : batch.lengths[i]].tolist(),
                {"labels": self._named(true[i]), "predicted": self._named(said[i])},
            )
            for i in wrong
        ]
        return torch.cat([counts.sum(1).flatten(), rest]), mistakes

    def evaluation(self, tally: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        true, said, both = tally[:-3].view(3, -1)  # [C] each
        loss, right, rows = tally[-3:].tolist()
        seen = true + said > 0  # as usual, a label neither true nor said has no F1
        f1 = 2 * both[seen] / (true + said)[seen]
        metrics = {
            "examples": int(rows),
            "loss": loss / rows,
            "accuracy": right / rows,
            "micro_f1": (2 * both.sum() / (true + said).sum().clamp_min(1)).item(),
            "macro_f1": f1.mean().item() if len(f1) else 0.0,
        }
        return Evaluation(metrics)

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        return {"tokens": line}

    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "labels": [name for name, p in zip(self.labels, row, strict=True) if p >= 0.5],
                "scores": {name: round(p, 6) for name, p in zip(self.labels, row, strict=True)},
            }
            for row in outputs.tolist()
        ]

    def _scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """[B, C], before the sigmoid."""
        scores: Tensor = model(batch.columns["tokens"], batch.lengths, batch.keys)
        return scores.float()

    def _true(self, batch: Batch) -> Tensor:
        """[B, C]: 1 where a row has a label."""
        ids = batch.columns["labels"]  # [B, most labels of a row], from 1
        found = torch.zeros(len(ids), len(self.labels) + 1, device=ids.device)
        return found.scatter_(1, ids, 1.0)[:, 1:]

    def _named(self, row: Tensor) -> str:
        names = [name for name, is_there in zip(self.labels, row.tolist(), strict=True) if is_there]
        return ", ".join(names)
