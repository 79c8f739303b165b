"""Recall of each label."""

from pipeline.tasks.base.metric import LabelMetric


class Recall(LabelMetric):
    """Recall of each label; mean over labels. As torchmetrics' `recall`."""

    function = "recall"
