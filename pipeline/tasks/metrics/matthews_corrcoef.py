"""Matthews correlation coefficient."""

from pipeline.tasks.base.metric import LabelMetric


class MatthewsCorrcoef(LabelMetric):
    """Matthews correlation coefficient. As torchmetrics' `matthews_corrcoef`."""

    function = "matthews_corrcoef"
