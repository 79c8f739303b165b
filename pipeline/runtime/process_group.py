"""The ranks of a run: who this process is, and the few things that ranks tell each other.

Everything else in the package works on one device and knows no rank.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import TrainingError
from pipeline.runtime.memory import keep_freed_memory

START_TIMEOUT = timedelta(seconds=300)


@dataclass(frozen=True)
class RankInfo:
    """Where torchrun has put this process; a lone process is rank 0 of 1."""

    rank: int
    local_rank: int
    size: int

    @classmethod
    def from_environment(cls) -> "RankInfo":
        env = os.environ
        return cls(
            int(env.get("RANK", 0)), int(env.get("LOCAL_RANK", 0)), int(env.get("WORLD_SIZE", 1))
        )


@dataclass(frozen=True)
class World:
    """The process group; without one (a lone process) each method does the obvious."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Add up over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def from_first(self, value: Any) -> Any:
        """Rank 0's value on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def exchange(self, values: Tensor, ranks: Tensor) -> Tensor:
        """Send each of the `values` [n, ...], on the CPU, to the rank that `ranks` [n] names.

        Returns those sent here, by the rank that they come from and then in its order.
        """
        if self.size == 1:
            return values
        sent = torch.bincount(ranks, minlength=self.size).to(self.device)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent)
        values = values[ranks.argsort(stable=True)].to(self.device)
        found = values.new_empty(int(received.sum()), *values.shape[1:])
        dist.all_to_all_single(found, values, received.tolist(), sent.tolist())
        return found.cpu()

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over the ranks."""
        if self.size == 1:
            return model
        return DistributedDataParallel(
            model,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
        )


@contextmanager
def connect(place: RankInfo) -> Iterator[World]:
    """Join the process group that torchrun's environment describes, if there is one."""
    if torch.cuda.is_available():
        gpus, processes = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        if processes > gpus:
            raise TrainingError(
                f"--nproc_per_node={processes}: this machine has {gpus} GPU(s), and each process "
                f"needs its own; start {gpus}, or set CUDA_VISIBLE_DEVICES= to use CPU cores"
            )
        device = torch.device("cuda", place.local_rank)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
        use_one_core()
    if place.size == 1:
        yield World(0, 1, device)
        return
    # After a restart by torchrun the old attempt's addresses are still in its store; a prefix an
    # attempt keeps workers from reading them.
    store, rank, size = next(rendezvous("env://", timeout=START_TIMEOUT))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore(f"attempt-{attempt}", store),
        rank=rank,
        world_size=size,
        timeout=START_TIMEOUT,
        device_id=device if device.type == "cuda" else None,
    )
    try:
        yield World(rank, size, device)
    finally:
        # A failed rank must not wait here for the others, nor they for it.
        if sys.exc_info()[0] is None:
            dist.destroy_process_group()


def use_one_core() -> None:
    """Set up a process that computes on one CPU core."""
    torch.set_num_threads(1)  # oneDNN's LSTM on two threads can be 50 times slower than on one
    keep_freed_memory()


def lost_peer(error: RuntimeError) -> bool:
    """Whether a collective failed because another rank is gone."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
