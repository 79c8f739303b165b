"""Calibration, and a metric by document length, for reports.

Calibration compares the probability of predictions with their accuracy, in bins of equal width (Guo
et al. 2017, "On Calibration of Modern Neural Networks"). The metric by length is a mean over the
documents of similar length.

Shapes: B rows of a batch, C labels, N predictions.
"""

import torch
from torch import Tensor

from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.tasks.base.metric import LABEL, LABELS, NUMBER
from pipeline.tasks.base.task import CalibrationBin, LengthBin, Task

CALIBRATION_BINS = 10
LENGTH_BINS = 17
"""Bins of 1, 2 to 3, 4 to 7, ... tokens; the last one has all longer documents."""
METRICS = {LABEL: "accuracy", LABELS: "accuracy", NUMBER: "absolute error"}
"""Metric that is reported by length, for each value of `Task.predicts`."""


class Diagnostics:
    """Collects the documents of an evaluation in bins of probability and of length."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.length_metric = METRICS.get(task.predicts, task.row_metric)
        """Name of the metric by length; empty if there is none."""
        # Per bin: number, sum of probabilities, number of correct predictions.
        self._calibration = torch.zeros(CALIBRATION_BINS, 3, dtype=torch.float64)
        # Per bin: number of documents, sum of their values.
        self._lengths = torch.zeros(LENGTH_BINS, 2, dtype=torch.float64)

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Add the documents of a batch on the CPU, with the task's outputs."""
        if not self.length_metric:
            return
        rows = batch.weights > 0
        if self._task.predicts:
            values = self._score(*self._task.scored(outputs, batch), rows)
        else:
            values = self._task.row_values(outputs, batch)
        length_bins = batch.lengths[rows].double().log2().long().clamp(max=LENGTH_BINS - 1)
        _add(self._lengths, length_bins, [values[rows].double()])

    def _score(self, predictions: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Return the metric of each row [B]; add its probabilities to the calibration."""
        if self._task.predicts == NUMBER:
            return (predictions - targets).abs()
        if self._task.predicts == LABEL:
            confidence, predicted = predictions.max(-1)
            correct = predicted == targets
            self._add_calibration(confidence[rows], correct[rows])
            return correct
        labels = predictions.shape[1]
        correct = (predictions >= 0.5) == (targets[:, :labels] > 0)  # [B, C]
        confidence = torch.maximum(predictions, 1 - predictions)
        self._add_calibration(confidence[rows].flatten(), correct[rows].flatten())
        return correct.all(1) & ~(targets[:, labels:] > 0).any(1)

    def _add_calibration(self, confidence: Tensor, correct: Tensor) -> None:
        bins = (confidence * CALIBRATION_BINS).long().clamp(0, CALIBRATION_BINS - 1)
        _add(self._calibration, bins, [confidence.double(), correct.double()])

    def bins(self, world: World) -> tuple[list[CalibrationBin], list[LengthBin]]:
        """Return the bins that are not empty, over all ranks. Collective: every rank calls it."""
        parts = torch.cat([self._calibration.flatten(), self._lengths.flatten()])
        total = world.sum(parts.to(world.device)).cpu()
        calibration = total[: self._calibration.numel()].view_as(self._calibration).tolist()
        lengths = total[self._calibration.numel() :].view_as(self._lengths).tolist()
        return (
            [
                CalibrationBin(
                    number / CALIBRATION_BINS,
                    (number + 1) / CALIBRATION_BINS,
                    int(count),
                    confidence / count,
                    correct / count,
                )
                for number, (count, confidence, correct) in enumerate(calibration)
                if count
            ],
            [
                LengthBin(2**number, 2 ** (number + 1) - 1, int(count), value / count)
                for number, (count, value) in enumerate(lengths)
                if count
            ],
        )


def _add(totals: Tensor, bins: Tensor, values: list[Tensor]) -> None:
    """Add N values [N] each to the totals of their bins [N], and count them."""
    totals.index_add_(0, bins, torch.stack([torch.ones(len(bins)).double(), *values], 1))
