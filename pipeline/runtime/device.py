"""What differs between a GPU and a CPU: choice of the device, its flags, and transfers."""

import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pipeline.errors import TrainingError
from pipeline.runtime.launcher import RankInfo, local_size
from pipeline.runtime.memory import keep_freed_memory, limit_primitive_caches
from pipeline.stream.batch import Batch

CPU_OUT_OF_MEMORY = "DefaultCPUAllocator"
SHARED_MEMORY = "/dev/shm"
CUDA_ERRORS = ("CUDA error: out of memory", "ALLOC_FAILED")
"""Parts of error messages of CUDA outside torch's allocator, and of CUDA's libraries."""
POLL_SECONDS = 2e-4
"""Time between two checks of whether the GPU has finished."""


def choose_device(info: RankInfo) -> torch.device:
    """Return this process's device, the GPU of its local rank or else the CPU, and configure it.

    Raises TrainingError if this node has fewer GPUs than processes, or has a GPU that torch cannot
    use, because training would otherwise silently run on the CPU.
    """
    if not torch.cuda.is_available():
        _check_no_unusable_gpu()
        use_one_core()
        return torch.device("cpu")
    gpus, processes = torch.cuda.device_count(), local_size() if info.size > 1 else 1
    if processes > gpus:
        raise TrainingError(
            f"--nproc_per_node={processes}: this machine has {gpus} GPU(s), and each process "
            f"needs its own; start {gpus}, or set CUDA_VISIBLE_DEVICES= to use CPU cores"
        )
    device = torch.device("cuda", info.local_rank)
    torch.cuda.set_device(device)
    disable_tf32()
    return device


def use_deterministic_algorithms() -> None:
    """Enable deterministic algorithms in PyTorch, cuDNN and cuBLAS.

    Must be called before the first computation on a GPU, as cuBLAS reads its setting only then. An
    operation without such an algorithm stays nondeterministic, and PyTorch warns and names it.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = True


def disable_tf32() -> None:
    """Compute fp32 in fp32: PyTorch's default is TF32 in cuDNN's layers, but not in linear ones."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def use_one_core() -> None:
    """Configure a process to compute on one CPU core."""
    torch.set_num_threads(1)  # oneDNN's LSTM can be 50 times slower with two threads
    keep_freed_memory()
    limit_primitive_caches()


def pinned(batches: Iterable[Batch], device: torch.device) -> list[Batch]:
    """Copy batches to pinned host memory, so that copies to a GPU can be asynchronous.

    Does nothing for a CPU.
    """
    return [b.map(Tensor.pin_memory) if device.type == "cuda" else b for b in batches]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to the device without waiting for the work that is queued there."""
    if device.type == "cpu":
        return tensor
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise TrainingError where torch ran out of memory: of the GPU, the CPU or /dev/shm."""
    try:
        yield
    except RuntimeError as error:  # of which torch.OutOfMemoryError is a subclass
        by_torch, text = isinstance(error, torch.OutOfMemoryError), str(error)
        if SHARED_MEMORY in text:  # of NCCL
            raise _shared_memory_error(text) from error
        if not by_torch and not any(part in text for part in (CPU_OUT_OF_MEMORY, *CUDA_ERRORS)):
            raise
        place = "the CPU" if CPU_OUT_OF_MEMORY in text else "the GPU"
        if by_torch and torch.cuda.is_available():
            free, total = (bytes_ / 2**30 for bytes_ in torch.cuda.mem_get_info())
            place = f"{torch.cuda.get_device_name()} ({free:.1f} of {total:.1f} GiB free)"
        message = (
            f"out of memory on {place}; lower stream.token_budget or, in training, raise "
            f"stream.accumulation_steps (smaller batches per update) or use a smaller model"
        )
        memory_error = TrainingError(message)
        memory_error.local = True
        raise memory_error from error


def _shared_memory_error(text: str) -> TrainingError:
    line = next(line for line in text.splitlines() if SHARED_MEMORY in line)
    error = TrainingError(
        f"{SHARED_MEMORY}: too small for the processes of this machine ({line.strip()}); start the "
        f"container with a larger one (docker run --shm-size=1g or --ipc=host), or set "
        f"NCCL_SHM_DISABLE=1"
    )
    error.local = True
    return error


class HostCopy:
    """A copy of a tensor in host memory, made once the device has computed the tensor.

    Reading a GPU's tensor directly would also wait for all work queued after it.
    """

    def __init__(self, values: Tensor) -> None:
        self._values, self._event = values, None
        if values.is_cuda:
            self._values = torch.empty_like(values, device="cpu", pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def tolist(self) -> list[float]:
        """Wait for the copy and return its values.

        Sleeps instead of blocking in CUDA, so that handlers of signals can run.
        """
        while self._event is not None and not self._event.query():
            time.sleep(POLL_SECONDS)
        values: list[float] = self._values.tolist()
        return values


def _gpus_of_driver() -> list[str]:
    """Return the GPUs that the NVIDIA driver lists, one line each, whether torch can use them or
    not."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return [line for line in lines if line.startswith("GPU ")]


def _check_no_unusable_gpu() -> None:
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not (gpus := _gpus_of_driver()):
        return
    name = gpus[0].split(" (")[0]
    reason = (
        f"torch {torch.__version__} is built for CUDA {torch.version.cuda} and cannot initialize "
        f"it; update the NVIDIA driver, install a torch for an older CUDA"
        if torch.version.cuda
        else f"torch {torch.__version__} is built without CUDA; install a torch with CUDA"
    )
    raise TrainingError(f"{name}: {reason}, or set CUDA_VISIBLE_DEVICES= to use CPU cores")
