"""Damage to a dataset is noticed at the block and named."""

import shutil
from pathlib import Path

import pytest

from pipeline.corpus.dataset import Manifest, open_dataset
from pipeline.errors import DatasetError
from pipeline.stream.index import Index
from pipeline.stream.reader import Reader


@pytest.fixture
def copy(manifest: Manifest, tmp_path: Path) -> Path:
    return shutil.copytree(manifest.path, tmp_path / "shards")


def test_a_flipped_bit_names_shard_block_and_checksums(copy: Path) -> None:
    index = Index(copy / "train" / "index.arrow")
    shard = copy / "train" / "00000.tar"
    data = bytearray(shard.read_bytes())
    data[int(index.offset[3]) + 100] ^= 4
    shard.write_bytes(data)
    reader = Reader(open_dataset(copy), "train")
    reader.block(2)
    with pytest.raises(DatasetError, match=r"00000\.tar: block 3 at byte \d+ has checksum"):
        reader.block(3)


def test_a_truncated_shard_is_noticed_on_opening(copy: Path) -> None:
    shard = copy / "train" / "00000.tar"
    shard.write_bytes(shard.read_bytes()[:-600])
    with pytest.raises(DatasetError, match=r"00000\.tar"):
        open_dataset(copy)


def test_another_index_is_noticed_on_opening(copy: Path) -> None:
    shutil.copy(copy / "validation" / "index.arrow", copy / "train" / "index.arrow")
    with pytest.raises(DatasetError, match=r"index\.arrow"):
        open_dataset(copy)


def test_a_file_that_is_no_index_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "index.arrow").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="not a readable index"):
        Index(tmp_path / "index.arrow")
    with pytest.raises(DatasetError, match="not a readable index"):
        Index(tmp_path / "absent.arrow")


def test_the_index_knows_every_row(manifest: Manifest) -> None:
    index = Index(manifest.path / "train" / "index.arrow")
    assert index.rows == index.block_rows.sum() == manifest.splits["train"].rows
    lengths = [int(n) for block in range(index.blocks) for n in index.lengths(block)]
    assert sum(lengths) == index.tokens
    assert max(lengths) == index.max_length
    assert not index.lengths(0).flags.owndata  # memory-mapped
