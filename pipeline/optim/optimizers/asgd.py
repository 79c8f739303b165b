"""Averaged stochastic gradient descent with a trigger."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pipeline.optim.base import Algorithm
from pipeline.optim.settings import OptimizerSettings
from pipeline.settings import Conflict, Sections, setting

NEVER = 10**9
"""Number of an update that no run reaches."""


class ASGD(Algorithm):
    """NT-ASGD (Merity et al. 2018): SGD, whose weights are averaged since a trigger.

    The average begins when the validation loss is worse than the best one before the last
    `asgd_patience` evaluations. torch.optim.ASGD computes it (Polyak and Juditsky 1992); its
    learning rate is that of the schedule (lambd = alpha = 0), one update late. The averaged weights
    are evaluated and saved.
    """

    class Settings(OptimizerSettings):
        asgd_patience: int = setting(
            5,
            "evaluations without a better loss until the weights are averaged; 0: from the start",
            ge=0,
        )

    settings: Settings
    has_average = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._losses: list[float] = []
        self._begin = NEVER if settings.asgd_patience else 0
        self._optimizer: torch.optim.ASGD | None = None

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        if config.train.unfreeze:
            yield Conflict(
                "train.unfreeze",
                "asgd would average layers that train later for a shorter time",
                "set 0, or another train.optimizer",
            )

    def build(self, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        on_gpu = groups[0]["params"][0].is_cuda
        self._optimizer = torch.optim.ASGD(
            groups, lr=self.settings.lr, lambd=0.0, alpha=0.0, t0=self._begin,
            capturable=on_gpu,  # otherwise each update would wait for the GPU
        )  # fmt: skip
        return [self._optimizer]

    def evaluated(self, loss: float) -> None:
        earlier = self._losses[: -self.settings.asgd_patience or None]
        self._losses.append(loss)
        if self._begin == NEVER and earlier and loss > min(earlier):
            self._set_begin(self._updates())

    def averaged(self) -> dict[Tensor, Tensor]:
        assert self._optimizer is not None
        state = self._optimizer.state
        return {parameter: values["ax"] for parameter, values in state.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self._losses, "begin": self._begin}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._losses = list(state["losses"])
        self._set_begin(int(state["begin"]))

    def _set_begin(self, update: int) -> None:
        assert self._optimizer is not None
        self._begin = update
        for group in self._optimizer.param_groups:
            group["t0"] = update

    def _updates(self) -> int:
        assert self._optimizer is not None
        steps = [int(values["step"]) for values in self._optimizer.state.values()]
        return max(steps, default=0)
