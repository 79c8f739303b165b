"""Precision of each label."""

from pipeline.tasks.base.metric import LabelMetric


class Precision(LabelMetric):
    """Precision of each label; mean over labels. As torchmetrics' `precision`."""

    function = "precision"
