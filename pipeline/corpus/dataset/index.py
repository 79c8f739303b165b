"""The index of a split: a NumPy file, `index.npy`, of one record a block, all of one size.

A record can be found, read and checked by itself, so that nothing has to be loaded or verified as a
whole: at a billion rows the file has 2 GB, of which a window of the plan reads some hundred KB.
"""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipeline.storage.atomic import atomic_file

Records = NDArray[np.void]


def record(rows_per_block: int) -> np.dtype[np.void]:
    """What the index says of a block, in 32 bytes and two a row.

    `record_crc32` is of the block's number and the rest of the record, begun with the salt of the
    split, which tells another dataset's index from this one's; `crc32` is of the block's `bytes` at
    `offset` in the shard. `lengths` are the tokens of each row, 0 past `rows`.
    """
    return np.dtype(
        [
            ("record_crc32", "<u4"),
            ("crc32", "<u4"),
            ("shard", "<u4"),
            ("rows", "<u4"),
            ("offset", "<u8"),
            ("bytes", "<u8"),
            ("lengths", "<u2", (rows_per_block,)),
        ]
    )


def checksums(records: Records, salt: int, numbers: Iterable[int]) -> NDArray[np.uint32]:
    """What `record_crc32` of each record ought to be, given the numbers of the blocks."""
    size = records.dtype.itemsize
    data = records.tobytes()
    places = range(4, len(data), size)
    begun = (zlib.crc32(number.to_bytes(8, "little"), salt) for number in numbers)
    found = [
        zlib.crc32(data[place : place + size - 4], crc)
        for place, crc in zip(places, begun, strict=True)
    ]
    return np.array(found, np.uint32)


def salt_of(*facts: object) -> int:
    """A number that differs between datasets and splits."""
    return zlib.crc32(repr(facts).encode())


def write_records(
    path: Path, blocks: list[dict[str, Any]], first: int, rows_per_block: int, salt: int
) -> None:
    """The records of one shard, whose blocks are numbered from `first`, beside it until
    `write_index` joins them."""
    records = np.zeros(len(blocks), record(rows_per_block))
    for entry, block in zip(records, blocks, strict=True):
        for name, value in block.items():
            if name == "lengths":
                entry[name][: len(value)] = value
            else:
                entry[name] = value
    records["record_crc32"] = checksums(records, salt, range(first, first + len(records)))
    with atomic_file(path) as file:
        file.write(records.tobytes())


def write_index(path: Path, shards: Iterable[Path], blocks: int, rows_per_block: int) -> None:
    """Join what `write_records` left of each shard."""
    with atomic_file(path) as file:
        write_header(file, blocks, rows_per_block)
        for shard in shards:
            file.write(shard.read_bytes())


def write_header(file: Any, blocks: int, rows_per_block: int) -> None:
    npy.write_array_header_1_0(
        file,
        {
            "descr": npy.dtype_to_descr(record(rows_per_block)),
            "fortran_order": False,
            "shape": (blocks,),
        },
    )
