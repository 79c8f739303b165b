"""Text classification: one label for each text."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.kinds.label import LabelField
from pipeline.corpus.fields.kinds.text import TextField
from pipeline.corpus.fields.label_names import shorten
from pipeline.errors import ConfigError
from pipeline.models.classifier import Classifier
from pipeline.models.settings import Pretrained
from pipeline.settings import Conflict, Sections, same_column, setting
from pipeline.stream.batch import Batch
from pipeline.tasks.base.abilities import Embeds
from pipeline.tasks.base.calibration import with_temperature
from pipeline.tasks.base.confusion import Confusion
from pipeline.tasks.base.metric import LABEL
from pipeline.tasks.base.sample import ImageData
from pipeline.tasks.base.scores import top_scores
from pipeline.tasks.base.settings import SmoothingSettings, TemperatureSettings, Weight
from pipeline.tasks.base.task import Baseline, DatasetInfo, Evaluation, Mistake, Task

MIN_PROBABILITY = torch.finfo(torch.float64).tiny
"""Lower bound of probabilities, so that their logarithm is finite."""


class Classification(Task, Embeds):
    """A single label per document, evaluated by accuracy and macro-averaged F1.

    The training loss is cross entropy with class weights and label smoothing; the evaluation loss
    has neither. If a document was split into several rows, its probabilities are the mean of the
    rows' probabilities, weighted by each row's number of tokens.

    `task.calibrate` fits a temperature, which changes the probabilities and not the label.

    Labels that the dataset lacks are together one more label of an evaluation, which is never
    predicted: their rows are wrong, and its F1 of 0 is part of macro F1. They have no loss.

    Shapes: B rows of a batch, C labels.
    """

    class Settings(TemperatureSettings, SmoothingSettings):
        class_weights: Literal["none", "balanced"] | dict[str, Weight] = setting(
            "none",
            "loss weight per label; balanced: inverse to the label's frequency, so that all labels "
            "contribute equally",
        )

    uses: ClassVar[tuple[type[Any], ...]] = (Classifier, Pretrained, TextField, LabelField)
    streams_unprepared = True
    counts_unknown_labels = True
    settings: Settings
    sum_names = ("loss", "weight", "correct", "rows")
    best_metric = "accuracy"
    reported = MappingProxyType({"loss": False, "accuracy": True, "macro_f1": True})
    predicts = LABEL
    has_scores = True
    input_field = "tokens"
    """The batch column that the model reads; a subclass reads images."""

    def __init__(self, settings: Settings, model: Classifier.Settings, data: DatasetInfo) -> None:
        self.settings, self.model, self.data = settings, model, data
        self.labels = data.names["label"]
        self.confusion = Confusion(self.labels, data.counts.get("label", ()))
        self._class_weights = torch.tensor(_class_weights(settings, self.labels, data))  # [C]

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        yield from same_column(config, "label", "text")

    @staticmethod
    def fields(corpus: Any) -> tuple[FieldSpec, ...]:
        return (FieldSpec("tokens", corpus.text, "text"), FieldSpec("label", corpus.label, "label"))

    def build(self) -> nn.Module:
        return Classifier(self.model, self.data.vocabularies["tokenizer"], len(self.labels))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        logits, label = self.logits(model, batch), batch.columns["label"]
        if self._class_weights.device != logits.device:  # once, as a copy waits for the device
            self._class_weights = self._class_weights.to(logits.device)
        class_weights = self._class_weights
        losses = functional.cross_entropy(
            logits, label, class_weights, reduction="none",
            label_smoothing=self.settings.label_smoothing,
        ) * batch.weights  # fmt: skip
        weight = (class_weights[label] * batch.weights).sum()
        correct = ((logits.argmax(-1) == label) * batch.weights).sum()
        # in the order of `sum_names`
        return torch.stack([losses.sum(), weight, correct, batch.weights.sum()])

    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        loss, weight, correct, rows = sums
        return {"loss": loss / weight, "accuracy": correct / rows}

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the probability of each label [B, C]."""
        return self.logits(model, batch).double().softmax(-1)

    def embed(self, model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, Classifier)
        return model.pool(batch.columns[self.input_field], batch.lengths, batch.keys).float()

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """Return sums and the mistakes. The sums are those of `Confusion`, then the summed loss."""
        label, predicted = batch.columns["label"], outputs.argmax(-1)
        outputs = self._calibrated(outputs)
        size = len(self.labels)
        true_scores = outputs.gather(-1, label.clamp(max=size - 1)[:, None])[:, 0]  # [B]
        losses = -true_scores.clamp_min(MIN_PROBABILITY).log() * batch.weights * (label < size)
        confusion = self.confusion.sums(label, predicted, batch.weights)
        wrong = torch.nonzero((label != predicted) & (batch.weights > 0)).flatten().tolist()
        mistakes = [
            Mistake(
                losses[i].item(),
                self._text_tokens(batch, i),
                self.details(batch, i)
                | {
                    "label": self._label_name(int(label[i])),
                    "predicted": self.labels[int(predicted[i])],
                    "probability": outputs[i, predicted[i]].item(),
                },
                self._image(batch, i),
            )
            for i in wrong
        ]
        return torch.cat([confusion, losses.sum()[None]]), mistakes

    def scored(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        return self._calibrated(outputs), batch.columns["label"]

    def summarize(self, sums: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        counts = self.confusion.unpack(sums[:-1])
        unknown, true_positives = counts.unknown, counts.correct
        rows = counts.true.sum() + unknown
        denominators = counts.true + counts.predicted  # [C] 2 tp + fp + fn
        # F1 is undefined (0 / 0) for labels that neither occur nor are predicted; they are skipped.
        defined = denominators > 0
        f1 = 2 * true_positives[defined] / denominators[defined]
        f1 = (torch.cat([f1, f1.new_zeros(1)]) if unknown else f1).mean()
        metrics = {
            "examples": int(rows),
            "loss": (sums[-1] / (rows - unknown)).item(),
            "accuracy": (true_positives.sum() / rows).item(),
            "macro_f1": f1.item(),
        }
        largest = self.confusion.largest(counts.true)
        share = (counts.true[largest] / rows).item()
        return Evaluation(
            metrics,
            counts.table.long().tolist(),
            self.confusion.labels,
            left_out=self.confusion.left_out,
            baseline=Baseline("accuracy", share, repr(self.labels[largest])),
        )

    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        best = outputs.argmax(-1)
        outputs = self._calibrated(outputs)
        probabilities = outputs.gather(-1, best[:, None])[:, 0]
        return [
            {
                "label": self.labels[k],
                "probability": round(probability, 6),
                **scores,
            }
            for k, probability, scores in zip(
                best.tolist(),
                probabilities.tolist(),
                top_scores(self.labels, outputs, self.top_k),
                strict=True,
            )
        ]

    def _calibrated(self, outputs: Tensor) -> Tensor:
        """Return probabilities [B, C] to read; the most probable label is that of `outputs`."""
        return with_temperature(outputs, self.calibration.temperature)

    def _label_name(self, index: int) -> str:
        size = len(self.labels)
        return self.labels[index] if index < size else self.unknown_names["label"][index - size]

    def _text_tokens(self, batch: Batch, row: int) -> list[int]:
        """Return the row's tokens, to display with a mistake; overridden for images."""
        return batch.columns["tokens"][row, : batch.lengths[row]].tolist()

    def details(self, batch: Batch, row: int) -> dict[str, Any]:
        """Return what else to display with a mistake, by name; overridden for pairs of texts."""
        return {}

    def _image(self, batch: Batch, row: int) -> ImageData | None:
        """Return the row's image, to display with a mistake; None here, as the input is a text."""
        return None

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return float32 logits [B, C]."""
        logits: Tensor = model(batch.columns[self.input_field], batch.lengths, batch.keys)
        return logits.float()


def _class_weights(
    settings: Classification.Settings, labels: Sequence[str], data: DatasetInfo
) -> list[float]:
    """Return the loss weight of each label. Balanced weights are N / (C * count) as in
    scikit-learn, so that their mean over the N rows is 1.

    Raises ConfigError for weights of unknown labels, and for balanced weights if the numbers of
    rows per label are unknown, as in unprepared data.
    """
    weights = settings.class_weights
    if weights == "none":
        return [1.0] * len(labels)
    if weights == "balanced":
        counts = data.counts.get("label", ())
        if not counts:
            raise ConfigError(
                "task.class_weights=balanced: needs the number of rows of each label, which only a "
                "prepared dataset has; prepare one (stream.unprepared_rows=0), or give a map from "
                "label to weight"
            )
        return [
            sum(counts) / (len(counts) * max(count, 1)) for count in counts
        ]  # a label may have no row
    known = set(labels)
    if unknown := [name for name in weights if name not in known]:
        raise ConfigError(
            f"task.class_weights={weights}: the corpus has no label {unknown[0]!r}, it has "
            f"{shorten(labels)}; fix the name"
        )
    return [weights.get(label, 1.0) for label in labels]
