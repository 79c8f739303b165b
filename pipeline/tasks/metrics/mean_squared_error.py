"""Mean squared error."""

from pipeline.tasks.base.metric import NumberMetric


class MeanSquaredError(NumberMetric):
    """Mean squared error. As torchmetrics' `mean_squared_error`."""

    function = "mean_squared_error"
    lower_is_better = True
