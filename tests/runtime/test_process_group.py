"""Rank and collectives of a process; rendezvous on a machine whose name does not resolve."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.runtime import process_group
from pipeline.runtime.launcher import RankInfo
from pipeline.runtime.process_group import World
from tests.helpers.corpora import small_run_overrides
from tests.helpers.processes import REPOSITORY, finish, losses, start

UNKNOWN = "no-such-host"
TORCHRUN = {"MASTER_ADDR": UNKNOWN, "MASTER_PORT": "29500", "LOCAL_WORLD_SIZE": "2"}


def test_single_process_needs_no_process_group() -> None:
    world, values = World(0, 1, torch.device("cpu")), torch.arange(3.0)
    assert world.sum(values) is values
    assert world.from_first("a") == "a"
    assert world.gather("a") == ["a"]
    assert world.exchange(values, torch.zeros(3, dtype=torch.int64)) is values


@pytest.fixture(autouse=True)
def _torchrun_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, "GLOO_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")  # so that every change is undone
        monkeypatch.delenv(name)


def environment() -> dict[str, str]:
    """Return the variables that a rendezvous reads."""
    names = (*TORCHRUN, "GLOO_SOCKET_IFNAME")
    return {name: os.environ[name] for name in names if name in os.environ}


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that knows the name `known` only."""

    def getaddrinfo(host: str, *args: object) -> list[object]:
        if host != "known":
            raise socket.gaierror(-2, "Name or service not known")
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.usefixtures("resolver")
def test_loopback_is_used_if_the_host_name_does_not_resolve(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", logger="pipeline")
    monkeypatch.setattr(sys, "platform", "linux")
    os.environ.update(TORCHRUN)
    process_group._use_loopback_if_unresolvable(RankInfo(0, 0, 2))
    loopback = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    assert environment() == TORCHRUN | loopback
    assert caplog.messages == ["the host name no-such-host does not resolve; using 127.0.0.1"]


@pytest.mark.usefixtures("resolver")
def test_network_interface_that_the_user_chose_is_kept() -> None:
    os.environ.update(TORCHRUN, GLOO_SOCKET_IFNAME="eth7")
    process_group._use_loopback_if_unresolvable(RankInfo(0, 0, 2))
    assert environment()["MASTER_ADDR"] == "127.0.0.1"
    assert environment()["GLOO_SOCKET_IFNAME"] == "eth7"


@pytest.mark.usefixtures("resolver")
@pytest.mark.parametrize(
    "address, ranks",
    [("known", 2), (UNKNOWN, 4)],  # two of the four ranks are on another machine
    ids=["resolvable name", "several machines"],
)
def test_address_is_kept(address: str, ranks: int) -> None:
    before = TORCHRUN | {"MASTER_ADDR": address}
    os.environ.update(before)
    process_group._use_loopback_if_unresolvable(RankInfo(0, 0, ranks))
    assert environment() == before


@pytest.mark.distributed
@pytest.mark.parametrize("rank", [0, 1])
def test_processes_that_never_appear_are_one_line(rank: int) -> None:
    """As where RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are left in the environment."""
    code = (
        "from datetime import timedelta\n"
        "from pipeline.cli import common\n"
        "from pipeline.runtime import launcher, process_group\n"
        "from pipeline.runtime.logs import configure_logging\n"
        "configure_logging()\n"
        "launcher.NOTICE_SECONDS, process_group.START_TIMEOUT = 0.3, timedelta(seconds=2)\n"
        "common.run(process_group.connect(launcher.RankInfo.from_environment()).__enter__,"
        " distributed=True)"
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    variables = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    status, _, err = finish(start([sys.executable, "-c", code], variables=variables))
    assert status == 2, err
    lines = [line for line in err.splitlines() if not line.startswith("[")]  # c10d's own
    assert lines[0].startswith(
        f"warning: RANK={rank} and WORLD_SIZE=2: waiting for the other processes at 127.0.0.1:"
    )
    prefix = "error: rank 1: " if rank else "error: "
    assert lines[-1].startswith(f"{prefix}WORLD_SIZE=2: the processes did not find each other at ")
    assert "Traceback" not in err


def unshare() -> list[str]:
    """Return a prefix that runs a command on a machine whose host name does not resolve.

    Skips the test where a process may not have a host name of its own.
    """
    prefix = ["unshare", "--uts", "sh", "-c", f'hostname {UNKNOWN} && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("unshare --uts is not permitted here")
    return prefix


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(
    "options, variables, used_loopback",
    [
        (["--local-addr=localhost"], {}, False),
        ([], {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}, True),
    ],
    ids=["address given to torchrun", "address found by the workers"],
)
def test_training_on_a_machine_whose_name_does_not_resolve(
    options: list[str],
    variables: dict[str, str],
    used_loopback: bool,
    corpus: Path,
    tmp_path: Path,
) -> None:
    """With its default options, torchrun of PyTorch 2.13 does not even start its workers there.

    It connects to a store at this machine's name, to share it with the workers, and retries for
    minutes. It starts them if it is given another address, or does not share its store.
    """
    training = [
        str(REPOSITORY / "launch" / "train.py"), *small_run_overrides(corpus), "train.max_steps=2",
        "train.log_every=1", f"run.dir={tmp_path}",
    ]  # fmt: skip
    torchrun = [sys.executable, "-m", "torch.distributed.run", *options, "--nproc_per_node=2"]
    process = start([*unshare(), *torchrun, *training], variables=variables)
    status, _, err = finish(process, timeout=100)
    assert status == 0, err
    assert losses(tmp_path).keys() == {1, 2}
    assert (f"the host name {UNKNOWN} does not resolve; using 127.0.0.1" in err) == used_loopback


@pytest.mark.parametrize(
    "shares_store, local, expected, warns",
    [
        ("False", 1, "attempt", False),
        ("False", 2, "attempt", False),
        ("True", 2, "attempt-3", False),
        ("True", 1, "attempt-3", True),  # two nodes
        (None, 2, "attempt", False),  # without torchrun
    ],
)
def test_the_prefix_of_an_attempt_is_the_same_on_all_nodes(
    shares_store: str | None,
    local: int,
    expected: str,
    warns: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "3")
    if shares_store is None:
        monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    else:
        monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", shares_store)
    assert process_group._attempt(RankInfo(0, 0, 2)) == expected
    assert ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in m for m in caplog.messages] == [True] * warns
