"""Cohen's kappa."""

from pipeline.tasks.base.metric import LABEL, LabelMetric


class CohenKappa(LabelMetric):
    """Cohen's kappa: agreement beyond chance. As torchmetrics' `cohen_kappa`."""

    predictions = (LABEL,)
    function = "cohen_kappa"
