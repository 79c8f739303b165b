"""Streaming from a server delivers the same rows and fetches little more than their bytes."""

from pathlib import Path

import pytest

from pipeline.corpus.dataset.manifest import Manifest, open_dataset
from pipeline.stream.opening import open_loader
from pipeline.stream.plan import Position
from pipeline.stream.settings import StreamSettings
from tests.helpers.servers import FileServer
from tests.stream.test_loader import sorted_rows

STREAM = {"lanes": 12, "shuffle_window": 5, "token_budget": 768}


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_nodes_fetch_little_more_than_the_dataset(manifest: Manifest, nodes: int) -> None:
    """All nodes fetch at most 1.1 times the shards' bytes, and each fetches the index once."""
    expected = list(open_loader(manifest, StreamSettings(**STREAM)).epoch(Position()))
    with FileServer(manifest.path) as server:
        remote = open_dataset(server.url)
        node_updates = [
            list(
                open_loader(remote, StreamSettings(**STREAM), rank=node, world=nodes).epoch(
                    Position()
                )
            )
            for node in range(nodes)
        ]
    for update, *parts in zip(expected, *node_updates, strict=True):
        rows = sorted(row for part in parts for row in sorted_rows([part])[0])
        assert rows == sorted_rows([update])[0]
    split = manifest.splits["train"]
    assert server.bytes_sent["train/00000.tar"] <= 1.1 * sum(shard.bytes for shard in split.shards)
    index_bytes = manifest.index("train").stat().st_size
    assert server.bytes_sent["train/index.npy"] <= nodes * (index_bytes + 4096)


def test_whole_shards_are_cached_and_shared_between_ranks(
    manifest: Manifest, tmp_path: Path
) -> None:
    stream = StreamSettings(**STREAM, cache=str(tmp_path), cache_gb=0.1, cache_shards=True)
    with FileServer(manifest.path) as server:
        remote = open_dataset(server.url)
        for _ in range(2):
            for rank in range(2):
                loader = open_loader(remote, stream, rank=rank, world=2)
                assert sum(update.tokens for update in loader.epoch(Position()))
    assert server.bytes_sent["train/00000.tar"] == manifest.splits["train"].shards[0].bytes


@pytest.mark.slow
def test_damaged_cache_entries_are_fetched_again(manifest: Manifest, tmp_path: Path) -> None:
    stream = StreamSettings(**STREAM, cache=str(tmp_path), cache_gb=0.1)
    expected = sorted_rows(list(open_loader(manifest, stream).epoch(Position())))
    with FileServer(manifest.path) as server:
        loader = open_loader(open_dataset(server.url), stream)
        assert sorted_rows(list(loader.epoch(Position()))) == expected
        entries = sorted(path for path in tmp_path.rglob("*-*") if path.is_file())
        assert len(entries) == loader.plan.sources[0].index.blocks
        entries[0].write_bytes(bytes(entries[0].stat().st_size))
        entries[1].write_bytes(b"")
        sent_before = server.bytes_sent["train/00000.tar"]
        assert sorted_rows(list(loader.epoch(Position()))) == expected
        assert 0 < server.bytes_sent["train/00000.tar"] - sent_before < 0.1 * sent_before
