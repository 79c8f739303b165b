"""Finds and deletes the files of a run folder that only training needs."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RunError
from pipeline.run import checkpoint
from pipeline.run.folder import RunFolder


@dataclass(frozen=True)
class Deletable:
    """A file or folder that may be deleted."""

    path: Path
    reason: str
    bytes: int


def deletable(folder: RunFolder) -> list[Deletable]:
    """Return the files and folders of a run that may be deleted.

    The best checkpoint keeps its weights, so prediction, evaluation, export and the report still
    work. Training cannot resume. Raises RunError if the best checkpoint is missing or damaged.
    """
    best = folder.best_checkpoint()
    if reason := checkpoint.damage(best):
        raise RunError(
            f"{best}: the best checkpoint is damaged ({reason}), so nothing is deleted; restore it "
            "from a backup, or delete the run"
        )
    return [Deletable(path, reason, size_of(path)) for path, reason in _found(folder, best)]


def delete(folder: RunFolder) -> list[Deletable]:
    """Delete the files and folders that `deletable` returns, and return the list.

    Raises RunError if another process writes to the run, or if a file cannot be deleted.
    """
    with folder.lock(timeout=0):
        found = deletable(folder)
        best = folder.best_checkpoint()
        for item in found:
            try:
                if item.path.is_dir():
                    shutil.rmtree(item.path)
                else:
                    item.path.unlink()
            except OSError as error:
                raise RunError(
                    f"{item.path}: cannot be deleted ({error.strerror}), but the run can still "
                    "predict; make the folder writable, and run the same command again"
                ) from None
        if best.name not in checkpoint.LINKS:
            checkpoint.update_links(best)
    return found


def size_of(path: Path) -> int:
    """Return the size in bytes of a file or of all files in a folder. Links are not followed."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.lstat().st_size for f in files if f.is_symlink() or f.is_file())


def _found(folder: RunFolder, best: Path) -> Iterator[tuple[Path, str]]:
    """Yield each path with the reason why it may be deleted; the best checkpoint comes last."""
    for path in sorted(folder.checkpoints.iterdir()):
        if path.is_symlink() or path == best or path.resolve() == best:
            continue
        if path.name.startswith(checkpoint.DAMAGED):
            yield path, "damaged checkpoint"
        elif path.name.startswith(".step-"):
            yield path, "incomplete checkpoint of a process that was killed"
        elif path.name.startswith("step-"):
            yield path, "checkpoint that is not the best"
        elif path.name in checkpoint.LINKS:
            yield path, "copy of a checkpoint"
    training = best / checkpoint.TRAINING
    if training.is_file():
        yield training, "needed only to resume training"
