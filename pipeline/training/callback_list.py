"""The callbacks of a run, and the view of the trainer that they get."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline import components
from pipeline.errors import RunError, TrainingError
from pipeline.runtime.process_group import World
from pipeline.training.callback import Callback, Run
from pipeline.training.settings import TrainSettings

if TYPE_CHECKING:
    from pipeline.training.trainer import Trainer


class CallbackList:
    """The callbacks of a run, in the order of `train.callbacks`; false if there are none."""

    def __init__(self, settings: TrainSettings) -> None:
        """Raises TrainingError if a callback cannot be made."""
        self._callbacks: dict[str, Callback] = {}
        for name in settings.callbacks:
            with _errors(name):
                self._callbacks[name] = components.load("callback", name)(settings)
        self.has_before_step = self._override("before_step")
        self.has_updated = self._override("updated")
        self.has_evaluated = self._override("evaluated")
        self.asked_to_stop = ""
        """The reason why a callback of this rank wants to end the run."""
        self.stop_reason = ""
        """The reason why all ranks end the run; it is saved with the callbacks' states."""

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def call(self, moment: str, run: Run, *arguments: Any) -> None:
        """Call a method of all callbacks. Raises TrainingError for an exception in one of them."""
        for name, callback in self._callbacks.items():
            with _errors(name, f"step {run.step}: "):
                getattr(callback, moment)(run, *arguments)

    def agree_to_stop(self, world: World, *, signaled: bool) -> bool:
        """Set the same `stop_reason` on all ranks, and return whether a signal stops the run.

        All ranks call it after the same update. `signaled` is whether this rank got a signal.
        """
        if not self:
            return True
        wishes = world.gather((signaled, self.asked_to_stop))
        reasons = [reason for _, reason in wishes if reason]
        self.stop_reason = self.stop_reason or "".join(reasons[:1])
        return any(signaled for signaled, _ in wishes)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all callbacks. Raises TrainingError if one is not JSON."""
        states: dict[str, Any] = {}
        for name, callback in self._callbacks.items():
            with _errors(name):
                states[name] = json.loads(json.dumps(callback.state_dict()))
        return {"states": states, "stop_reason": self.stop_reason}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore the states that `state_dict` returned; a callback without one keeps its own.

        Raises RunError if a callback cannot restore its state.
        """
        self.stop_reason = saved.get("stop_reason", "")
        for name, callback in self._callbacks.items():
            if name in saved.get("states", {}):
                try:
                    callback.load_state_dict(saved["states"][name])
                except Exception as error:
                    raise RunError(
                        f"train.callbacks: {name} cannot restore its state: "
                        f"{components.describe(error)}; fix it"
                    ) from error

    def _override(self, moment: str) -> bool:
        base = getattr(Callback, moment)
        return any(getattr(type(c), moment) is not base for c in self._callbacks.values())


class TrainerRun:
    """The view of a trainer that callbacks get."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.model, self.optimizer = trainer.model, trainer.optimizer

    @property
    def step(self) -> int:
        return self._trainer.state.step

    @property
    def epoch(self) -> float:
        return self._trainer.state.rows / self._trainer.stream.rows_before(1)

    @property
    def rank(self) -> int:
        return self._trainer.world.rank

    @property
    def first(self) -> bool:
        return self._trainer.world.first

    def log(self, metrics: Mapping[str, float]) -> None:
        if self._trainer.listener:
            self._trainer.listener.log(self.step, metrics)

    def stop(self, reason: str) -> None:
        callbacks = self._trainer.callbacks
        callbacks.asked_to_stop = callbacks.asked_to_stop or reason or "no reason given"


@contextmanager
def _errors(name: str, place: str = "") -> Iterator[None]:
    """Raise TrainingError with one line for an exception in the block."""
    try:
        yield
    except Exception as error:
        line = TrainingError(
            f"{place}train.callbacks: {name}: {components.describe(error)}; fix it"
        )
        line.local = True  # perhaps on this rank only
        raise line from error
