"""The stage "write shards", one work item per shard: collect a range of a split's rows in a tar."""

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
from pipeline.corpus.prepare.work_dir import Part, PreparationContext, Totals, load_or_compute
from pipeline.corpus.worker_pool import MB, advance
from pipeline.storage.atomic import atomic_file


@dataclass(frozen=True)
class ShardPlan:
    """A shard to write."""

    split: str
    number: int
    first_block: int
    """Number of its first block in the split."""
    slices: tuple[Slice, ...]
    """The rows of its blocks, in the files of the parts."""
    salt: int
    """Start value of the checksums of the index records."""


def plan_shards(
    context: PreparationContext, split: str, totals: Totals, parts: Sequence[Part], salt: int
) -> list[ShardPlan]:
    """Divide a split into shards of about `shard_mb`.

    Their numbers of blocks differ by at most one. Which rows a
    shard has depends only on the totals, not on how the rows are divided into parts.
    """
    rows_per_block = context.settings.rows_per_block
    block_count = math.ceil(totals.rows / rows_per_block)
    shard_count = min(block_count, math.ceil(totals.bytes / MB / context.settings.shard_mb))
    # Number of the split's rows up to the end of each part.
    part_ends = list(accumulate(part.splits[split].rows for part in parts))
    plans = []
    for number in range(shard_count):
        first_block = number * block_count // shard_count
        end_block = (number + 1) * block_count // shard_count
        start = first_block * rows_per_block
        stop = min(end_block * rows_per_block, totals.rows)
        slices = []
        # The parts that overlap rows [start, stop): from the first that ends after `start` to the
        # first that reaches `stop`. Empty parts at the borders are left out.
        for index in range(bisect_right(part_ends, start), bisect_left(part_ends, stop) + 1):
            part, part_end = parts[index], part_ends[index]
            part_start = part_end - part.splits[split].rows
            path = context.part_path(part.chunk, f"{split}.arrow")
            slices.append(Slice(path, max(start - part_start, 0), min(stop, part_end) - part_start))
        plans.append(ShardPlan(split, number, first_block, tuple(slices), salt))
    return plans


def write_shard(context: PreparationContext, plan: ShardPlan) -> Shard:
    """Write a shard and its blocks' index records, unless an earlier run did; return its name and
    size. Raises DatasetError if the disk fails."""
    path = context.packed_path(plan.split, plan.number, "json")
    return load_or_compute(path, Shard, lambda: _write_shard(context, plan))


def _write_shard(context: PreparationContext, plan: ShardPlan) -> Shard:
    path = context.shard_path(plan.split, plan.number)
    records: list[dict[str, Any]] = []
    with (
        atomic_file(path) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for block_number, block in enumerate(
            blocks(plan.slices, context.settings.rows_per_block), plan.first_block
        ):
            data = to_bytes(block)
            first_column: Any = block.column(0)  # its lists have the rows' lengths
            member = tarfile.TarInfo(f"{block_number:08d}.arrow")  # mtime, uid and gid are 0
            member.size = data.size
            records.append(
                {
                    "shard": plan.number,
                    # the data follow the member's header, which is one block of the tar format
                    "offset": tar.offset + tarfile.BLOCKSIZE,
                    "bytes": data.size,
                    "rows": block.num_rows,
                    "crc32": zlib.crc32(data),
                    "lengths": first_column.value_lengths().to_numpy(),
                }
            )
            tar.addfile(member, io.BytesIO(data))
            advance(data.size)
    records_path = context.packed_path(plan.split, plan.number, "index")
    write_records(
        records_path, records, plan.first_block, context.settings.rows_per_block, plan.salt
    )
    return Shard(path.name, path.stat().st_size)
