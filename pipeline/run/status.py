"""How the last attempt to train a run ended: `status.json`, for batch scripts and restarts.

torchrun exits with 1 for every failure of its workers and restarts them after each one
(`--max-restarts`), so the status is also in this file.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import HeadraceError, RunError
from pipeline.run.folder import RunFolder, RunInUseError
from pipeline.runtime.launcher import RankInfo
from pipeline.runtime.stop_signal import Stopped
from pipeline.storage.atomic import write_file

RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"
CRASH = 1
"""Exit status of an exception that is a defect."""


@dataclass(frozen=True)
class RunStatus:
    """The content of `status.json`."""

    status: str
    """`running`, `finished`, `stopped` (by a signal) or `failed`; `running` also after a kill."""
    restart: bool
    """Whether the same command may succeed without a change by the user, now or after a repair of
    the machine."""
    exit_status: int | None
    """Exit status of the process that wrote this; None if it runs."""
    message: str
    """Error lines; empty if there are none."""
    launch: str
    """torchrun's id of this launch, which its restarts share; empty without torchrun."""
    time: str
    """When this was written, in UTC."""


def read_status(folder: Path) -> RunStatus | None:
    """Return the status of a run; None if there is none, or if the file is damaged."""
    with suppress(OSError, ValueError, TypeError):
        return RunStatus(**json.loads(_path(folder).read_text()))
    return None


@contextmanager
def recorded(folder: RunFolder, info: RankInfo) -> Iterator[None]:
    """Write the status of the block, which trains, to `status.json`.

    Rank 0 writes it; another rank only if it fails in a way that a restart cannot fix. Raises
    RunError, with the earlier exit status, if torchrun has restarted an attempt that failed so.
    """
    before = read_status(folder.path)
    if before and _is_restart() and before.launch == _launch() and not before.restart:
        error = RunError(
            f"{folder.path}: the attempt before this one is {before.status}, and a restart cannot "
            f"change that: {before.message or 'see its output'}"
        )
        error.exit_status = before.exit_status or CRASH
        raise error
    first = info.rank == 0
    if first:
        _write(folder, RUNNING, restart=True)
    try:
        yield
    except RunInUseError:
        raise  # the status is the other process's
    except Stopped as end:
        if first:
            _write(folder, STOPPED, restart=False, exit_status=128 + end.number)
        raise
    except HeadraceError as error:
        now = read_status(folder.path)
        has_reason = now is not None and now.status == FAILED and not now.restart  # of another rank
        if not error.restart or (first and not has_reason):
            _write(
                folder, FAILED, restart=error.restart, exit_status=error.exit_status,
                message="\n".join(error.lines),
            )  # fmt: skip
        raise
    except Exception as error:
        if first:
            message = f"{type(error).__name__}: {error}"
            _write(folder, FAILED, restart=True, exit_status=CRASH, message=message)
        raise
    if first:
        _write(folder, FINISHED, restart=False, exit_status=0)


def _write(
    folder: RunFolder,
    status: str,
    *,
    restart: bool,
    exit_status: int | None = None,
    message: str = "",
) -> None:
    time = datetime.now(UTC).isoformat(timespec="seconds")
    content = RunStatus(status, restart, exit_status, message, _launch(), time)
    with suppress(OSError):  # a full disk; the error that ends the run reports it
        write_file(_path(folder.path), json.dumps(asdict(content), indent=1) + "\n")


def _path(folder: Path) -> Path:
    return folder / "status.json"


def _launch() -> str:
    return os.environ.get("TORCHELASTIC_RUN_ID", "")


def _is_restart() -> bool:
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
