"""Pearson correlation coefficient."""

from pipeline.tasks.base.metric import NumberMetric


class PearsonCorrcoef(NumberMetric):
    """Pearson correlation coefficient. As torchmetrics' `pearson_corrcoef`."""

    function = "pearson_corrcoef"
