"""`status.json`: how an attempt ended, and which restarts end at once."""

import json
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, DivergedError, HeadraceError, LostPeerError, RunError
from pipeline.run import status
from pipeline.run.folder import RunFolder, RunInUseError
from pipeline.run.status import read_status, recorded
from pipeline.runtime.launcher import RankInfo
from pipeline.runtime.stop_signal import Stopped

FIRST, SECOND = RankInfo(0, 0, 2), RankInfo(1, 1, 2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "launch-1")
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    return RunFolder(tmp_path)


def attempt(
    folder: RunFolder, end: BaseException | None = None, rank: RankInfo = FIRST
) -> tuple[str, bool, int | None]:
    """Run a block that ends with an exception, and return the status, restart and exit status."""
    with suppress(BaseException), recorded(folder, rank):
        if end:
            raise end
    found = read_status(folder.path)
    assert found
    return found.status, found.restart, found.exit_status


@pytest.mark.parametrize(
    "end, expected",
    [
        (None, ("finished", False, 0)),
        (Stopped(signal.SIGTERM), ("stopped", False, 143)),
        (ConfigError("a"), ("failed", False, 2)),
        (DivergedError("a"), ("failed", False, 3)),
        (LostPeerError("a"), ("failed", True, 75)),
        (ZeroDivisionError("a"), ("failed", True, 1)),
        (KeyboardInterrupt(), ("running", True, None)),
    ],
)
def test_each_end_has_a_status(
    folder: RunFolder, end: BaseException | None, expected: tuple[str, bool, int | None]
) -> None:
    assert attempt(folder, end) == expected
    content = json.loads((folder.path / "status.json").read_text())
    assert content["launch"] == "launch-1"


def test_a_run_in_use_keeps_its_status(folder: RunFolder) -> None:
    attempt(folder)
    with recorded(folder, FIRST), pytest.raises(RunInUseError), recorded(folder, FIRST):
        raise RunInUseError("a")


@pytest.mark.parametrize("order", ["error first", "lost peer first"])
def test_the_reason_of_another_rank_is_kept(folder: RunFolder, order: str) -> None:
    def fail_on_second_rank() -> None:
        with suppress(ConfigError), recorded(folder, SECOND):
            raise ConfigError("key=1: the reason")

    with suppress(LostPeerError), recorded(folder, FIRST):
        if order == "error first":
            fail_on_second_rank()
        raise LostPeerError("a")
    if order == "lost peer first":
        fail_on_second_rank()
    found = read_status(folder.path)
    assert found
    assert (found.restart, found.exit_status, found.message) == (False, 2, "key=1: the reason")


def test_other_ranks_write_nothing_that_a_restart_fixes(folder: RunFolder) -> None:
    for end in (None, LostPeerError("a"), ZeroDivisionError(), Stopped(signal.SIGTERM)):
        with suppress(BaseException), recorded(folder, SECOND):
            if end:
                raise end
    assert read_status(folder.path) is None


@pytest.mark.parametrize(
    "end, status_of_restart",
    [(DivergedError("lr is high"), 3), (Stopped(signal.SIGTERM), 143), (ConfigError("x"), 2)],
)
@pytest.mark.parametrize("rank", [FIRST, SECOND])
def test_a_restart_of_an_attempt_that_cannot_succeed_ends_at_once(
    folder: RunFolder,
    end: BaseException,
    status_of_restart: int,
    rank: RankInfo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempt(folder, end)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    restarted = recorded(folder, rank)
    with pytest.raises(RunError, match="a restart cannot change that") as caught:
        restarted.__enter__()
    assert caught.value.exit_status == status_of_restart
    assert RunError.exit_status == HeadraceError.exit_status == 2
    # The user types the command again.
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "launch-2")
    assert attempt(folder) == ("finished", False, 0)


def test_a_restart_after_a_crash_runs(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt(folder, ZeroDivisionError())
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert attempt(folder) == ("finished", False, 0)


@pytest.mark.parametrize("content", ["", "{}", "[]", "\xff", '{"status": "failed"}'])
def test_a_damaged_status_is_none(folder: RunFolder, content: str) -> None:
    (folder.path / "status.json").write_text(content, encoding="latin-1")
    assert read_status(folder.path) is None
    assert attempt(folder) == ("finished", False, 0)


def test_a_full_disk_does_not_end_the_run(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(status, "write_file", full)
    with recorded(folder, FIRST):
        pass
    assert read_status(folder.path) is None
