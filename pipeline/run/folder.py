"""The folder of a run: its config, its checkpoints, its metrics, and one writer at a time."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline import config as config_file
from pipeline.config import Config
from pipeline.corpus.dataset.manifest import Manifest, read_manifest
from pipeline.errors import ConfigError, RunError
from pipeline.run import checkpoint
from pipeline.settings import changed_keys

WAIT = 30.0
"""Seconds to wait for another writer: workers whose launcher was killed take a moment to end."""


class RunFolder:
    """Paths and files of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.checkpoints = path / "checkpoints"
        self.dataset = path / "dataset"
        self.metrics = path / "metrics.jsonl"
        self.summary = path / "summary.json"

    @contextmanager
    def writing(self, say: Callable[[str], None], wait: float = WAIT) -> Iterator[None]:
        """Be the only writer. The lock goes with the process that holds it, however it ends.

        Raises RunError if another one still writes after `wait` seconds.
        """
        lock, owner = FileLock(self.path / ".lock"), self.path / ".writer"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{self.path} has another writer ({_read(owner)}); waiting up to {wait:.0f} s")
            try:
                lock.acquire(timeout=wait)
            except Timeout:
                raise RunError(
                    f"run.dir={self.path}: {_read(owner)} writes there, and two would overwrite "
                    f"each other's checkpoints; wait for it, stop it, or give another run.dir"
                ) from None
        except OSError as error:
            raise RunError(
                f"run.dir={self.path}: cannot be written to ({error.strerror}); give a folder that "
                f"can"
            ) from None
        try:
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()}")
            yield
        finally:
            lock.release()

    def begin(
        self,
        config: Config,
        manifest: Manifest,
        tokenizers: Mapping[str, bytes],
        resume: str,
        say: Callable[[str], None],
    ) -> Path | None:
        """The checkpoint that `resume` (as `train.resume`) means, or None to begin at step 0.

        The folder then holds the config, and what prediction needs of the dataset, so that it
        stands alone. Raises RunError, and writes nothing, if the checkpoint is of a run of another
        dataset or other settings, each of which is named.
        """
        path = self._checkpoint(resume, say)
        if path is not None:
            RunFolder(path.parents[1])._check_goes_on(config, manifest)
            if self.owns(path):
                checkpoint.point_to(path)
        self.dataset.mkdir(exist_ok=True)
        write_text(self.dataset / "dataset.json", manifest.to_text())
        for name, data in tokenizers.items():
            write_text(self.dataset / f"{name}.json", data.decode())
        write_text(self.config, config_file.dump(config))
        return path

    def owns(self, path: Path) -> bool:
        """Whether a checkpoint is of this run, and not of one that this one branches off from."""
        return path.parent.resolve() == self.checkpoints.resolve()

    def _check_goes_on(self, config: Config, manifest: Manifest) -> None:
        lines = [
            f"{key}={new!r}: the run in {self.path} has {before!r}, and would not go on as it "
            f"began; set it back, or start anew in another run.dir"
            for key, (before, new) in changed_keys(self.read_config(), config).items()
        ]
        if read_manifest(self.dataset).fingerprint != manifest.fingerprint:
            lines.append(
                f"{manifest.location}: not the dataset that the run in "
                f"{self.path} began with, and its tokens may mean other words; restore that, or "
                f"start anew in another run.dir"
            )
        if lines:
            raise RunError(lines)

    def read_config(self, overrides: Sequence[str] = ()) -> Config:
        """The config of an existing run."""
        if not self.config.exists():
            raise RunError(f"{self.path}: not the folder of a run, it has no config.yaml")
        try:
            config = config_file.load(self.config)
        except ConfigError as error:
            raise RunError(
                [
                    f"{self.config}: {line}; was it written by another version?"
                    for line in error.lines
                ]
            ) from None
        return config_file.load(self.config, overrides) if overrides else config

    def _checkpoint(self, resume: str, say: Callable[[str], None]) -> Path | None:
        path, damaged = checkpoint.newest(self.checkpoints)
        for line in damaged:
            say(f"{line}; going on from {path}")
        if resume == "auto":
            return path
        if resume == "never":
            if path is None:
                return None
            raise RunError(
                f"train.resume=never: {self.path} holds {path.name}, which a new run would mix "
                f"with; remove the folder, or give another run.dir"
            )
        chosen = Path(resume).resolve()
        if reason := checkpoint.damage(chosen):
            raise RunError(f"train.resume={resume}: not a whole checkpoint: {reason}")
        if path is not None and path.resolve() != chosen:
            raise RunError(
                f"train.resume={resume}: {self.path} holds {path.name}, which would be overtaken; "
                f"set train.resume=auto to go on from it, or give another run.dir to branch off"
            )
        return chosen

    def best(self) -> Path:
        """The checkpoint to use: the best, or the newest where none was evaluated yet."""
        for name in ("best", "latest"):
            if (self.checkpoints / name).exists():
                return (self.checkpoints / name).resolve()
        raise RunError(f"{self.path}: has no checkpoint yet; train it first")


def write_text(path: Path, text: str) -> None:
    """Replace a file at once."""
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return "another process"
