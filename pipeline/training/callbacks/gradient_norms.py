"""Gradient norms by module."""

from collections import defaultdict

import torch
from torch import Tensor

from pipeline.training.callback import Callback, Run


class GradientNorms(Callback):
    """Logs the L2 norm of each top-level module's gradients, before clipping, as grad_norm/NAME.

    It does so every `train.log_every` updates.
    """

    def before_step(self, run: Run, clip_factor: Tensor) -> None:
        if not run.first or run.step % self.settings.log_every:
            return
        gradients = defaultdict(list)
        for name, parameter in run.model.named_parameters():
            if parameter.grad is not None:
                gradients[name.partition(".")[0]].append(parameter.grad)
        norms = [torch.nn.utils.get_total_norm(group) for group in gradients.values()]
        values = (torch.stack(norms) / clip_factor).tolist() if norms else []
        run.log({f"grad_norm/{n}": value for n, value in zip(gradients, values, strict=True)})
