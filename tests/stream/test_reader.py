"""Damage to a dataset is noticed at the block and named; nothing else of it is given out."""

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
"""The one that is damaged; the shards of the corpus have some fifty."""


@pytest.fixture
def copy(manifest: Manifest, tmp_path: Path) -> Path:
    return shutil.copytree(manifest.path, tmp_path / "shards")


def block_at(folder: Path, number: int) -> tuple[Path, int, int]:
    """Shard, first byte and end of a block."""
    manifest = open_dataset(folder, whole=False)
    record = np.load(manifest.index("train"))[number]
    start = int(record["offset"])
    return manifest.shard("train", record["shard"]), start, start + int(record["bytes"])


def flip(folder: Path) -> None:
    shard, start, _ = block_at(folder, BLOCK)
    data = bytearray(shard.read_bytes())
    data[start + 100] ^= 4
    shard.write_bytes(data)


def truncate(folder: Path) -> None:
    shard, start, _ = block_at(folder, BLOCK)
    shard.write_bytes(shard.read_bytes()[: start + 10])


def remove(folder: Path) -> None:
    block_at(folder, BLOCK)[0].unlink()


def rewrite(folder: Path, change: Callable[[pa.RecordBatch], pa.RecordBatch]) -> None:
    """Other content under right checksums, as a hostile dataset may have it."""
    manifest = open_dataset(folder, whole=False)
    records = np.load(manifest.index("train"))
    shard, start, stop = block_at(folder, BLOCK)
    rows = pa.ipc.open_stream(shard.read_bytes()[start:stop]).read_next_batch()
    data = to_bytes(change(rows)).to_pybytes()
    content = shard.read_bytes()
    shard.write_bytes(content[:start] + data + content[start + len(data) :])
    records["bytes"][BLOCK], records["crc32"][BLOCK] = len(data), zlib.crc32(data)
    salt = manifest.splits["train"].salt
    records["record_crc32"] = checksums(records, salt, range(len(records)))
    np.save(manifest.index("train"), records)


def wider(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows.set_column(0, "tokens", rows.column(0).cast(pa.list_(pa.uint32())))


def without_a_label(rows: pa.RecordBatch) -> pa.RecordBatch:
    labels = pa.array([None, *rows.column(1).to_pylist()[1:]], pa.int32())
    return rows.set_column(1, "label", labels)


@pytest.mark.parametrize("change", [wider, without_a_label])
def test_checksums_do_not_vouch_for_the_content(copy: Path, change: Any) -> None:
    rewrite(copy, change)
    reader = Reader(open_dataset(copy, whole=False), "train")
    with pytest.raises(DatasetError, match=r"block 3 at byte \d+ does not"):
        list(reader.blocks(reader.index.read(np.array([BLOCK]))))


def test_records_that_changed_places_are_noticed(copy: Path) -> None:
    path = copy / "train" / "index.npy"
    records = np.load(path)
    np.save(path, records[[1, 0, *range(2, len(records))]])
    with pytest.raises(DatasetError, match="the record of block 0 has checksum"):
        Reader(open_dataset(copy), "train").index.read(np.array([0, 1]))


def swap(folder: Path) -> None:
    """Another shard under this name."""
    shutil.copy(folder / "validation" / "00000.tar", folder / "train" / "00000.tar")


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "flipped": (flip, r"00000\.tar: block 3 at byte \d+ has checksum \w{8}, the index says \w{8}"),
    "truncated": (truncate, r"block 3 at byte \d+ cannot be read .*ends before byte"),
    "missing": (remove, r"block 3 at byte \d+ cannot be read .*No such file"),
    "swapped": (swap, r"00000\.tar: block 3 at byte \d+"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_block_is_named(copy: Path, case: str) -> None:
    damage, message = DAMAGE[case]
    damage(copy)
    reader = Reader(open_dataset(copy, whole=False), "train")
    with pytest.raises(DatasetError, match=message):
        list(reader.blocks(reader.index.read(np.array([BLOCK]))))


@pytest.mark.parametrize("case", DAMAGE)
def test_skipped_blocks_leave_the_plan_as_it_is(copy: Path, manifest: Manifest, case: str) -> None:
    stream = StreamSettings(lanes=12, shuffle_window=1, token_budget=768, on_corrupt="skip")
    whole = list(open_loader(manifest, stream).epoch(Position()))
    DAMAGE[case][0](copy)
    said: list[str] = []
    damaged = list(
        open_loader(open_dataset(copy, whole=False), stream, say=said.append).epoch(Position())
    )
    assert [u.after for u in damaged] == [u.after for u in whole]
    for a, b in zip(damaged, whole, strict=True):
        (x,), (y,) = a.batches, b.batches
        assert (a.rows, a.tokens, a.padded_tokens) == (b.rows, b.tokens, b.padded_tokens)
        assert x.lengths.equal(y.lengths)
        assert x.keys.equal(y.keys)
        kept = x.weights > 0
        assert a.skipped == int((~kept).sum())
        assert x.columns["tokens"][kept].equal(y.columns["tokens"][kept])
        assert not x.columns["tokens"][~kept].any()
    skipped = sum(u.skipped for u in damaged)
    told = [
        re.search(r"block (\d+) at byte .*; its (\d+) rows are skipped$", line) for line in said
    ]
    numbers, rows = zip(*(map(int, match.groups()) for match in told if match), strict=True)
    assert BLOCK in numbers
    assert len(set(numbers)) == len(said)
    assert skipped == sum(rows) > 0


def test_an_index_of_another_dataset_is_noticed_at_the_record(copy: Path) -> None:
    """Also where shards and index were both put there."""
    for name in ("index.npy", "00000.tar"):
        shutil.copy(copy / "validation" / name, copy / "train" / name)
    with pytest.raises(DatasetError, match=r"index\.npy: has .* blocks, not as many as"):
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
        ("short", "bytes, not as many as"),
    ],
)
def test_what_is_no_index_is_one_clear_line(
    copy: Path, content: bytes | str | None, message: str
) -> None:
    path = copy / "train" / "index.npy"
    data = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(data[:-5] if isinstance(content, str) else content)
    with pytest.raises(DatasetError, match=message):
        Reader(open_dataset(copy, whole=False), "train")


def test_a_flipped_bit_in_the_index_names_its_block(copy: Path) -> None:
    path = copy / "train" / "index.npy"
    data = bytearray(path.read_bytes())
    size = np.load(path).dtype.itemsize
    data[-size + 20] ^= 1
    path.write_bytes(data)
    index = Reader(open_dataset(copy), "train").index
    assert index.read(np.arange(index.blocks - 1))
    with pytest.raises(DatasetError, match=f"the record of block {index.blocks - 1} has checksum"):
        index.read(np.arange(index.blocks))


@pytest.mark.parametrize("held", [True, False])
def test_the_index_knows_every_row(
    manifest: Manifest, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is held in memory or read a record at a time."""
    monkeypatch.setattr("pipeline.stream.index.HELD", 1 << 20 if held else 0)
    index = Reader(manifest, "train").index
    blocks = index.read(np.arange(index.blocks))
    lengths = np.concatenate([block.lengths for block in blocks])
    assert len(lengths) == index.rows == manifest.splits["train"].rows
    assert (lengths.sum(), lengths.max()) == (index.tokens, index.max_length)
    assert [block.first_row for block in blocks] == list(range(0, index.rows, 16))


def test_where_a_block_is_skipped_its_words_characters_and_tags_are_padded_alike(
    corpora: Callable[[str], Path], tmp_path: Path
) -> None:
    copy = shutil.copytree(corpora("tagging") / "shards", tmp_path / "shards")
    flip(copy)
    stream = StreamSettings(lanes=12, shuffle_window=1, token_budget=24, on_corrupt="skip")
    loader = open_loader(open_dataset(copy, whole=False), stream, say=lambda line: None)
    updates = list(loader.epoch(Position()))
    assert sum(update.skipped for update in updates) == 16
    for update in updates:
        (batch,) = update.batches
        shapes = {batch.columns[name].shape[:2] for name in ("tokens", "characters", "tags")}
        assert len(shapes) == 1
