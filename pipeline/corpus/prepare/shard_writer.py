"""Stage 3, a unit a shard: a fixed range of a split's rows, gathered from the parts into a tar."""

import io
import math
import tarfile
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from pipeline.corpus.dataset.blocks import Slice, blocks, to_bytes
from pipeline.corpus.dataset.index import write_records
from pipeline.corpus.dataset.manifest import Shard
from pipeline.corpus.prepare.work_dir import Job, Part, Totals, load_or_compute
from pipeline.corpus.worker_pool import MB, advance
from pipeline.storage.atomic import atomic_file


@dataclass(frozen=True)
class ShardPlan:
    """What a shard holds: its blocks, numbered through the split, and where their rows lie."""

    split: str
    number: int
    first_block: int
    slices: tuple[Slice, ...]
    salt: int


def plan_shards(
    job: Job, split: str, totals: Totals, parts: Sequence[Part], salt: int
) -> list[ShardPlan]:
    """Shards of about `shard_mb` and equal numbers of blocks: a function of the totals alone."""
    rows = job.settings.rows_per_block
    blocks = math.ceil(totals.rows / rows)
    shards = min(blocks, math.ceil(totals.bytes / MB / job.settings.shard_mb))
    ends = list(accumulate(part.splits[split].rows for part in parts))
    plans = []
    for number in range(shards):
        first, end = number * blocks // shards, (number + 1) * blocks // shards
        stop = min(end * rows, totals.rows)
        slices = []
        for place in range(bisect_right(ends, first * rows), bisect_left(ends, stop) + 1):
            begin = ends[place] - parts[place].splits[split].rows  # of the part's rows in the split
            path = job.part(parts[place].chunk, f"{split}.arrow")
            slices.append(Slice(path, max(first * rows - begin, 0), min(stop, ends[place]) - begin))
        plans.append(ShardPlan(split, number, first, tuple(slices), salt))
    return plans


def write_shard(job: Job, plan: ShardPlan) -> Shard:
    """Write one shard and its rows of the index."""
    done = job.packed(plan.split, plan.number, "json")
    return load_or_compute(done, Shard, lambda: _pack(job, plan))


def _pack(job: Job, plan: ShardPlan) -> Shard:
    path = job.shard(plan.split, plan.number)
    records: list[dict[str, Any]] = []
    with (
        atomic_file(path) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for number, block in enumerate(
            blocks(plan.slices, job.settings.rows_per_block), plan.first_block
        ):
            data = to_bytes(block)
            tokens: Any = block.column(0)
            member = tarfile.TarInfo(f"{number:08d}.arrow")  # mtime, uid and gid are 0
            member.size = data.size
            records.append(
                {
                    "shard": plan.number,
                    "offset": tar.offset + tarfile.BLOCKSIZE,
                    "bytes": data.size,
                    "rows": block.num_rows,
                    "crc32": zlib.crc32(data),
                    "lengths": tokens.value_lengths().to_numpy(),
                }
            )
            tar.addfile(member, io.BytesIO(data))
            advance(data.size)
    index = job.packed(plan.split, plan.number, "index")
    write_records(index, records, plan.first_block, job.settings.rows_per_block, plan.salt)
    return Shard(path.name, path.stat().st_size)
