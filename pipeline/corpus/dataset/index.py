"""The index of a split: a NumPy file, `index.npy`, with one fixed-size record per block.

Each record can be located, read and verified by itself, so the file is never loaded or verified as
a whole. At a billion rows, it has 2 GB, of which a shuffle window reads a few hundred KB.
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


def record_dtype(rows_per_block: int) -> np.dtype[np.void]:
    """Return the dtype of a block's record: 32 bytes, plus 2 bytes per row.

    `record_crc32` is the checksum of the block's number and the rest of the record. It starts from
    the split's salt, so a record of another dataset's index does not match. `crc32` is the checksum
    of the block itself: `bytes` bytes at `offset` in the shard. `lengths` has the number of tokens
    of each row, 0 beyond `rows`.
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
    """Compute the `record_crc32` of each record, given the numbers of the blocks."""
    size = records.dtype.itemsize
    data = records.tobytes()
    starts = range(4, len(data), size)  # of each record, after its own checksum
    initial = (zlib.crc32(number.to_bytes(8, "little"), salt) for number in numbers)
    crcs = [
        zlib.crc32(data[start : start + size - 4], crc)
        for start, crc in zip(starts, initial, strict=True)
    ]
    return np.array(crcs, np.uint32)


def compute_salt(*identity: object) -> int:
    """Hash the values that identify a split of a dataset to a number."""
    return zlib.crc32(repr(identity).encode())


def write_records(
    path: Path, blocks: list[dict[str, Any]], first: int, rows_per_block: int, salt: int
) -> None:
    """Write the records of one shard to a file; its blocks are numbered from `first`.

    `write_index` concatenates the files of all shards.
    """
    records = np.zeros(len(blocks), record_dtype(rows_per_block))
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
    """Write the index of a split from the files of `write_records`, one per shard."""
    with atomic_file(path) as file:
        write_header(file, blocks, rows_per_block)
        for shard in shards:
            file.write(shard.read_bytes())


def write_header(file: Any, blocks: int, rows_per_block: int) -> None:
    """Write the .npy header of an index."""
    npy.write_array_header_1_0(
        file,
        {
            "descr": npy.dtype_to_descr(record_dtype(rows_per_block)),
            "fortran_order": False,
            "shape": (blocks,),
        },
    )
