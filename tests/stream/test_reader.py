"""Damage to a dataset is detected, reported with its block, and never returned as rows."""

import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.corpus.dataset.blocks import to_bytes
from pipeline.corpus.dataset.index import checksums
from pipeline.corpus.dataset.manifest import Manifest, open_dataset
from pipeline.errors import DatasetError
from pipeline.stream.opening import open_loader
from pipeline.stream.plan import Position
from pipeline.stream.reader import Reader
from pipeline.stream.settings import StreamSettings

BLOCK = 3
"""Number of the damaged block; the corpus has about fifty blocks."""


@pytest.fixture
def copy(manifest: Manifest, tmp_path: Path) -> Path:
    return shutil.copytree(manifest.path, tmp_path / "shards")


def locate_block(folder: Path, number: int) -> tuple[Path, int, int]:
    """Return a block's shard, first byte and end."""
    manifest = open_dataset(folder, whole=False)
    record = np.load(manifest.index("train"))[number]
    start = int(record["offset"])
    return manifest.shard("train", record["shard"]), start, start + int(record["bytes"])


def flip(folder: Path) -> None:
    shard, start, _ = locate_block(folder, BLOCK)
    data = bytearray(shard.read_bytes())
    data[start + 100] ^= 4
    shard.write_bytes(data)


def truncate(folder: Path) -> None:
    shard, start, _ = locate_block(folder, BLOCK)
    shard.write_bytes(shard.read_bytes()[: start + 10])


def remove(folder: Path) -> None:
    locate_block(folder, BLOCK)[0].unlink()


def rewrite(folder: Path, change: Callable[[pa.RecordBatch], pa.RecordBatch]) -> None:
    """Change a block's content and update all checksums, as in a malicious dataset."""
    manifest = open_dataset(folder, whole=False)
    records = np.load(manifest.index("train"))
    shard, start, stop = locate_block(folder, BLOCK)
    rows = pa.ipc.open_stream(shard.read_bytes()[start:stop]).read_next_batch()
    data = to_bytes(change(rows)).to_pybytes()
    content = shard.read_bytes()
    shard.write_bytes(content[:start] + data + content[start + len(data) :])
    records["bytes"][BLOCK], records["crc32"][BLOCK] = len(data), zlib.crc32(data)
    salt = manifest.splits["train"].salt
    records["record_crc32"] = checksums(records, salt, range(len(records)))
    np.save(manifest.index("train"), records)


def with_wider_tokens(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows.set_column(0, "tokens", rows.column(0).cast(pa.list_(pa.uint32())))


def with_a_null_label(rows: pa.RecordBatch) -> pa.RecordBatch:
    labels = pa.array([None, *rows.column(1).to_pylist()[1:]], pa.int32())
    return rows.set_column(1, "label", labels)


@pytest.mark.parametrize("change", [with_wider_tokens, with_a_null_label])
def test_wrong_content_with_valid_checksums_is_detected(copy: Path, change: Any) -> None:
    rewrite(copy, change)
    reader = Reader(open_dataset(copy, whole=False), "train")
    with pytest.raises(DatasetError, match=r"block 3 at byte \d+ does not"):
        list(reader.blocks(reader.index.read(np.array([BLOCK]))))


def test_swapped_index_records_are_detected(copy: Path) -> None:
    path = copy / "train" / "index.npy"
    records = np.load(path)
    np.save(path, records[[1, 0, *range(2, len(records))]])
    with pytest.raises(DatasetError, match="the record of block 0 has checksum"):
        Reader(open_dataset(copy), "train").index.read(np.array([0, 1]))


def swap(folder: Path) -> None:
    """Replace a shard by one of another split."""
    shutil.copy(folder / "validation" / "00000.tar", folder / "train" / "00000.tar")


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "flipped": (
        flip,
        r"00000\.tar: block 3 at byte \d+ has checksum \w{8}, but the index has \w{8}",
    ),
    "truncated": (truncate, r"block 3 at byte \d+ cannot be read .*ends before byte"),
    "missing": (remove, r"block 3 at byte \d+ cannot be read .*No such file"),
    "swapped": (swap, r"00000\.tar: block 3 at byte \d+"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_an_error_names_the_damaged_block(copy: Path, case: str) -> None:
    damage, message = DAMAGE[case]
    damage(copy)
    reader = Reader(open_dataset(copy, whole=False), "train")
    with pytest.raises(DatasetError, match=message):
        list(reader.blocks(reader.index.read(np.array([BLOCK]))))


@pytest.mark.parametrize("case", DAMAGE)
def test_skipped_blocks_do_not_change_the_plan(
    copy: Path, manifest: Manifest, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream = StreamSettings(lanes=12, shuffle_window=1, token_budget=768, on_corrupt="skip")
    expected = list(open_loader(manifest, stream).epoch(Position()))
    DAMAGE[case][0](copy)
    damaged = list(open_loader(open_dataset(copy, whole=False), stream).epoch(Position()))
    assert [u.after for u in damaged] == [u.after for u in expected]
    for a, b in zip(damaged, expected, strict=True):
        (x,), (y,) = a.batches, b.batches
        assert (a.rows, a.tokens, a.padded_tokens) == (b.rows, b.tokens, b.padded_tokens)
        assert x.lengths.equal(y.lengths)
        assert x.keys.equal(y.keys)
        intact = x.weights > 0
        assert a.skipped == int((~intact).sum())
        assert x.columns["tokens"][intact].equal(y.columns["tokens"][intact])
        assert not x.columns["tokens"][~intact].any()
    skipped = sum(u.skipped for u in damaged)
    warnings = [
        re.search(r"block (\d+) at byte .*; its (\d+) rows are skipped$", message)
        for message in caplog.messages
    ]
    numbers, rows = zip(*(map(int, match.groups()) for match in warnings if match), strict=True)
    assert BLOCK in numbers
    assert len(set(numbers)) == len(caplog.messages)
    assert skipped == sum(rows) > 0


def test_the_index_of_another_split_is_detected(copy: Path) -> None:
    """Even if the shard was replaced with it, and if the number of blocks matches."""
    for name in ("index.npy", "00000.tar"):
        shutil.copy(copy / "validation" / name, copy / "train" / name)
    with pytest.raises(DatasetError, match=r"index\.npy: has .* blocks, but"):
        Reader(open_dataset(copy, whole=False), "train")
    records = np.load(copy / "train" / "index.npy")
    blocks = -(-open_dataset(copy, whole=False).splits["train"].rows // 16)
    np.save(copy / "train" / "index.npy", np.resize(records, blocks))
    reader = Reader(open_dataset(copy, whole=False), "train")
    with pytest.raises(DatasetError, match=r"index\.npy: the record of block 0 has checksum"):
        reader.index.read(np.array([0]))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"nothing", "is not a readable index"),
        (None, r"index\.npy: is missing"),
        ("truncated", "bytes, but .* blocks take"),
    ],
)
def test_an_unreadable_index_raises_one_clear_error(
    copy: Path, content: bytes | str | None, message: str
) -> None:
    path = copy / "train" / "index.npy"
    data = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(data[:-5] if isinstance(content, str) else content)
    with pytest.raises(DatasetError, match=message):
        Reader(open_dataset(copy, whole=False), "train")


def test_an_error_names_the_block_of_a_damaged_index_record(copy: Path) -> None:
    path = copy / "train" / "index.npy"
    data = bytearray(path.read_bytes())
    size = np.load(path).dtype.itemsize
    data[-size + 20] ^= 1
    path.write_bytes(data)
    index = Reader(open_dataset(copy), "train").index
    assert index.read(np.arange(index.blocks - 1))
    with pytest.raises(DatasetError, match=f"the record of block {index.blocks - 1} has checksum"):
        index.read(np.arange(index.blocks))


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_index_lists_the_length_of_every_row(
    manifest: Manifest, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the index is kept in memory or read record by record."""
    limit = 1 << 20 if in_memory else 0
    monkeypatch.setattr("pipeline.stream.index.MAX_IN_MEMORY_BYTES", limit)
    index = Reader(manifest, "train").index
    blocks = index.read(np.arange(index.blocks))
    lengths = np.concatenate([block.lengths for block in blocks])
    assert len(lengths) == index.rows == manifest.splits["train"].rows
    assert (lengths.sum(), lengths.max()) == (index.tokens, index.max_length)
    assert [block.first_row for block in blocks] == list(range(0, index.rows, 16))


def test_all_columns_of_a_skipped_block_are_padded_to_the_same_shape(
    corpora: Callable[[str], Path], tmp_path: Path
) -> None:
    copy = shutil.copytree(corpora("tagging") / "shards", tmp_path / "shards")
    flip(copy)
    stream = StreamSettings(lanes=12, shuffle_window=1, token_budget=24, on_corrupt="skip")
    loader = open_loader(open_dataset(copy, whole=False), stream)
    updates = list(loader.epoch(Position()))
    assert sum(update.skipped for update in updates) == 16
    for update in updates:
        (batch,) = update.batches
        shapes = {batch.columns[name].shape[:2] for name in ("tokens", "characters", "tags")}
        assert len(shapes) == 1
