"""Checks of several ranks: collectives, stopped and killed runs, other numbers of processes."""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu_parts.small_runs import losses, overrides
from benchmarks.gpu_parts.steps import Machine
from tests.helpers.processes import REPOSITORY, torchrun

SHARED_GPU = "benchmarks/gpu_parts/shared_gpu.py"
"""Several processes on one GPU over gloo."""
LONG_RUN = ("train.epochs=40", "train.log_every=1", "train.checkpoint_every=5")
TIMEOUT_SECONDS = 60
"""Timeout for the first updates and for the exit after a signal; a whole run gets twice as long."""
LAUNCHER_POLL_SECONDS = 0.5
"""Time within which workers notice that torchrun has died."""
ELASTIC_TOLERANCE = 1e-3
"""Largest difference of a loss between runs with one process and with two, in fp32."""


def collectives(machine: Machine) -> dict[str, Any]:
    """NCCL in a group of one rank: all collectives that training uses, and DDP."""
    backend = machine.choose("nccl", "gloo")
    with tempfile.TemporaryDirectory() as name:
        dist.init_process_group(
            backend, init_method=f"file://{name}/store", rank=0, world_size=1,
            device_id=machine.device if machine.is_gpu else None,
        )  # fmt: skip
        try:
            values = torch.ones(3, dtype=torch.float64, device=machine.device)
            dist.all_reduce(values)
            objects: list[Any] = [{"a": 1}]
            dist.broadcast_object_list(objects, src=0, device=machine.device)
            gathered: list[Any] = [None]
            dist.all_gather_object(gathered, "b")
            received = torch.empty_like(values)
            dist.all_to_all_single(received, values)
            assert (received.tolist(), objects, gathered) == ([1.0] * 3, [{"a": 1}], ["b"])
            model = DistributedDataParallel(
                nn.Linear(4, 4).to(machine.device),
                device_ids=[0] if machine.is_gpu else None,
            )
            model(torch.ones(2, 4, device=machine.device)).sum().backward()
        finally:
            dist.destroy_process_group()
    return {"backend": backend}


def stop_and_kill(machine: Machine) -> dict[str, Any]:
    """A run on all GPUs resumes after SIGTERM and after SIGKILL."""
    return _stop_and_kill("launch/train.py", machine.choose(torch.cuda.device_count(), 2))


def shared_gpu(machine: Machine) -> dict[str, Any]:
    """Two ranks on one GPU over gloo: SIGTERM or SIGKILL ends them, and the run resumes."""
    return _stop_and_kill(SHARED_GPU, 2)


def _stop_and_kill(script: str, processes: int) -> dict[str, Any]:
    found: dict[str, Any] = {"processes": processes}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in (signal.SIGTERM, signal.SIGKILL):
            run = folder / number.name
            changes = [*overrides("classification", folder), *LONG_RUN, f"run.dir={run}"]
            command = torchrun(script, *changes, "train.max_steps=400", nproc=processes)
            process = _start(command)
            _wait_for_updates(process, run, 8)
            begin = time.monotonic()
            process.send_signal(number)
            process.wait(TIMEOUT_SECONDS)
            found[f"{number.name}: seconds to end"] = time.monotonic() - begin
            time.sleep(2 * LAUNCHER_POLL_SECONDS)  # workers outlive a killed torchrun for a while
            end = max(losses(run)) + 20
            done = _run(torchrun(script, *changes, f"train.max_steps={end}", nproc=processes))
            assert done.returncode == 0, done.stderr[-3000:]
            assert "resuming from" in done.stderr
            assert max(losses(run)) == end
    return found


def elastic(machine: Machine) -> dict[str, Any]:
    """A run that starts with two ranks and resumes with one has the losses of a run with one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common = [*overrides("classification", folder), *LONG_RUN, "train.precision=fp32"]
        whole, resumed = f"run.dir={folder}/whole", f"run.dir={folder}/resumed"
        for command in (
            torchrun("launch/train.py", *common, whole, "train.max_steps=40", nproc=1),
            torchrun(SHARED_GPU, *common, resumed, "train.max_steps=20", nproc=2),
            torchrun("launch/train.py", *common, resumed, "train.max_steps=40", nproc=1),
        ):
            done = _run(command)
            assert done.returncode == 0, done.stderr[-3000:]
        expected, actual = losses(folder / "whole"), losses(folder / "resumed")
    assert expected.keys() == actual.keys()
    difference = max(abs(actual[step] - loss) for step, loss in expected.items())
    assert difference <= ELASTIC_TOLERANCE, (expected, actual)
    return {"largest difference of a loss": difference}


def too_many_ranks(machine: Machine) -> dict[str, Any]:
    """More ranks than GPUs are refused by one line; a CPU accepts them."""
    processes = machine.choose(torch.cuda.device_count() + 1, 2)
    with tempfile.TemporaryDirectory() as name:
        changes = [*overrides("classification", Path(name)), "train.max_steps=1"]
        done = _run(torchrun("launch/train.py", *changes, f"run.dir={name}/run", nproc=processes))
    lines = [line for line in done.stderr.splitlines() if "--nproc_per_node=" in line]
    assert bool(lines) == bool(done.returncode) == machine.is_gpu, done.stderr[-3000:]
    return {"line": lines[0] if lines else ""}


def _start(command: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, cwd=REPOSITORY, env=_env(), stderr=subprocess.DEVNULL)


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=_env(),
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT_SECONDS,
    )


def _env() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def _wait_for_updates(process: "subprocess.Popen[bytes]", run: Path, updates: int) -> None:
    end = time.monotonic() + TIMEOUT_SECONDS
    while len(losses(run)) < updates:
        assert time.monotonic() < end, f"no {updates} updates within {TIMEOUT_SECONDS} s"
        assert process.poll() is None, "the run has ended early"
        time.sleep(0.02)
