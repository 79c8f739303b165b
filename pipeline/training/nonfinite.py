"""Finds the recurrent layer whose states are not finite."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.layers.recurrent import Layer


class NonfiniteDetector:
    """Counts, for each recurrent layer, the batches after which a state is not finite.

    Only the last state of each row is checked, a few numbers: not-a-number persists to the end of
    its row. Nothing here waits for the device.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        layers = {n: m for n, m in model.named_modules() if isinstance(m, Layer)}
        self.names = list(layers)
        self._counts = torch.zeros(len(layers), dtype=torch.float64, device=device)
        for number, layer in enumerate(layers.values()):
            layer.register_forward_hook(self._count(number))

    def take(self) -> Tensor:
        """Return the counts [layers] since the last call."""
        counts = self._counts.clone()
        self._counts.zero_()
        return counts

    def first_layer(self, counts: list[float]) -> str:
        """Return the name of the first layer with a count, or an empty string."""
        return next((name for name, n in zip(self.names, counts, strict=True) if n), "")

    def _count(self, number: int) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: Any, outputs: Any) -> None:
            if layer.training:
                self._counts[number] += ~outputs[1].h.detach().isfinite().all()

        return hook
