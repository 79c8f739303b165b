"""Train with several processes on one GPU, or on a CPU, over gloo.

    torchrun --nproc_per_node=2 benchmarks/gpu_parts/shared_gpu.py [key=value ...]

Headrace itself refuses more processes than GPUs, because they would only be slower. This entry
point exists to check code for several ranks on a machine with one GPU.
"""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.cli import common, train
from pipeline.runtime import device, process_group
from pipeline.runtime.launcher import RankInfo
from pipeline.runtime.process_group import World

choose_device, init_process_group, exchange = (
    device.choose_device, dist.init_process_group, World.exchange
)  # fmt: skip


def choose_first(info: RankInfo) -> torch.device:
    """Return the first GPU for every rank, if there is a GPU."""
    with patch.dict(os.environ, LOCAL_WORLD_SIZE="1"):
        return choose_device(RankInfo())


def connect_by_gloo(_: str, **options: Any) -> None:
    init_process_group("gloo", **{**options, "device_id": None})


def exchange_on_cpu(world: World, values: Tensor, ranks: Tensor) -> Tensor:
    """Exchange rows in CPU memory, as gloo does not exchange tensors of a GPU."""
    return exchange(World(world.rank, world.size, torch.device("cpu")), values, ranks)


if __name__ == "__main__":
    with (
        patch.object(process_group, "choose_device", choose_first),
        patch.object(dist, "init_process_group", connect_by_gloo),
        patch.object(World, "exchange", exchange_on_cpu),
    ):
        common.run(partial(train.main, program="shared_gpu.py"), distributed=True)
