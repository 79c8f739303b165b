"""The interface through which training reads a stream and resumes in it."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from pipeline.errors import RunError
from pipeline.stream.batch import Batch
from pipeline.stream.plan import Plan, Position
from pipeline.stream.settings import StreamSettings


@dataclass(frozen=True)
class Update:
    """The batches of one rank between two optimizer steps, and counts of the update."""

    batches: list[Batch]
    rows: int
    """Rows of the update over all ranks."""
    padded_tokens: int
    """Tokens that this rank computes, padding included."""
    tokens: int
    """Tokens of this rank's rows, padding excluded."""
    skipped: int
    """Rows of this rank that have weight 0 because their block is damaged."""
    after: Position
    """Position of the stream once the update is consumed."""


class Updates(Protocol):
    """Updates of one rank; every rank gets the same number of them."""

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        """Yield the updates from `position` to the end of its epoch, prepared by a thread."""


class ResumableStream(ABC):
    """Updates to train on, with the position up to which the run has consumed them.

    Only consumed updates count, never prefetched ones: the trainer calls `advance` for each update
    that it has done.
    """

    settings: StreamSettings
    position = Position()
    plan: Plan | None = None
    """The exact plan of all batches, None where shuffling and resume are approximate."""

    @abstractmethod
    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        """Yield the updates from `position` to the end of its epoch, prepared by a thread."""

    @abstractmethod
    def rows_before(self, epoch: int) -> int:
        """Return the number of rows in all epochs before this one, over all ranks."""

    def remaining(self) -> Generator[Update, None, None]:
        """Yield the updates of the current epoch that are not consumed yet."""
        return self.prefetched(self.position)

    def advance(self, update: Update) -> None:
        """Record that an update is consumed."""
        self.position = update.after

    def state_dict(self) -> dict[str, Any]:
        """Return this rank's state: JSON values, and tensors by name under "tensors"."""
        return {"position": asdict(self.position), "tensors": {}}

    def merge_states(self, states: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Combine the states of all ranks, in rank order, to the state that is saved.

        It does not depend on the number of ranks, so any number of them can load it.
        """
        return states[0]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a saved state. Raises RunError if it has other keys."""
        if state.keys() != {"position", "tensors"}:
            raise RunError(
                f"the stream's state has the keys {sorted(state)}; use another checkpoint"
            )
        self.position = Position(**state["position"])
