"""Area under the ROC curve of each label against all others."""

from pipeline.tasks.base.metric import LabelMetric


class Auroc(LabelMetric):
    """Area under the ROC curve of each label against all others; mean over labels.

    As torchmetrics' `auroc`.
    """

    function, ranks_rows = "auroc", True
