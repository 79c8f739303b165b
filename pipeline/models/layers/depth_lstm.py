"""The LSTM along depth of a grid (see `pipeline.models.encoders.grid`).

Shapes: H hidden units, W features of the other dimensions' states.
"""

import torch
from torch import Tensor, nn

from pipeline.models.cells.grid_lstm import GridLstm
from pipeline.models.layers.recurrent import Layer, LayerState


class DepthLSTM(nn.Module):
    """The LSTM along depth of one layer, which takes one step for all tokens at once."""

    def __init__(self, inputs: int, settings: GridLstm.Settings) -> None:
        super().__init__()
        depth_settings = settings.model_copy(update={"zoneout": 0.0, "zoneout_memory": 0.0})
        self.layer = Layer(inputs, depth_settings, bidirectional=False, cell="lstm")

    def forward(self, inputs: Tensor, h: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Compute this layer's h and memory from those of the layer below, all [..., H].

        `inputs` [..., W] are the concatenated states of the other dimensions. The LSTM sees each
        token as a row of its own, of length 1.
        """
        ones = torch.ones(h.shape[:-1], dtype=torch.int64, device=h.device).flatten()
        below = LayerState(*(x.reshape(1, len(ones), h.shape[-1]) for x in (h, memory)))
        out, state = self.layer(inputs.reshape(1, len(ones), inputs.shape[-1]), ones, ones, below)
        return out.view_as(h), state.c.view_as(memory)
