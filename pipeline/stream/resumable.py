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
    """One rank's batches for one optimizer step, or for a part of an evaluation, with counts."""

    batches: list[Batch]
    rows: int
    """Rows of the update, summed over all ranks, without padding rows."""
    padded_tokens: int
    """Tokens of this rank's batches, padding included."""
    tokens: int
    """Tokens of this rank's rows, padding excluded."""
    skipped: int
    """Rows of this rank that have weight 0 because their block of the shard is damaged."""
    after: Position
    """Position of the stream once the update is consumed."""


class Updates(Protocol):
    """A source of updates, such as a validation set; every rank gets the same number of them."""

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        """Yield the updates from `position` to the end of its epoch, read by another thread."""


class ResumableStream(ABC):
    """A source of training updates that records how many the run has consumed.

    Prefetched updates do not count: the trainer calls `advance` after each update.
    """

    settings: StreamSettings
    position: Position = Position()
    """Position after the last consumed update."""
    plan: Plan | None = None
    """The plan of all batches; None for unprepared data, which is shuffled approximately."""

    @abstractmethod
    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        """Yield the updates from `position` to the end of its epoch, read by another thread."""

    @abstractmethod
    def rows_before(self, epoch: int) -> int:
        """Return the number of rows in all epochs before this one, over all ranks."""

    def updates_per_epoch(self) -> tuple[int, bool]:
        """Return the number of updates of an epoch, and whether it is exact.

        Epochs may differ by a few updates, as their batches do.
        """
        assert self.plan, "a stream without a plan counts its own updates"
        return self.plan.count_updates()

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
        """Combine the states of all ranks, in rank order, into the one that is saved.

        Any number of ranks can load the result. By default all ranks have the same state.
        """
        return states[0]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a saved state. Raises RunError if it has other keys."""
        if state.keys() != {"position", "tensors"}:
            raise RunError(
                f"the stream's state in the checkpoint has the keys {sorted(state)}, expected "
                f"['position', 'tensors']; use another checkpoint"
            )
        self.position = Position(**state["position"])
