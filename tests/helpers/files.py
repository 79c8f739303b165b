"""Writes raw files in every format, and reads the content of datasets prepared from them."""

import csv
import gzip
import io
import json
import random
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.readers.base import Reader
from pipeline.corpus.readers.opening import open_corpus_file
from pipeline.corpus.row import Row
from pipeline.corpus.tokenization.text_encoder import EncodedText
from tests.helpers.settings import corpus_settings

FIELDS = (FieldSpec("tokens", "text", "text"), FieldSpec("label", "label", "label"))
WORDS = [
    "the", "a", "film", '"quoted"', "plot,", "of\nand", "was;", "it", "—", "naïve", "映画", "été",
    "100", "don't", "<b>", "</s>", "<pad>", "🙂", "x\ty",
]  # fmt: skip

Rows = list[dict[str, Any]]


def reviews(count: int, seed: int = 0) -> Rows:
    """Return rows of 2 to 41 words, including characters that file formats must escape.

    Each text ends in a unique word; no field reads the column `source`.
    """
    rng = random.Random(seed)
    return [
        {
            "text": " ".join([*rng.choices(WORDS, k=rng.randint(1, 40)), f"n{seed}-{number}"]),
            "label": rng.choice(["negative", "positive"]),
            "source": "a",
        }
        for number in range(count)
    ]


def as_lists(encoded: Iterable[EncodedText]) -> list[tuple[list[list[int]], bool]]:
    """Return encoded texts as (token ids of each row, long), which can be compared."""
    return [([ids.tolist() for ids in text.rows], text.long) for text in encoded]


def write(path: Path, rows: Rows, row_group: int = 100) -> Path:
    """Write rows in the format of the path's suffix, and return the path."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=row_group)
        return path
    uncompressed = path.with_suffix("") if path.suffix == ".gz" else path
    if uncompressed.suffix == ".tar":
        members = ((f"{n:06d}.json", json.dumps(row).encode()) for n, row in enumerate(rows))
        pack(uncompressed, members)
    else:
        _write_text(uncompressed, rows)
    if uncompressed != path:
        path.write_bytes(gzip.compress(uncompressed.read_bytes()))
        uncompressed.unlink()
    return path


def pack(
    path: Path, members: Iterable[tuple[str, bytes]], dialect: int = tarfile.USTAR_FORMAT
) -> Path:
    """Write a tar archive of (name, content) members, and return its path."""
    with tarfile.open(path, "w", format=dialect) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def _write_text(path: Path, rows: Rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)


def settings_in(folder: Path, **changes: Any) -> Any:
    """Return settings for the CSV files of a folder, with limits so small that a thousand rows of
    `reviews` have several shards, blocks and input chunks."""
    values: dict[str, Any] = {
        "input": "*.csv", "root": str(folder), "shards": str(folder / "shards"), "workers": 1,
        "vocab_size": 400, "max_tokens": 60, "lowercase": False, "rows_per_block": 32,
        "shard_mb": 0.02, "chunk_mb": 0.02, "tokenizer_sample_mb": 1.0, "validation": 0.2,
    }  # fmt: skip
    return corpus_settings(**(values | changes))


def open_reader(
    path: Path,
    columns: Sequence[str],
    column_names: Sequence[str] = (),
    file_format: str = "",
    **keys: Any,
) -> AbstractContextManager[Reader]:
    """Open a file with the given values of `corpus.columns`, `corpus.format` and other keys."""
    values = {"columns": list(column_names), "format": file_format, **keys}
    return open_corpus_file(settings_in(path.parent, **values), path, columns)


def read(
    path: Path,
    columns: Sequence[str],
    column_names: Sequence[str] = (),
    file_format: str = "",
    **keys: Any,
) -> Iterator[Row]:
    """Yield every row of a file; arguments as for `open_reader`."""
    with open_reader(path, columns, column_names, file_format, **keys) as reader:
        yield from reader


def content(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, by relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def values_of(row: Row) -> dict[str, Any]:
    """Return `row.values`, which must not be None: the row has a value for each column."""
    assert row.values is not None
    return row.values


def row_dicts(manifest: Manifest, split: str) -> Rows:
    """Return the rows of a split, as dicts from column to value, in the order of its index."""
    rows: Rows = []
    for entry in np.load(manifest.index(split)):
        shard = manifest.shard(split, entry["shard"]).read_bytes()
        member = shard[int(entry["offset"]) :][: int(entry["bytes"])]
        rows += pa.ipc.open_stream(member).read_all().to_pylist()
    return rows


def token_label_pairs(manifest: Manifest, split: str) -> list[tuple[list[int], int]]:
    """Return (tokens, label) of each row of a split, in the order of its index."""
    return [(row["tokens"], row["label"]) for row in row_dicts(manifest, split)]
