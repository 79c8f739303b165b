"""The index of a split: one row a block, in one memory-mappable Arrow file.

Columns: `shard`, its number; `offset` and `bytes` of the member's data in the shard; `rows` of the
block; `crc32` of the member's data; `lengths`, the tokens of each row. The schema's metadata holds
under b"headrace" a JSON object of format, rows, tokens and max_length.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from pipeline.corpus.dataset import FORMAT
from pipeline.corpus.stages import Totals
from pipeline.corpus.work import landing

SCHEMA = pa.schema(
    [
        ("shard", pa.uint32()),
        ("offset", pa.uint64()),
        ("bytes", pa.uint64()),
        ("rows", pa.uint32()),
        ("crc32", pa.uint32()),
        ("lengths", pa.large_list(pa.uint16())),
    ]
)


def write_rows(path: Path, rows: pa.RecordBatch) -> None:
    """The blocks of one shard, beside it until `write_index` joins them."""
    with landing(path) as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        stream.write_batch(rows)


def write_index(path: Path, shards: Iterable[Path], totals: Totals) -> None:
    """Join what `write_rows` left of each shard, a record batch a shard."""
    facts = {
        "format": FORMAT,
        "rows": totals.rows,
        "tokens": totals.tokens,
        "max_length": totals.max_length,
    }
    schema = SCHEMA.with_metadata({"headrace": json.dumps(facts)})
    with landing(path) as file, pa.ipc.new_file(file, schema) as index:
        for shard in shards:
            with pa.memory_map(str(shard)) as rows:
                (batch,) = pa.ipc.open_stream(rows)
                index.write_batch(batch.replace_schema_metadata(schema.metadata))
