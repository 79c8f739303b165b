"""Weights & Biases."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import TrainingError
from pipeline.settings import setting
from pipeline.storage.atomic import write_file
from pipeline.tracking.base import EndStatus, Point, TrackedRun, Tracker
from pipeline.tracking.settings import TrackSettings

BLOCK, HEADER = 32768, 7
"""Bytes of a block of a `.wandb` file, and of the headers of the file and of its records."""


class Wandb(Tracker):
    """Logs metrics to W&B; its files are in the folder `wandb` in the run folder.

    Each start of the run writes a file of its own, and all of them have the same W&B run id.
    """

    class Settings(TrackSettings):
        wandb_mode: Literal["offline", "online"] = setting(
            "offline", "offline: write files that `wandb sync` uploads later", may_change=True
        )
        wandb_project: str = setting("headrace", "name of the W&B project", may_change=True)

    settings: Settings
    extra = "wandb"

    def __init__(self, settings: Settings, run: TrackedRun) -> None:
        super().__init__(settings, run)
        self._folder = run.folder / "wandb"
        self._wandb_run: Any = None
        self._exit_code = 0
        if settings.wandb_mode == "online":
            _check_login()

    @classmethod
    def packages(cls, settings: TrackSettings) -> Sequence[str]:
        return ["wandb"]

    @classmethod
    def watch(cls, settings: Settings, folder: Path) -> str:
        online = settings.wandb_mode == "online"
        return f"W&B project {settings.wandb_project}" if online else _sync_command(folder)

    @property
    def late_delivery(self) -> str:
        return f"the run delivers it when it resumes, then: {_sync_command(self.run.folder)}"

    def connect(self) -> Mapping[str, int]:
        import wandb

        with suppress(Exception):  # it has failed before
            self.close()
        self._folder.mkdir(exist_ok=True)
        id_file = self._folder / "run_id"
        if not id_file.exists():
            write_file(id_file, uuid.uuid4().hex)
        last_steps = _last_steps(self._folder)
        self._wandb_run = wandb.init(
            id=id_file.read_text(), resume="allow", mode=self.settings.wandb_mode,
            project=self.settings.wandb_project, name=self.run.name, dir=str(self.run.folder),
            config={**self.run.params, **self.run.facts}, reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip
        return last_steps

    def log_metrics(self, points: Sequence[Point]) -> None:
        for (step, time), group in groupby(points, lambda point: (point.step, point.time)):
            row = {point.name: point.value for point in group}
            self._wandb_run.log({**row, "_timestamp": time}, step=step)

    def ended(self, status: EndStatus, time: float) -> None:
        self._exit_code = int(status != "FINISHED")

    def close(self) -> None:
        if self._wandb_run is not None:
            self._wandb_run.finish(self._exit_code)
            import_module("wandb").teardown()  # waits until the file is complete


def _sync_command(folder: Path) -> str:
    return f"wandb sync {folder}/wandb/*run-*"


def _check_login() -> None:
    import wandb

    try:
        logged_in = wandb.login(prompt=False)
    except wandb.errors.UsageError:
        logged_in = False
    if not logged_in:
        raise TrainingError(
            "track.wandb_mode=online: there is no W&B API key; run `wandb login`, set "
            "WANDB_API_KEY, or set track.wandb_mode=offline"
        )


def _last_steps(folder: Path) -> dict[str, int]:
    """Return the last step of each metric in the files of a folder.

    After a crash they lack what W&B held in memory.
    """
    record: Any = import_module("wandb.proto.wandb_internal_pb2").Record
    steps: dict[str, int] = {}
    for path in sorted(folder.glob("*run-*/*.wandb")):
        for content in _records(path.read_bytes()):
            items = {".".join(item.nested_key) or item.key: item.value_json
                     for item in record.FromString(content).history.item}  # fmt: skip
            step = int(items.get("_step", -1))
            steps |= {name: max(step, steps.get(name, -1)) for name in items}
    return steps


def _records(log: bytes) -> Iterator[bytes]:
    """Yield the complete records of a `.wandb` file, which has LevelDB's log format.

    A record is in one fragment (type 1), or in a first, middle and last one (types 2, 3, 4).
    """
    position, record = HEADER, b""
    while position + HEADER <= len(log):
        left = BLOCK - position % BLOCK
        if left < HEADER:  # padding
            position += left
            continue
        _, size, kind = struct.unpack_from("<IHB", log, position)
        fragment = log[position + HEADER : position + HEADER + size]
        position += HEADER + size
        record = record + fragment if kind in (3, 4) else fragment
        if kind in (1, 4) and position <= len(log):
            yield record
