"""Area under the precision-recall curve of each label."""

from pipeline.tasks.base.metric import LabelMetric


class AveragePrecision(LabelMetric):
    """Area under the precision-recall curve of each label; mean over labels.

    As torchmetrics' `average_precision`.
    """

    function, ranks_rows = "average_precision", True
