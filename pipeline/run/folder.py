"""The folder of a run: its paths, its files, and the lock that admits one writer at a time."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RunError
from pipeline.run import checkpoint
from pipeline.storage.atomic import write_file
from pipeline.storage.locks import file_lock, release_hint

logger = logging.getLogger(__name__)

LOCK_TIMEOUT = 30.0
"""Seconds to wait for another writer: workers whose launcher was killed take a moment to end."""


class RunInUseError(RunError):
    """Another process writes to the run folder."""


class RunFolder:
    """Paths and files of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.checkpoints = path / "checkpoints"
        self.dataset = path / "dataset"
        self.metrics = path / "metrics.jsonl"
        self.summary = path / "summary.json"
        self.calibration = path / "calibration.json"
        self.report = path / "report.html"

    @contextmanager
    def lock(self, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
        """Be the only writer. The operating system releases the lock however the process ends.

        Raises RunInUseError if another process still holds it after `timeout` seconds, and RunError
        if the folder is not writable.
        """
        from filelock import Timeout

        owner = self.path / ".writer"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = file_lock(self.path / ".lock")
            lock.acquire(timeout=0)
        except Timeout:
            logger.info(
                "%s has another writer (%s); waiting up to %.0f s",
                self.path, _read_owner(owner), timeout,
            )  # fmt: skip
            try:
                lock.acquire(timeout=timeout)
            except Timeout:
                raise RunInUseError(
                    f"run.dir={self.path}: {_read_owner(owner)} writes there, and two would "
                    f"overwrite each other's checkpoints; wait for it, stop it, or set another "
                    f"run.dir{release_hint(lock)}"
                ) from None
        except OSError as error:
            raise RunError(
                f"run.dir={self.path}: is not writable ({error.strerror}); set a folder that is"
            ) from None
        try:
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()}")
            yield
        finally:
            lock.release()

    def write_files(self, config: str, manifest: str, tokenizers: Mapping[str, bytes]) -> None:
        """Write the config and what prediction needs of the dataset: the run is then complete.

        `tokenizers` are the contents of the tokenizer files by vocabulary.
        """
        self.dataset.mkdir(exist_ok=True)
        write_file(self.dataset / "dataset.json", manifest)
        for name, content in tokenizers.items():
            write_file(self.dataset / f"{name}.json", content)
        write_file(self.config, config)

    def owns(self, path: Path) -> bool:
        """Return whether a checkpoint belongs to this run, not to one that it branches off from."""
        return path.parent.resolve() == self.checkpoints.resolve()

    def best_checkpoint(self) -> Path:
        """Return the best checkpoint, or the newest if none was evaluated. Raises RunError."""
        found = checkpoint.latest_and_best(self.checkpoints)
        for name in (checkpoint.BEST, checkpoint.LATEST):
            alone = self.checkpoints / name  # copied without the folder of its step
            if name in found or (not found and alone.exists()):
                return found.get(name, alone).resolve()
        raise RunError(f"{self.path}: has no checkpoint yet; train it first")


def _read_owner(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return "another process"
