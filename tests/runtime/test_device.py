"""Choice of the device, and transfers that do not wait for a GPU, with substitutes for the GPU."""

import os
import subprocess
import time
from typing import Any

import pytest
import torch

from pipeline.errors import TrainingError
from pipeline.runtime.device import (
    HostCopy,
    choose_device,
    memory_errors,
    pinned,
    to_device,
    use_deterministic_algorithms,
)
from pipeline.runtime.launcher import RankInfo
from pipeline.runtime.process_group import is_lost_peer
from pipeline.stream.batch import Batch

LISTED = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\n  MIG 1g.10gb Device 0: (UUID: MIG-1)\n"
HINT = "or set CUDA_VISIBLE_DEVICES= to use CPU cores"


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose driver lists a GPU that torch cannot use."""

    def run(*_: Any, **__: Any) -> Any:
        return type("Done", (), {"stdout": LISTED, "returncode": 0})

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    "cuda, reason",
    [("13.0", "for CUDA 13.0 and cannot initialize it"), (None, "without CUDA")],
)
def test_gpu_that_torch_cannot_use_is_an_error(
    cuda: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(TrainingError) as error:
        choose_device(RankInfo())
    (line,) = error.value.lines
    assert line.startswith("GPU 0: NVIDIA H100 80GB HBM3: torch ")
    assert reason in line
    assert line.endswith(HINT)


@pytest.mark.usefixtures("driver")
def test_empty_cuda_visible_devices_chooses_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device(RankInfo()) == torch.device("cpu")


def test_machine_without_a_driver_uses_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PATH", "")
    assert choose_device(RankInfo()) == torch.device("cpu")


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_process_gets_its_own_gpu(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    if processes > 2:
        with pytest.raises(TrainingError, match=r"--nproc_per_node=3: this machine has 2 GPU"):
            choose_device(RankInfo(size=processes))
        assert choose_device(RankInfo()) == torch.device("cuda", 0), "prediction needs one GPU"
        return
    local = processes - 1
    assert choose_device(RankInfo(local, local, processes)) == torch.device("cuda", local)
    assert current == [torch.device("cuda", local)]
    assert not torch.backends.cudnn.allow_tf32, "fp32 means fp32 in recurrent layers too"


def test_deterministic_algorithms_are_chosen_for_all_libraries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with torch.backends.cudnn.flags(deterministic=False):
        use_deterministic_algorithms()
        try:
            assert torch.backends.cudnn.deterministic
            assert torch.are_deterministic_algorithms_enabled()
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
        finally:
            torch.use_deterministic_algorithms(False)
            monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")


def test_reading_a_copy_waits_until_the_device_has_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = HostCopy(torch.tensor([1.0, 2.0]))
    answers = [False, False, True]
    naps: list[float] = []
    copy._event = type("Event", (), {"query": lambda self: answers.pop(0)})()
    monkeypatch.setattr(time, "sleep", naps.append)
    assert copy.tolist() == [1.0, 2.0]
    assert len(naps) == 2


def test_nothing_is_copied_for_a_cpu() -> None:
    tensor = torch.arange(3)
    assert to_device(tensor, torch.device("cpu")) is tensor
    batch = Batch({"tokens": tensor}, tensor, tensor, tensor)
    (same,) = pinned([batch], torch.device("cpu"))
    assert same is batch
    assert batch.to(torch.device("cpu")).columns["tokens"] is tensor


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["GPU", "CPU", "context", "cuBLAS"],
)
def test_out_of_memory_is_one_line_that_names_the_keys(error: Exception) -> None:
    @memory_errors()
    def train() -> None:
        raise error

    for _ in range(2):
        with pytest.raises(TrainingError, match=r"out of memory on .*; lower stream\.token_budget"):
            train()


def test_small_shared_memory_is_one_line_with_the_remedy() -> None:
    """NCCL's message, of a container whose /dev/shm has 64 MB."""
    text = (
        "NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled system error\nLast error:\n"
        "Error while creating shared memory segment /dev/shm/nccl-ymmBLJ (size 33030528)"
    )
    with pytest.raises(TrainingError) as caught, memory_errors():
        raise RuntimeError(text)
    (line,) = caught.value.lines
    assert line.startswith("/dev/shm: too small")
    assert "(size 33030528)" in line
    assert "--shm-size=1g" in line
    assert caught.value.local
    assert not is_lost_peer(RuntimeError(f"gloo: {text}"))


def test_other_errors_keep_their_type() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"), memory_errors():
        raise RuntimeError("size mismatch")
