"""Checkpoints that are whole or not there, found again whatever happened to the newest.

A checkpoint is a folder `step-00000200` of safetensors and JSON; nothing in it is executed when it
is read. It is written under another name, flushed to disk and renamed, its manifest last, so that
a power cut leaves the old or the new one. The data parallel replicas are identical and dropout is
keyed by row, so rank 0 alone writes, and there is no state of random generators to keep.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.errors import RunError
from pipeline.stream.plan import Position

FORMAT = 3
OWN = "own weights/"
CARRIED = "carried"
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")


@dataclass
class TrainingState:
    """Where a run stands, beside its weights and its optimizer's moments."""

    step: int = 0
    """Updates done."""
    position: Position = field(default_factory=Position)
    rows: int = 0
    """Rows consumed, those that were skipped among them."""
    skipped: int = 0
    """Rows of weight 0 as their blocks are damaged."""
    schedule_rows: int = 0
    """Rows of the updates that the optimizer did not skip; the learning rate follows these."""
    tokens: int = 0
    """Tokens consumed, padding not counted."""
    seconds: float = 0.0
    """Time spent in training, without evaluation."""
    best: float | None = None
    """The best value of the task's metric, the loss there, and the step it was reached at."""
    best_loss: float = 0.0
    best_step: int = 0
    stale: int = 0
    """Evaluations since the best."""
    since_log: list[float] = field(default_factory=list)
    """The task's sums over the updates since metrics were last logged."""
    scaler: dict[str, Any] = field(default_factory=dict)
    precision: str = ""


def save(
    folder: Path,
    state: TrainingState,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None = None,
    carried: Tensor | None = None,
    *,
    facts: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write the checkpoint of `state.step` and remove all but the newest `keep` and the best.

    `model.safetensors` holds the weights to use: those of `average` if there is one, and then the
    model's own lie beside the optimizer's moments; so does what is `carried` from update to update,
    in the order of the lanes. `facts` is what must be equal for a run to go
    on: what the plan and the weights hang on.
    """
    target = folder / f"step-{state.step:08d}"
    try:
        _write(folder / f".tmp-{target.name}", state, model, optimizer, average, carried, facts)
        shutil.rmtree(target, ignore_errors=True)  # one that did not verify
        (folder / f".tmp-{target.name}").rename(target)
        point_to(target)
        _sync(folder)
        _prune(folder, keep)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{target}: the checkpoint cannot be written ({error}); what was saved before is "
            f"whole: make room, and the same command goes on from there"
        ) from None
    return target


def point_to(path: Path) -> None:
    """Make a whole checkpoint the `latest` of its folder, and the `best` if it is. Done again
    when a run is resumed, as it may have been killed just before."""
    state = json.loads((path / "state.json").read_text())["state"]
    if state["best_step"] == state["step"]:
        _point(path.with_name("best"), path.name)
    _point(path.with_name("latest"), path.name)


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and a line for each newer one that does not.

    Raises RunError if there are checkpoints and none verifies: training must not start afresh
    over them.
    """
    damaged: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        reason = damage(path)
        if not reason:
            return path, damaged
        damaged.append(f"checkpoint {path} is damaged ({reason})")
    if damaged:
        raise RunError(
            [*damaged, f"{folder}: no checkpoint verifies; remove them, or use another run.dir"]
        )
    return None, []


def damage(path: Path) -> str:
    """What is wrong with a checkpoint, or nothing."""
    try:
        digests = json.loads((path / "MANIFEST.json").read_text())
        if digests.keys() != set(FILES):
            return f"MANIFEST.json does not list {', '.join(FILES)}"
        for name, digest in digests.items():
            if _sha256(path / name) != digest:
                return f"{name} does not have the checksum of the manifest"
    except (OSError, ValueError, AttributeError) as error:
        return str(error)
    return ""


def read_state(path: Path, facts: Mapping[str, Any]) -> TrainingState:
    """The state of a checkpoint. Raises RunError if it was made under other `facts`."""
    saved = json.loads((path / "state.json").read_text())
    if saved["format"] != FORMAT:
        raise RunError(
            f"{path}: checkpoint format {saved['format']}, this version reads {FORMAT}; go on with "
            f"the version that wrote it"
        )
    for name, value in facts.items():
        if saved["facts"].get(name) != value:
            raise RunError(
                f"{path}: was made with {name} {saved['facts'].get(name)}, now it is {value}: the "
                f"run would not go on as it began; restore it, or start anew in another run.dir"
            )
    values = saved["state"]
    known = {f.name for f in fields(TrainingState)}
    if values.keys() != known:
        raise RunError(f"{path}: state.json has the keys {sorted(values)}, not {sorted(known)}")
    return TrainingState(**{**values, "position": Position(**values["position"])})


def precision_of(path: Path) -> str:
    """The precision that a checkpoint's run computes in."""
    return str(json.loads((path / "state.json").read_text())["state"]["precision"])


def load(path: Path, model: nn.Module) -> None:
    """Read the weights to use. Every tensor must be used."""
    _load(path, "model.safetensors", model.load_state_dict)


def load_all(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None
) -> Tensor | None:
    """Read all that a run needs to go on, and return what it carries along. Every tensor must be
    used."""
    load(path, model if average is None else average)
    carried: list[Tensor] = []

    def unpack(tensors: dict[str, Tensor]) -> None:
        if average is not None:
            own = {k.removeprefix(OWN): tensors.pop(k) for k in list(tensors) if k.startswith(OWN)}
            model.load_state_dict(own)
        if CARRIED in tensors:
            carried.append(tensors.pop(CARRIED))
        _unflat(optimizer, tensors)

    _load(path, "optimizer.safetensors", unpack)
    return carried[0] if carried else None


def _load(path: Path, name: str, use: Callable[[dict[str, Tensor]], Any]) -> None:
    try:
        use(load_file(path / name))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        line = " ".join(str(error).split())
        raise RunError(f"{path / name}: cannot be loaded: {line}") from None


def _write(
    folder: Path,
    state: TrainingState,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    carried: Tensor | None,
    facts: Mapping[str, Any],
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file(_weights(model if average is None else average), folder / "model.safetensors")
    own = {} if average is None else _weights(model, OWN)
    along = {} if carried is None else {CARRIED: carried}
    save_file(_flat(optimizer) | own | along, folder / "optimizer.safetensors")
    text = json.dumps({"format": FORMAT, "state": asdict(state), "facts": dict(facts)}, indent=1)
    (folder / "state.json").write_text(text)
    digests = {name: _sha256(folder / name) for name in FILES}
    for name in FILES:
        _sync(folder / name)
    (folder / "MANIFEST.json").write_text(json.dumps(digests, indent=1))
    _sync(folder / "MANIFEST.json")
    _sync(folder)


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors by `parameter number/name`; its settings come from the config."""
    return {
        f"{number}/{name}": value.contiguous()
        for number, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
    }


def _unflat(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition("/")
        moments.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def _weights(model: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: tensor.contiguous() for name, tensor in model.state_dict().items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _point(link: Path, name: str) -> None:
    """Make `link` a symbolic link to `name`, at once."""
    temporary = link.with_name(f".tmp-{link.name}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.replace(link)


def _prune(folder: Path, keep: int) -> None:
    kept = {path.name for path in sorted(folder.glob("step-*"))[-keep:]}
    links = [folder / "best", folder / "latest"]
    kept |= {link.readlink().name for link in links if link.is_symlink()}
    for path in folder.glob("*step-*"):
        if path.name not in kept:
            shutil.rmtree(path)
