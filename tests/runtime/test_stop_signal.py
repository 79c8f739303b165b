"""Stop signals: at once where nothing is to be saved, recorded where the work is saved first."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.runtime import stop_signal
from pipeline.runtime.stop_signal import SIGNALS, Stopped, StopSignal


@pytest.fixture(autouse=True)
def _no_ignored_signals() -> Iterator[None]:
    """Signals have handlers, also if the tests were started by nohup or `&`."""
    before = [signal.signal(number, signal.SIG_DFL) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


def wait_after(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(1)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_stopped(number: signal.Signals) -> None:
    stop = StopSignal()
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught, stop.handled():
        wait_after(number)
    assert caught.value.code == 128 + number
    assert caught.value.line == f"stopped by {number.name}; the same command resumes"
    assert signal.getsignal(number) == before


def test_signals_are_recorded_while_work_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    stop = StopSignal()
    with stop.handled(), stop.deferred():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
            time.sleep(0.01)
        assert stop.number == signal.SIGTERM
        assert not ended
        stop.saved()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert ended == [128 + signal.SIGTERM]


def test_a_late_second_signal_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr(stop_signal, "REPEAT_SECONDS", 0.2)
    stop = StopSignal()
    with stop.handled(), stop.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
    assert ended == [128 + signal.SIGINT]


def test_threads_keep_their_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found: list[object] = []

    def work() -> None:
        with StopSignal().handled():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_an_ignored_signal_stays_ignored() -> None:
    """`nohup` ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal().handled():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


WAITS = """
import torch.distributed as dist
from datetime import timedelta
from pipeline.runtime import stop_signal
stop_signal.EXIT_SECONDS = 0.5
with stop_signal.StopSignal().handled():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=60))
    print("up", flush=True)
    store.get("what nobody sets")
"""


@pytest.mark.slow
def test_a_process_that_waits_for_others_ends() -> None:
    process = subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM
