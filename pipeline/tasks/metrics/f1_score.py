"""F1 of each label."""

from pipeline.tasks.base.metric import LabelMetric


class F1Score(LabelMetric):
    """F1 of each label; mean over labels. As torchmetrics' `f1_score`."""

    function = "f1_score"
