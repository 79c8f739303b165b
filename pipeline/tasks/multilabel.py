"""Multi-label classification: any number of labels for each text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.kinds.labels import LabelsField
from pipeline.corpus.fields.kinds.text import TextField
from pipeline.models.classifier import Classifier
from pipeline.models.settings import Pretrained
from pipeline.settings import Conflict, Sections, same_column
from pipeline.stream.batch import Batch
from pipeline.tasks.base.abilities import Embeds
from pipeline.tasks.base.calibration import centered
from pipeline.tasks.base.metric import LABELS
from pipeline.tasks.base.scores import top_scores
from pipeline.tasks.base.settings import ThresholdSettings
from pipeline.tasks.base.task import Baseline, DatasetInfo, Evaluation, Mistake, Task

MIN_PROBABILITY = 1e-12
"""Lower bound of probabilities, so that their logarithm is finite."""


class MultiLabel(Task, Embeds):
    """Trained with the sum of the labels' binary cross entropies; evaluated by micro- and
    macro-averaged F1 and by `accuracy`, the share of rows with all labels correct (subset
    accuracy).

    A label is predicted if its probability is at least 0.5, or the threshold that
    `task.calibrate` fits. The probabilities of a document that
    was split into several rows are the rows' mean, weighted by their tokens.

    A label that the dataset lacks is one that the model misses, a false negative: its row is wrong.
    For macro F1 these labels are together one more label, whose F1 is 0. Their rows have no loss.

    Shapes: B rows of a batch, C labels, L the largest number of labels of a row.
    """

    Settings = ThresholdSettings
    uses = (Classifier, Pretrained, TextField, LabelsField)
    sum_names = ("loss", "rows", "correct")
    best_metric = "micro_f1"
    reported = MappingProxyType({"loss": False, "accuracy": True, "macro_f1": True})
    predicts = LABELS
    has_scores = True
    per_row_fields = ("labels",)
    counts_unknown_labels = True

    def __init__(
        self, settings: ThresholdSettings, model: Classifier.Settings, data: DatasetInfo
    ) -> None:
        self.settings, self.model = settings, model
        self.vocabulary, self.labels = data.vocabularies["tokenizer"], data.names["labels"]

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        yield from same_column(config, "label", "text")

    @staticmethod
    def fields(corpus: Any) -> tuple[FieldSpec, ...]:
        return (
            FieldSpec("tokens", corpus.text, "text"),
            FieldSpec("labels", corpus.label, "labels"),
        )

    def build(self) -> nn.Module:
        return Classifier(self.model, self.vocabulary, len(self.labels))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        logits, true = self._logits(model, batch), self._multi_hot(batch)
        losses = functional.binary_cross_entropy_with_logits(logits, true, reduction="none").sum(-1)
        correct = ((logits >= 0) == (true > 0)).all(-1)
        return torch.stack(
            [(losses * batch.weights).sum(), batch.weights.sum(), (correct * batch.weights).sum()]
        )

    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        loss, rows, correct = sums
        return {"loss": loss / rows, "accuracy": correct / rows}

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the probability of each label [B, C]."""
        return self._logits(model, batch).double().sigmoid()

    def embed(self, model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, Classifier)
        return model.pool(batch.columns["tokens"], batch.lengths, batch.keys).float()

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """Return sums [3 * C + 5] and the mistakes.

        For each label, the number of rows that have it; then, for each label, the number of rows
        that are predicted to have it; then the number of rows of both kinds. At the end, the summed
        loss, the numbers of rows with all labels correct, of rows, and of rows without an unknown
        label, and the number of unknown labels.
        """
        true, predicted = self._multi_hot(batch).double(), self._predicted(outputs).double()
        weights, unknown = batch.weights.double(), self._unknown(batch)  # [B], [B]
        probability = torch.where(true > 0, outputs, 1 - outputs).clamp_min(MIN_PROBABILITY)
        known_weights = weights * (unknown == 0)
        losses = -probability.log().sum(-1) * known_weights  # [B]
        correct = ((true == predicted).all(-1) & (unknown == 0)).double()
        per_label = torch.stack([true, predicted, true * predicted]) * weights[:, None]  # [3, B, C]
        by_row = [losses, correct * weights, weights, known_weights, unknown * weights]
        totals = torch.stack([values.sum() for values in by_row])
        wrong = torch.nonzero((correct == 0) & (weights > 0)).flatten().tolist()
        mistakes = [
            Mistake(
                losses[i].item(),
                batch.columns["tokens"][i, : batch.lengths[i]].tolist(),
                {
                    "labels": self._join_names(true[i], self._unknown_names(batch, i)),
                    "predicted": self._join_names(predicted[i]),
                },
            )
            for i in wrong
        ]
        return torch.cat([per_label.sum(1).flatten(), totals]), mistakes

    def scored(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        true, unknown = self._multi_hot(batch), self._unknown(batch) > 0
        if unknown.any():
            true = torch.cat([true, unknown[:, None].to(true)], 1)
        return centered(outputs, self._thresholds(outputs)), true

    def summarize(self, sums: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        true, predicted, true_positives = sums[:-5].view(3, -1)  # [C] each
        loss, correct, rows, known_rows, unknown = sums[-5:].tolist()
        # F1 is undefined (0 / 0) for labels that neither occur nor are predicted; they are skipped.
        defined = true + predicted > 0
        f1 = 2 * true_positives[defined] / (true + predicted)[defined]
        if unknown:
            f1 = torch.cat([f1, f1.new_zeros(1)])
        labels = (true + predicted).sum() + unknown
        metrics = {
            "examples": int(rows),
            "loss": loss / known_rows if known_rows else math.nan,
            "accuracy": correct / rows,
            "micro_f1": (2 * true_positives.sum() / labels.clamp_min(1)).item(),
            "macro_f1": f1.mean().item() if len(f1) else 0.0,
        }
        return Evaluation(metrics, baseline=self._baseline(true, rows, unknown))

    def _baseline(self, true: Tensor, rows: float, unknown: float) -> Baseline:
        """Return micro F1 if the most frequent label is predicted for each row, and no other."""
        largest = int(true.argmax())
        labels = true.sum().item() + unknown + rows
        value = 2 * true[largest].item() / labels
        return Baseline("micro_f1", value, f"{self.labels[largest]!r} alone")

    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "labels": [name for name, chosen in zip(self.labels, row, strict=True) if chosen],
                **scores,
            }
            for row, scores in zip(
                self._predicted(outputs).tolist(),
                top_scores(self.labels, outputs, self.top_k),
                strict=True,
            )
        ]

    def _predicted(self, outputs: Tensor) -> Tensor:
        """Return [B, C] bool: whether the label is predicted."""
        return outputs >= self._thresholds(outputs)

    def _thresholds(self, outputs: Tensor) -> Tensor:
        """Return each label's threshold [C]."""
        return self.calibration.thresholds(self.labels).to(outputs.device)

    def _logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return [B, C]."""
        logits: Tensor = model(batch.columns["tokens"], batch.lengths, batch.keys)
        return logits.float()

    def _multi_hot(self, batch: Batch) -> Tensor:
        """Return [B, C]: 1 where the row has the label."""
        ids = batch.columns["labels"]  # [B, L], counted from 1; 0 is padding
        multi_hot = torch.zeros(len(ids), len(self.labels) + 1, device=ids.device)
        known = ids.masked_fill(ids > len(self.labels), 0)
        return multi_hot.scatter_(1, known, 1.0)[:, 1:]

    def _unknown(self, batch: Batch) -> Tensor:
        """Return the number of unknown labels of each row [B]."""
        return (batch.columns["labels"] > len(self.labels)).sum(1)

    def _unknown_names(self, batch: Batch, row: int) -> list[str]:
        unknown = batch.columns["labels"][row] - len(self.labels) - 1
        return [self.unknown_names["labels"][k] for k in unknown[unknown >= 0].tolist()]

    def _join_names(self, multi_hot: Tensor, others: Sequence[str] = ()) -> str:
        flags = zip(self.labels, multi_hot.tolist(), strict=True)
        return ", ".join([*(name for name, has_label in flags if has_label), *others])
