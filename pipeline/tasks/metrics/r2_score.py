"""Coefficient of determination."""

from pipeline.tasks.base.metric import NumberMetric


class R2Score(NumberMetric):
    """Coefficient of determination. As torchmetrics' `r2_score`."""

    function = "r2_score"
