"""A stream from a server: the same rows, and of their bytes no more than a node's share."""

from pathlib import Path

import pytest

from pipeline.corpus.dataset.manifest import Manifest, open_dataset
from pipeline.stream.opening import open_loader
from pipeline.stream.plan import Position
from pipeline.stream.settings import StreamSettings
from tests.helpers.servers import Files
from tests.stream.test_loader import sorted_rows

STREAM = {"lanes": 12, "shuffle_window": 5, "token_budget": 768}


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_nodes_fetch_little_more_than_the_dataset(manifest: Manifest, nodes: int) -> None:
    """Over all nodes at most 1.1 times the bytes of the shards, and the index once for each."""
    whole = list(open_loader(manifest, StreamSettings(**STREAM)).epoch(Position()))
    with Files(manifest.path) as files:
        remote = open_dataset(files.url)
        parts = [
            list(
                open_loader(remote, StreamSettings(**STREAM), rank=node, world=nodes).epoch(
                    Position()
                )
            )
            for node in range(nodes)
        ]
    for alone, *together in zip(whole, *parts, strict=True):
        rows = sorted(row for update in together for row in sorted_rows([update])[0])
        assert rows == sorted_rows([alone])[0]
    split = manifest.splits["train"]
    assert files.sent["train/00000.tar"] <= 1.1 * sum(shard.bytes for shard in split.shards)
    index = manifest.index("train").stat().st_size
    assert files.sent["train/index.npy"] <= nodes * (index + 4096)


def test_whole_shards_are_kept_and_shared(manifest: Manifest, tmp_path: Path) -> None:
    stream = StreamSettings(**STREAM, cache=str(tmp_path), cache_gb=0.1, cache_shards=True)
    with Files(manifest.path) as files:
        remote = open_dataset(files.url)
        for _ in range(2):
            for rank in range(2):
                loader = open_loader(remote, stream, rank=rank, world=2)
                assert sum(update.tokens for update in loader.epoch(Position()))
    assert files.sent["train/00000.tar"] == manifest.splits["train"].shards[0].bytes


def test_what_is_damaged_in_the_cache_is_fetched_again(manifest: Manifest, tmp_path: Path) -> None:
    stream = StreamSettings(**STREAM, cache=str(tmp_path), cache_gb=0.1)
    expected = sorted_rows(list(open_loader(manifest, stream).epoch(Position())))
    with Files(manifest.path) as files:
        loader = open_loader(open_dataset(files.url), stream)
        assert sorted_rows(list(loader.epoch(Position()))) == expected
        kept = sorted(path for path in tmp_path.rglob("*-*") if path.is_file())
        assert len(kept) == loader.plan.sources[0].index.blocks
        kept[0].write_bytes(bytes(kept[0].stat().st_size))
        kept[1].write_bytes(b"")
        sent = files.sent["train/00000.tar"]
        assert sorted_rows(list(loader.epoch(Position()))) == expected
        assert 0 < files.sent["train/00000.tar"] - sent < 0.1 * sent
