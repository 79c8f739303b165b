"""The checkpoint format: complete folders of safetensors and JSON that are verified when read.

A checkpoint is a folder `step-00000200`:
  model.safetensors     the weights to use (the EMA weights if there are any)
  training.safetensors  optimizer moments, and all other tensors that only training needs
  state.json            format version, counters, and values that must match for a run to resume
  evaluated.json        state.json after the evaluation of this step, if one was due; a run that is
                        stopped before this file is written evaluates when it resumes
  code/, code.json      copies of a user's components, if there are any (see `code.py`)
  MANIFEST.json         SHA-256 of all other files except evaluated.json
Nothing in it is executed when it is read. It appears by one rename. The newest one is the latest,
and its counters have the step of the best one. The links `latest` and `best` are for convenience:
they may be missing on some file systems, and be folders in a copy.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.components import Source
from pipeline.errors import RunError
from pipeline.run import code
from pipeline.storage.atomic import replace_link, replaced, sha256_of, sync_path, write_file

FORMAT = 4
LATEST, BEST = LINKS = ("latest", "best")
EVALUATED = "evaluated.json"
DAMAGED = "damaged-"
"""Prefix of a checkpoint that is damaged and newer than the one that a run resumed from."""
STATE_ERRORS = (OSError, ValueError, KeyError, TypeError)
"""Errors of a damaged `state.json`."""
MODEL, TRAINING, STATE = FILES = ("model.safetensors", "training.safetensors", "state.json")

logger = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """Counters of a run, saved in its checkpoints."""

    step: int = 0
    """Updates done."""
    rows: int = 0
    """Rows consumed, skipped rows included."""
    skipped: int = 0
    """Rows that had weight 0 because their block is damaged."""
    schedule_rows: int = 0
    """Rows of the updates that the loss scaler did not skip; the learning rate follows these."""
    tokens: int = 0
    """Tokens consumed, padding excluded."""
    seconds: float = 0.0
    """Training time, evaluation and saving excluded."""
    best: float | None = None
    """Best value of the task's metric so far, with the loss of that evaluation and its step."""
    best_loss: float = 0.0
    best_step: int = 0
    stale: int = 0
    """Evaluations since the best one."""
    before_end: dict[str, Any] | None = None
    """`best`, `best_loss`, `best_step` and `stale` before the evaluation at the end of the run, if
    it is the best one and was due only because the run ended; an extended run restores them."""
    since_log: list[float] = field(default_factory=list)
    """The task's sums over the updates since metrics were last logged."""
    precision: str = ""
    """Precision that the run computes in, such as bf16."""
    evaluation_due: bool = False
    """Whether the validation split has yet to be evaluated at this step."""

    @property
    def kept_steps(self) -> set[int]:
        """Steps whose checkpoints must not be removed."""
        return {self.best_step, (self.before_end or {}).get("best_step", self.best_step)}


ADDED_KEYS = {"before_end", "evaluation_due"}
"""Keys that checkpoints of earlier versions do not have, and which have defaults."""


@dataclass
class Checkpoint:
    """The content of a checkpoint."""

    weights: dict[str, Tensor]
    """Weights to use, by parameter name."""
    training: dict[str, Tensor]
    """Tensors that only training needs, by name."""
    state: TrainingState
    components: dict[str, Any]
    """JSON state of the stream, the loss scaler, the optimizer and the callbacks."""
    must_match: dict[str, Any]
    """Values that must be equal for a run to resume: the plan's version, the dataset."""
    sources: Sequence[Source] = ()
    """Where the run's components come from that are not built in."""


def write(folder: Path, content: Checkpoint, keep: int) -> Path:
    """Write the checkpoint of a step and remove all but the newest `keep` and the best ones.

    Raises RunError if the disk fails; earlier checkpoints stay complete.
    """
    target = path_of(folder, content.state.step)
    try:
        with replaced(target) as temporary:
            _write_files(temporary, content)
        _finish(target, content, keep)
    except (OSError, SafetensorError) as error:
        raise _write_error(target, error) from None
    return target


def _finish(path: Path, content: Checkpoint, keep: int) -> None:
    """Update the links to the newest checkpoint at `path`, and remove old checkpoints."""
    folder = path.parent
    update_links(path)
    sync_path(folder)  # no link may name a removed checkpoint after a power cut
    _prune(folder, keep, {path_of(folder, step) for step in content.state.kept_steps})


def _write_error(path: Path, error: Exception) -> RunError:
    return RunError(
        f"{path}: the checkpoint cannot be written ({error}); earlier checkpoints are complete: "
        f"free some space, and the same command resumes from the newest"
    )


def write_evaluated(folder: Path, content: Checkpoint, keep: int) -> None:
    """Write the state after the evaluation of a step into the step's checkpoint.

    The tensors of `content` are not used. Raises RunError if the disk fails; the checkpoint stays
    as it was.
    """
    path = path_of(folder, content.state.step)
    before = sha256_of(path / STATE)
    try:
        write_file(path / EVALUATED, json.dumps({"before": before, **_state(content)}, indent=1))
        _finish(path, content, keep)
    except OSError as error:
        raise _write_error(path, error) from None


def path_of(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step."""
    return folder / f"step-{step:08d}"


def latest_and_best(folder: Path) -> dict[str, Path]:
    """Return the newest checkpoint as `latest`, and the best one as `best` if there is one."""
    paths = list(_newest_first(folder))
    for path in paths:
        with suppress(*STATE_ERRORS):  # an older one may be intact
            best = path_of(folder, _read_json(path)["training"]["best_step"])
            return {LATEST: path} | ({BEST: best} if best.is_dir() else {})
    return {LATEST: paths[0]} if paths else {}


def resolve(path: Path) -> Path:
    """Return the checkpoint at a path, which may end in `latest` or `best` without such a link."""
    if path.name in LINKS and not path.is_symlink():
        path = latest_and_best(path.parent).get(path.name, path)
    return path.resolve()


def update_links(path: Path) -> None:
    """Link `latest` to a complete checkpoint, the newest, and `best` to the best one.

    Repeated when a run resumes, which may have been killed just before. If there can be no links,
    log a line: they are for people only.
    """
    targets = latest_and_best(path.parent)
    try:
        for name in LINKS:
            link = path.with_name(name)
            if link.is_dir() and not link.is_symlink():
                shutil.rmtree(link)  # a copy; see `restore_copied`
            if name in targets:
                replace_link(link, targets[name].name)
            else:
                link.unlink(missing_ok=True)
    except OSError as error:
        for name in LINKS:  # none is better than one to an older checkpoint
            with suppress(OSError):
                path.with_name(name).unlink(missing_ok=True)
        _log_missing_links(path.parent, error.strerror or str(error))


@cache
def _log_missing_links(folder: Path, reason: str) -> None:
    """Log a line, once per process."""
    logger.info(
        "%s: no links `latest` and `best` (%s); all commands find these checkpoints without them",
        folder, reason,
    )  # fmt: skip


def restore_copied(folder: Path) -> None:
    """Rename `latest` and `best` to their steps if they are folders and the step is missing.

    A copy that follows links (`cp -rL`) turns them into folders.
    """
    for name in LINKS:
        copy = folder / name
        if not copy.is_dir() or copy.is_symlink():
            continue
        with suppress(*STATE_ERRORS):
            step = path_of(folder, _read_json(copy)["training"]["step"])
            if not step.exists():
                copy.rename(step)


def set_aside_newer(path: Path) -> None:
    """Rename the checkpoints after the one at `path`, which is the newest that is not damaged.

    Otherwise they would count as newer than those that the resumed run writes. Raises RunError.
    """
    for newer in _newest_first(path.parent):
        if newer.name <= path.name:
            return
        aside = newer.with_name(DAMAGED + newer.name)
        shutil.rmtree(aside, ignore_errors=True)
        try:
            newer.rename(aside)
        except OSError as error:
            raise RunError(
                f"{newer}: is damaged and cannot be renamed to {aside.name} ({error.strerror}); "
                f"remove it"
            ) from None


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint that verifies, and a line for each newer one that does not.

    Raises RunError if there are checkpoints and none verifies, or if the newest intact one has
    another format: training must not overwrite them.
    """
    damaged: list[str] = []
    for path in _newest_first(folder):
        reason = damage(path, resumes=True)
        if not reason:
            return path, damaged
        damaged.append(f"checkpoint {path} is damaged ({reason})")
    if damaged:
        for path in _newest_first(folder):
            check_resumable(path)
        raise RunError(
            [*damaged, f"{folder}: no checkpoint verifies; remove them, or use another run.dir"]
        )
    return None, []


def check_resumable(path: Path) -> None:
    """Raise RunError if the file that only training needs was deleted from an intact checkpoint."""
    if not (path / TRAINING).exists() and not damage(path):
        raise RunError(
            f"{path}: has no {TRAINING}, which `headrace clean` deletes, so training cannot resume "
            "from it; set another run.dir, or restore the file from a backup"
        )


def damage(path: Path, *, resumes: bool = False) -> str:
    """Return what is wrong with a checkpoint's files, or an empty string.

    The file that only training needs is checked only if training `resumes`: it is large, and may
    have been deleted. Raises RunError if the files are intact but have another format.
    """
    try:
        digests = json.loads((path / "MANIFEST.json").read_text())
        if STATE in digests and sha256_of(path / STATE) == digests[STATE]:
            _check_format(path, _read_json(path))
        if not digests.keys() >= set(FILES):
            return f"MANIFEST.json does not list {', '.join(FILES)}"
        for name, digest in digests.items():
            if name == TRAINING and not resumes:
                continue
            if sha256_of(path / name) != digest:
                return f"{name} does not have the checksum of the manifest"
    except (OSError, ValueError, AttributeError) as error:
        return str(error)
    return ""


def read_state(path: Path, must_match: Mapping[str, Any]) -> tuple[TrainingState, dict[str, Any]]:
    """Return the counters and the components' state of a checkpoint.

    Raises RunError if its format is another one or a value of `must_match` differs.
    """
    saved = _read_json(path)
    _check_format(path, saved)
    for name, value in must_match.items():
        if saved["must_match"].get(name) != value:
            raise RunError(
                f"{path}: was written with {name} {saved['must_match'].get(name)}, now it is "
                f"{value}, so the run would not continue as it began; restore it, or start a new "
                f"run in another run.dir"
            )
    known = {f.name for f in fields(TrainingState)}
    if not known - ADDED_KEYS <= saved["training"].keys() <= known:
        raise RunError(
            f"{path}: state.json has the keys {sorted(saved['training'])}, not {sorted(known)}; "
            f"resume with the version that wrote it"
        )
    return TrainingState(**saved["training"]), saved["components"]


def precision_of(path: Path) -> str:
    """Return the precision in which a checkpoint's run computes."""
    return str(_read_json(path)["training"]["precision"])


def weights_digest(path: Path) -> str:
    """Return the SHA-256 of a checkpoint's weights, as its manifest has it."""
    return str(json.loads((path / "MANIFEST.json").read_text())[MODEL])


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights to use, by parameter name. Raises RunError."""
    return _read_tensors(path / MODEL)


def read_training(path: Path) -> dict[str, Tensor]:
    """Return the tensors that only training needs, by name. Raises RunError."""
    return _read_tensors(path / TRAINING)


def _check_format(path: Path, saved: Mapping[str, Any]) -> None:
    if saved["format"] != FORMAT:
        raise RunError(
            f"{path}: has checkpoint format {saved['format']}, but this version reads {FORMAT}; "
            f"use the version that wrote it, or another run.dir"
        )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(f"{path}: cannot be loaded: {' '.join(str(error).split())}") from None


def _read_json(path: Path) -> dict[str, Any]:
    """Return the content of evaluated.json if it is intact and belongs to state.json, else that of
    state.json."""
    with suppress(*STATE_ERRORS):
        saved = json.loads((path / EVALUATED).read_text())
        if saved.pop("before") == sha256_of(path / STATE):
            return dict(saved)
    return dict(json.loads((path / STATE).read_text()))


def _write_files(folder: Path, content: Checkpoint) -> None:
    folder.mkdir()
    save_file(_contiguous(content.weights), folder / MODEL)
    save_file(_contiguous(content.training), folder / TRAINING)
    (folder / STATE).write_text(json.dumps(_state(content), indent=1))
    code.write(folder, content.sources)
    paths = (path for path in folder.rglob("*") if path.is_file())
    digests = {str(path.relative_to(folder)): sha256_of(path) for path in sorted(paths)}
    (folder / "MANIFEST.json").write_text(json.dumps(digests, indent=1))


def _state(content: Checkpoint) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "training": asdict(content.state),
        "components": content.components,
        "must_match": content.must_match,
    }


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _newest_first(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.glob("step-*"), reverse=True))


def _prune(folder: Path, keep: int, best: set[Path]) -> None:
    kept = {*best, *islice(_newest_first(folder), keep)}
    temporary = folder.glob(".step-*")  # of killed processes
    for path in [*_newest_first(folder), *temporary]:
        if path not in kept:
            shutil.rmtree(path)
