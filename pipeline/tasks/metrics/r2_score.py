"""Coefficient of determination."""

import math

from torch import Tensor

from pipeline.tasks.base.metric import NUMBER, Metric


class R2Score(Metric):
    """1 - sum of squared errors / sum of squared differences from the mean; NaN if these are 0.

    As torchmetrics' `r2_score`, but for numbers of any scale: torchmetrics 1.9 takes sums of
    squares that differ by less than 1e-4 for equal, and raises for a single row.
    """

    predictions = (NUMBER,)

    def compute(self, predictions: Tensor, targets: Tensor) -> float:
        errors = (targets - predictions).square().sum()
        total = (targets - targets.mean()).square().sum()
        return float(1 - errors / total) if total else math.nan
