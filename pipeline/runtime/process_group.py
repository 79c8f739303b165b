"""The process group of a run: this process's rank, and the collectives that ranks use.

Everything below this package works on one device and knows no rank.
"""

import logging
import os
import socket
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
from pipeline.runtime.device import SHARED_MEMORY, choose_device
from pipeline.runtime.launcher import RankInfo, local_size, notice_of_waiting

logger = logging.getLogger(__name__)

START_TIMEOUT = timedelta(seconds=300)
"""Limit for all ranks to appear and, with gloo, for a collective."""
NCCL_TIMEOUT = timedelta(minutes=30)
"""Limit for a collective on GPUs: the others wait in one while rank 0 writes a checkpoint. If a
rank dies, torchrun ends the others much earlier."""
LOOPBACK, LOOPBACK_INTERFACE = "127.0.0.1", "lo"


@dataclass(frozen=True)
class World:
    """Collectives over the process group; trivial for a single process, which has no group."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over all ranks, in place, and return it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def from_first(self, value: Any) -> Any:
        """Return rank 0's value, on every rank."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks in rank order, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def exchange(self, values: Tensor, ranks: Tensor) -> Tensor:
        """Send each row of `values` [n, ...], a CPU tensor, to the rank that `ranks` [n] names.

        Returns the rows sent to this rank, ordered by sending rank, then in the sender's order.
        """
        if self.size == 1:
            return values
        sent = torch.bincount(ranks, minlength=self.size).to(self.device)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent)
        values = values[ranks.argsort(stable=True)].to(self.device)
        arrived = values.new_empty(int(received.sum()), *values.shape[1:])
        dist.all_to_all_single(arrived, values, received.tolist(), sent.tolist())
        return arrived.cpu()

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model with gradients averaged over the ranks."""
        if self.size == 1:
            return model
        return DistributedDataParallel(
            model,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
        )


@contextmanager
def connect(info: RankInfo) -> Iterator[World]:
    """Join the process group that torchrun's environment describes, if there is one.

    Raises TrainingError if this process cannot have a GPU of its own (see `choose_device`), or if
    the other processes do not appear in time.
    """
    device = choose_device(info)
    if info.size == 1:
        yield World(0, 1, device)
        return
    _use_loopback_if_unresolvable(info)
    with _waiting(info):
        store, rank, size = next(rendezvous("env://", timeout=START_TIMEOUT))
        is_gpu = device.type == "cuda"
        dist.init_process_group(
            "nccl" if is_gpu else "gloo",
            store=PrefixStore(_attempt(info), store),
            rank=rank,
            world_size=size,
            timeout=NCCL_TIMEOUT if is_gpu else START_TIMEOUT,
            device_id=device if is_gpu else None,
        )
    try:
        yield World(rank, size, device)
    finally:
        # After an error neither this rank nor the others may wait for each other here.
        if sys.exc_info()[0] is None:
            dist.destroy_process_group()


def _attempt(info: RankInfo) -> str:
    """Return the prefix of this attempt's keys in the store, the same on all ranks.

    If the ranks use the store of torchrun's agent, it still holds the addresses of the attempt
    before a restart, which must not be read. Each node counts the restarts of its own agent, so a
    node that was replaced would use another prefix than the others. Nodes must therefore not share
    the agent's store: each attempt then has a store of its own.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return "attempt"
    if info.size > local_size() and info.rank == 0:
        logger.warning(
            "a node that is lost cannot be replaced; set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for "
            "torchrun on all nodes"
        )
    return f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


@contextmanager
def _waiting(info: RankInfo) -> Iterator[None]:
    """Raise TrainingError if the other processes do not appear in the block, which waits."""
    address = ":".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    try:
        with notice_of_waiting(info, f"the other processes at {address}"):
            yield
    except dist.DistError as error:
        if SHARED_MEMORY in str(error):
            raise
        reason = str(error).strip().splitlines()[0]
        failure = TrainingError(
            f"WORLD_SIZE={info.size}: the processes did not find each other at {address} "
            f"({reason}); start them with torchrun, or unset RANK and WORLD_SIZE to train in one "
            f"process"
        )
        failure.local = failure.restart = True
        raise failure from None


def is_lost_peer(error: RuntimeError) -> bool:
    """Return whether a collective failed because another rank has ended."""
    if SHARED_MEMORY in str(error):
        return False
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _use_loopback_if_unresolvable(info: RankInfo) -> None:
    """Rendezvous over the loopback if all ranks are on this machine and its name does not resolve.

    That is so on laptops with a VPN and in minimal machines and containers, where c10d would retry
    for minutes. torchrun itself retries before it starts any worker, unless it is started with
    --local-addr=localhost (or with --master-addr and --master-port).
    """
    env = os.environ
    host = env.get("MASTER_ADDR", "")
    if local_size() != info.size or _resolves(host):
        return
    env["MASTER_ADDR"] = LOOPBACK
    if sys.platform.startswith("linux"):
        env.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK_INTERFACE)
    logger.info("the host name %s does not resolve; using %s", host, LOOPBACK)


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True
