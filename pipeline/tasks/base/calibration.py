"""Calibration: the temperature of probabilities and the thresholds of labels.

The values are fitted on the validation split after training (`pipeline.evaluation.calibration`).

Shapes: B rows, C labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

DEFAULT_THRESHOLD = 0.5
TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Calibration:
    """How a task reads the model's outputs. The default values change nothing."""

    temperature: float = 1.0
    """Divisor of the logits of one label per row; above 1, probabilities are less extreme."""
    threshold: float = DEFAULT_THRESHOLD
    """Of several labels per row, those with at least this probability are predicted."""
    label_thresholds: Mapping[str, float] = field(default_factory=dict)
    """Thresholds of labels that have their own, by name."""

    def thresholds(self, labels: Sequence[str]) -> Tensor:
        """Return the threshold of each label, float64 [C]."""
        values = [self.label_thresholds.get(name, self.threshold) for name in labels]
        return torch.tensor(values, dtype=torch.float64)


NO_CALIBRATION = Calibration()


def with_temperature(probabilities: Tensor, temperature: float) -> Tensor:
    """Return the softmax of logits / temperature, given the softmax of the logits [B, C], float64.

    The probabilities of a document of several rows are a mean of softmaxes; their logarithms are
    its logits here.
    """
    if temperature == 1:
        return probabilities
    return (probabilities.clamp_min(TINY).log() / temperature).softmax(-1)


def centered(probabilities: Tensor, thresholds: Tensor) -> Tensor:
    """Rescale probabilities [B, C] so that each label's threshold [C] becomes 0.5.

    The order of a label's rows stays the same. Metrics that know only the threshold 0.5, such as
    those of torchmetrics, are then metrics of the predicted labels.
    """
    if bool((thresholds == DEFAULT_THRESHOLD).all()):
        return probabilities
    below = 0.5 * probabilities / thresholds
    above = 0.5 + 0.5 * (probabilities - thresholds) / (1 - thresholds).clamp_min(TINY)
    return torch.where(probabilities < thresholds, below, above.clamp_max(1.0))
