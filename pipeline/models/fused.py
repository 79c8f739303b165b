"""PyTorch's fused recurrent layers: cuDNN on a GPU; on a CPU oneDNN (LSTM) or ATen.

Shapes: T tokens of the longest row, B rows, I input features, H hidden units, G gates of the cell.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

MAX_STEPS = MAX_ROWS = 65_535
"""cuDNN's recurrent layers fail on more time steps or rows (PyTorch issue 133751)."""


def run_fused_layer(
    function: Callable[..., Any], x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
) -> list[Tensor]:
    """Run torch.lstm, torch.gru, torch.rnn_tanh or torch.rnn_relu with one layer and direction.

    Takes x [T, B, I], the initial states [B, H] (h, and c for torch.lstm) and the weights [G*H, I],
    [G*H, H] with two biases [G*H]. Returns the hidden states [T, B, H], then the final states
    [B, H].

    Everything is computed in the data type of x. Autocast is off inside: it would cast the inputs
    of cuDNN's layers to float16 even if bfloat16 was requested. cuDNN needs contiguous states.
    """
    with torch.autocast(x.device.type, enabled=False):
        cast = [weight.to(x.dtype) for weight in weights]
        blocks = []
        for first in range(0, max(x.shape[1], 1), MAX_ROWS):
            rows = slice(first, first + MAX_ROWS)
            own_states = [state[rows].to(x.dtype).contiguous() for state in states]
            blocks.append(_run_rows(function, x[:, rows], own_states, cast))
        if len(blocks) == 1:
            return blocks[0]
        y, *final = zip(*blocks, strict=True)
        return [torch.cat(y, 1), *map(torch.cat, final)]


def _run_rows(
    function: Callable[..., Any], x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
) -> list[Tensor]:
    """Run at most MAX_ROWS rows; arguments and results are those of `run_fused_layer`."""
    outputs, train = [], torch.is_grad_enabled()
    for tokens in x.split(MAX_STEPS):
        hx = tuple(state[None] for state in states)
        y, *final = function(
            tokens, hx if len(hx) > 1 else hx[0], weights, True, 1, 0.0, train, False, False
        )
        outputs.append(y)
        states = [state[0] for state in final]
    return [outputs[0] if len(outputs) == 1 else torch.cat(outputs), *states]
