"""The optimizers of a run as one: learning rates, gradient clipping, and their state."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import components
from pipeline.errors import TrainingError
from pipeline.optim.base import Algorithm
from pipeline.optim.groups import parameter_groups
from pipeline.optim.learning_rates import LearningRates
from pipeline.optim.settings import OptimizerSettings


class Optimizer:
    """Steps a model's parameters by the algorithm of `train.optimizer`."""

    def __init__(self, model: nn.Module, settings: OptimizerSettings) -> None:
        self.algorithm: Algorithm = components.load("optimizer", settings.optimizer)(settings)
        self.optimizers = self.algorithm.build(parameter_groups(model, settings))
        self.rates = LearningRates(settings)
        for group in self.groups:  # otherwise copied with the optimizer's state
            group.pop("embeddings", None)
        self.learning_rate = 0.0
        """Learning rate of the last step."""
        self._model = model
        self._max_norm = settings.max_grad_norm

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimizers."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(
        self,
        scaler: torch.amp.GradScaler,
        factor: Tensor,
        progress: float,
        epochs: float,
        before_step: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Multiply the gradients by `factor`, clip them, step, and set them to None.

        `progress` and `epochs` are those of `LearningRates.set_rates`, with the rows of this step
        included in `progress`. `before_step` is called with the factor of clipping when the
        gradients are complete. Returns the gradient norm before clipping, on the device and
        without synchronizing with it.
        """
        self.learning_rate = self.rates.set_rates(self.groups, progress, epochs)
        norm = clipped_step(
            self._model, self.optimizers, scaler, factor, self._max_norm, before_step
        )
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return norm

    def evaluated(self, loss: float) -> None:
        """Pass the validation loss of an evaluation to the algorithm and the schedule."""
        self.algorithm.evaluated(loss)
        self.rates.schedule.evaluated(loss)

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimizers' tensors by `parameter number/name`.

        The numbers continue from one optimizer to the next. Their settings are the config's.
        Raises TrainingError if a state is no tensor, because it would be lost.
        """
        found: dict[str, Tensor] = {}
        for first, optimizer in self._first_numbers():
            for number, values in optimizer.state_dict()["state"].items():
                for name, tensor in values.items():
                    if tensor is None:  # SGD without momentum
                        continue
                    if not isinstance(tensor, Tensor):
                        raise TrainingError(
                            f"{type(optimizer).__name__}: the state {name!r} of a parameter is a "
                            f"{type(tensor).__name__}, which cannot be saved; make it a tensor"
                        )
                    found[f"{first + number}/{name}"] = tensor
        return found

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the tensors that `tensors` returned.

        Raises KeyError if a tensor belongs to no parameter.
        """
        parameters = sum(map(_count, self.optimizers))
        for key in tensors:
            if int(key.partition("/")[0]) >= parameters:
                raise KeyError(f"{key} of {parameters} parameters")
        for first, optimizer in self._first_numbers():
            end = first + _count(optimizer)
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in tensors.items():
                number, _, name = key.partition("/")
                if first <= int(number) < end:
                    state.setdefault(int(number) - first, {})[name] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})

    def state_dict(self) -> dict[str, Any]:
        """Return the JSON state of the algorithm and of the schedule."""
        schedule = self.rates.schedule.state_dict()
        return {"algorithm": self.algorithm.state_dict(), "schedule": schedule}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; called after `load_tensors`."""
        if state.get("algorithm"):
            self.algorithm.load_state_dict(state["algorithm"])
        if state.get("schedule"):
            self.rates.schedule.load_state_dict(state["schedule"])

    def _first_numbers(self) -> list[tuple[int, torch.optim.Optimizer]]:
        """Return each optimizer with the number of its first parameter."""
        pairs, first = [], 0
        for optimizer in self.optimizers:
            pairs.append((first, optimizer))
            first += _count(optimizer)
        return pairs


def _count(optimizer: torch.optim.Optimizer) -> int:
    return sum(len(group["params"]) for group in optimizer.param_groups)


def clipped_step(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    factor: Tensor,
    max_norm: float,
    before_step: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Multiply the gradients by `factor`, clip them to `max_norm` (0: no clipping) and step.

    Gradients of frozen groups are dropped first: they do not count in the norm, and the optimizers
    create no state for them. In fp16, the scaler skips a step whose gradients overflowed.
    `before_step` is called with the factor of clipping before the optimizers step.

    Returns the gradient norm before clipping, on the device and without synchronizing with it.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"] if group["frozen"] else ():
                parameter.grad = None
    active = [o for o in optimizers if any(p.grad is not None for p in _parameters(o))]
    for optimizer in active:
        scaler.unscale_(optimizer)
    if scaler.is_enabled() and len(active) > 1:
        _share_overflows(active, scaler)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients) * factor
    clip_factor = (max_norm / (norm + 1e-6)).clamp(max=1.0) if max_norm else None
    torch._foreach_mul_(gradients, factor if clip_factor is None else factor * clip_factor)
    if before_step is not None:
        before_step(torch.ones_like(norm) if clip_factor is None else clip_factor)
    for optimizer in active:
        scaler.step(optimizer)
    scaler.update()
    return norm


def _share_overflows(
    optimizers: Sequence[torch.optim.Optimizer], scaler: torch.amp.GradScaler
) -> None:
    """Make all optimizers skip the step if the gradients of one of them overflowed."""
    states = [scaler._per_optimizer_states[id(o)]["found_inf_per_device"] for o in optimizers]
    for device in {device for state in states for device in state}:
        found = torch.stack([state[device] for state in states if device in state]).amax(0)
        for state in states:
            if device in state:
                state[device].copy_(found)


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]
