"""`headrace serve` in processes of its own: signals, several workers, addresses."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.serving.server import listen
from tests.helpers.processes import call, error_lines, finish, kill, start, wait_for
from tests.helpers.serving import ask, predict

Runs = Callable[[str], Path]


@contextmanager
def served(run: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start `headrace serve` at a free port; yield the process and the port."""
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--run", str(run), "--port", "0"]
    process = start([*command, *options])
    try:
        assert process.stderr
        first = next(line for line in process.stderr if line.startswith("serving "))
        yield process, int(first.rpartition(":")[2])
    finally:
        if process.poll() is None:
            kill(process)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_after_the_answers(runs: Runs, number: int) -> None:
    options = ["--batch-timeout-ms", "2000", "--max-batch-size", "100"]
    with served(runs("classification"), *options) as (process, port):
        assert ask(port, "GET", "/health").status == 200
        with ThreadPoolExecutor(4) as clients:
            texts = ["a film", "a dull plot", "music", "rain"]
            answers = [clients.submit(predict, port, input=text) for text in texts]
            wait_for(lambda: "queue_length 4.0" in ask(port, "GET", "/metrics").value)
            kill(process, number)
            wait_for(lambda: refuses(port))
            assert [answer.result().status for answer in answers] == [200] * 4
        status, _, err = finish(process)
        assert (status, err) == (0, "stopped\n")


@pytest.mark.slow
@pytest.mark.distributed
def test_workers_share_an_address_and_are_replaced(runs: Runs) -> None:
    with served(runs("classification"), "--workers", "2") as (process, port):
        wait_for(lambda: len(children(process.pid)) == 2)
        expected = predict(port, input="a film").value
        for _ in range(20):
            assert predict(port, input="a film").value == expected
        lines = ask(port, "GET", "/metrics").value.splitlines()
        assert "headrace_rows_total 21.0" in lines
        first, second = children(process.pid)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: len(set(children(process.pid)) - {first}) == 2)
        assert second in children(process.pid)
        for _ in range(20):
            assert predict(port, input="a film").value == expected
        kill(process, signal.SIGTERM)
        status, _, err = finish(process)
        assert status == 0
        assert "warning: a process ended with status -9 and is replaced" in err
        assert children(process.pid) == []
        assert refuses(port)


def test_an_address_that_cannot_be_used_is_one_line(runs: Runs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for count in (1, 2):
            with pytest.raises(ConfigError, match=rf"--port={port}: address already in use; use"):
                listen("127.0.0.1", port, count)
        status, _, err = call("serve", "--run", str(runs("classification")), "--port", str(port))
        assert (status, len(err.splitlines())) == (2, 1)
    with pytest.raises(ConfigError, match=r"--host=no\.invalid --port=0: .*; give an address"):
        listen("no.invalid", 0, 1)
    with pytest.raises(ConfigError, match=r"--host=192\.0\.2\.1 --port=0: .*; use another port"):
        listen("192.0.2.1", 0, 1)


def test_options_are_checked(tmp_path: Path) -> None:
    for option, value in (("--port", "70000"), ("--workers", "0"), ("--timeout", "nan")):
        status, _, err = call("serve", "--run", str(tmp_path), option, value)
        assert status == 2
        (line,) = error_lines(err)
        assert re.search(rf"{option}: {value}: is not an? (integer|number) from", line)


def refuses(port: int) -> bool:
    """Return whether nothing listens at a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def children(process: int) -> list[int]:
    """Return the processes that a process has started and that run."""
    path = Path(f"/proc/{process}/task/{process}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []
