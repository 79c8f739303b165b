"""Mean absolute error."""

from pipeline.tasks.base.metric import NumberMetric


class MeanAbsoluteError(NumberMetric):
    """Mean absolute error. As torchmetrics' `mean_absolute_error`."""

    function = "mean_absolute_error"
    lower_is_better = True
