"""Spearman correlation coefficient."""

import warnings

from torch import Tensor

from pipeline.tasks.base.metric import NUMBER, Metric


class SpearmanCorrcoef(Metric):
    """Pearson correlation coefficient of the ranks; equal numbers share their mean rank.

    As torchmetrics' `spearman_corrcoef`, but computed by SciPy: torchmetrics 1.9 adds ranks as
    32-bit integers, which overflow from about 65,000 rows with equal numbers on.
    """

    predictions = (NUMBER,)
    libraries = ("scipy",)

    def compute(self, predictions: Tensor, targets: Tensor) -> float:
        from scipy.stats import spearmanr

        with warnings.catch_warnings(action="ignore"):  # NaN for constant numbers is expected
            return float(spearmanr(predictions.numpy(), targets.numpy()).statistic)
