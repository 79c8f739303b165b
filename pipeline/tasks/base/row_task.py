"""Tasks with a vector of outputs and a loss per row.

Shapes: B rows of a batch, F outputs of a row.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.stream.batch import Batch
from pipeline.tasks.base.task import MAX_MISTAKES, Evaluation, Mistake, Task


class RowTask(Task):
    """A task whose loss is a sum over rows, such as regression.

    A subclass defines `fields`, `build`, `forward`, `row_losses` and `predict`, and `scored` for
    metrics. Of a document that was split into several rows, the outputs are averaged, weighted by
    the rows' tokens.
    """

    sum_names = ("loss", "rows")

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the model's outputs [B, F], at least in float32."""

    @abstractmethod
    def row_losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the loss of each row [B], given outputs [B, F]."""

    def details(self, outputs: Tensor, batch: Batch, row: int) -> dict[str, Any]:
        """Return what to display about a row whose loss is large, besides its text."""
        return {}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        losses = self.row_losses(self.forward(model, batch), batch) * batch.weights
        return torch.stack([losses.sum(), batch.weights.sum()])

    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        loss, rows = sums
        return {"loss": loss / rows}

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.forward(model, batch).double()

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """Return sums [2], the loss and the number of rows, and the rows with the largest loss."""
        weights = batch.weights.double()
        losses = self.row_losses(outputs, batch).double() * weights
        worst = losses.topk(min(MAX_MISTAKES, int(weights.sum()))).indices.tolist()
        tokens = batch.columns.get("tokens")
        mistakes = [
            Mistake(
                losses[row].item(),
                [] if tokens is None else tokens[row, : batch.lengths[row]].tolist(),
                self.details(outputs, batch, row),
            )
            for row in worst
        ]
        return torch.stack([losses.sum(), weights.sum()]), mistakes

    def summarize(self, sums: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        loss, rows = sums.tolist()
        return Evaluation({"examples": int(rows), "loss": loss / rows})
