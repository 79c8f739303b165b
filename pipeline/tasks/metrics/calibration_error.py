"""Expected calibration error of the most likely label, in 15 bins."""

from pipeline.tasks.base.metric import LABEL, LabelMetric


class CalibrationError(LabelMetric):
    """Expected calibration error of the most likely label, in 15 bins.

    As torchmetrics' `calibration_error`.
    """

    predictions = (LABEL,)
    function = "calibration_error"
    lower_is_better = True
