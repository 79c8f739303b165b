"""Training on raw shards: every row once per pass, ranks in step, nothing in a shard is run."""

import gzip
import io
import pickle
import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import webdataset

from pipeline import config
from pipeline.errors import ConfigError, DatasetError, InputError, TrainingError
from pipeline.stream.hashing import draw, key
from pipeline.stream.plan import Position
from pipeline.stream.resumable import Update
from pipeline.stream.settings import StreamSettings
from pipeline.stream.unprepared import rows as unprepared_rows
from pipeline.stream.unprepared.loader import (
    UnpreparedLoader,
    UnpreparedValidation,
    open_unprepared,
    unprepared_manifest,
)
from pipeline.stream.unprepared.rows import ROW_BITS
from pipeline.tasks.classification import Classification
from tests.corpus.readers.test_webdataset import END, HOSTILE, Payload, link
from tests.corpus.readers.test_webdataset import GOOD as GOOD_ROW
from tests.helpers.corpora import write_tars
from tests.helpers.files import pack
from tests.helpers.settings import corpus_settings
from tests.stream.test_loader import Row, prefetch_threads, weighted_rows

ROWS = (70, 5, 41, 90, 12)
"""Rows of each training shard."""
SEED = 3
START = Position()
Open = Callable[..., tuple[UnpreparedLoader, UnpreparedValidation]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the shards train-0.tar to train-4.tar, and held-0.tar and held-1.tar."""
    write_tars(tmp_path, ROWS)
    write_tars(tmp_path, (30, 17), name="held", seed=9)
    return tmp_path


@pytest.fixture
def open_streams(folder: Path, corpus: Path) -> Open:
    """A function that opens the streams of the shards in `folder`."""

    def open_streams(
        rank: int = 0,
        world: int = 1,
        *,
        corpus_options: dict[str, Any] | None = None,
        seed: int = SEED,
        **stream_options: Any,
    ) -> tuple[UnpreparedLoader, UnpreparedValidation]:
        corpus_defaults: dict[str, Any] = {
            "input": "train-*.tar", "root": str(folder), "shards": "unused", "rows_per_block": 16,
            "text": "txt", "label": "cls", "label_names": ["negative", "positive"],
            "validation": "held-*.tar", "tokenizer": str(corpus / "shards" / "tokenizer.json"),
            "max_tokens": 150,
        }  # fmt: skip
        settings_of_corpus = corpus_settings(**(corpus_defaults | (corpus_options or {})))
        manifest, _ = unprepared_manifest(
            settings_of_corpus, Classification.fields(settings_of_corpus)
        )
        stream_defaults = {"unprepared_rows": 218, "batch_rows": 15, "shuffle_window": 1}
        settings = StreamSettings(**(stream_defaults | stream_options))
        return open_unprepared(manifest, settings_of_corpus, settings, seed, rank=rank, world=world)

    return open_streams


def take(loader: UnpreparedLoader, count: int, position: Position = START) -> list[Update]:
    """Return the next `count` updates, of several epochs if necessary."""
    updates: list[Update] = []
    while len(updates) < count:
        with closing(loader.prefetched(position)) as epoch:
            updates += islice(epoch, count - len(updates))
        position = updates[-1].after
    return updates


def rows_of(updates: list[Update]) -> list[Row]:
    """Return the rows of all batches whose weight is not 0."""
    return [row for update in updates for batch in update.batches for row in weighted_rows(batch)]


def tokens_of(updates: list[Update]) -> set[tuple[int, ...]]:
    return {tokens for tokens, *_ in rows_of(updates)}


def keys_before(loader: UnpreparedLoader, index: int) -> set[int]:
    """Return the keys of all rows in the first `index` shards of the sequence."""
    counts = {f"train-{number}.tar": count for number, count in enumerate(ROWS)}
    ids = [
        (shard << ROW_BITS) + row + 1
        for shard in range(index)
        for row in range(counts[loader.file(shard)[0]])
    ]
    return set(draw(key(SEED, 1), np.array(ids, np.int64)).view(np.int64).tolist())


def merged_position(rank_updates: list[list[Update]]) -> Position:
    """Return the position that a run of all ranks resumes from."""
    ends = [updates[-1].after for updates in rank_updates]
    assert len({(end.epoch, end.update) for end in ends}) == 1
    return replace(ends[0], window=min(end.window for end in ends))


@pytest.mark.slow
@pytest.mark.parametrize("accumulation_steps", [1, 3])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_each_row_is_read_once_per_pass(
    world: int, accumulation_steps: int, open_streams: Open
) -> None:
    """All ranks have the same number of updates, and all rows before the position were read."""
    loaders = [
        open_streams(rank, world, accumulation_steps=accumulation_steps)[0] for rank in range(world)
    ]
    rank_updates = [take(loader, 120) for loader in loaders]
    for updates in zip(*rank_updates, strict=True):
        assert {update.rows for update in updates} == {15}
        assert {len(update.batches) for update in updates} == {accumulation_steps}
        assert sum(len(b.lengths) for update in updates for b in update.batches) == 15
    all_rows = [row for updates in rank_updates for row in rows_of(updates)]
    keys = {key for *_, key in all_rows}
    position = merged_position(rank_updates)
    assert position.window > 2 * len(ROWS), "the test covers several passes"
    assert len(keys) == len(all_rows) == 120 * 15, "a row is read once per pass"
    assert keys_before(loaders[0], position.window) <= keys
    assert len({tokens for tokens, *_ in all_rows}) == sum(ROWS)


def test_epoch_is_a_fixed_number_of_updates(open_streams: Open) -> None:
    loader, _ = open_streams(unprepared_rows=100)
    assert (loader.updates, loader.rows_before(3)) == (7, 3 * 7 * 15)
    ends = [(update.after.epoch, update.after.update) for update in take(loader, 15)]
    assert ends == [(n // 7, n % 7) for n in range(1, 16)]


@pytest.mark.parametrize("world, resumed_world", [(1, 1), (2, 2), (3, 2), (2, 5)])
def test_resumed_run_skips_no_row(world: int, resumed_world: int, open_streams: Open) -> None:
    """It resumes at the first shard that is not consumed, at any world size."""
    before = [take(open_streams(rank, world)[0], 17) for rank in range(world)]
    position = merged_position(before)
    loaders = [open_streams(rank, resumed_world)[0] for rank in range(resumed_world)]
    after = [take(loader, 40, position) for loader in loaders]
    end = merged_position(after)
    assert (end.epoch, end.update) == divmod(57, loaders[0].updates)
    assert end.window > position.window > 0
    keys, resumed_keys = (
        {key for updates in rank_updates for *_, key in rows_of(updates)}
        for rank_updates in (before, after)
    )
    assert keys_before(loaders[0], end.window) <= keys | resumed_keys
    assert not resumed_keys & keys_before(loaders[0], position.window), "no shard is read again"


def test_order_differs_by_pass_and_seed(open_streams: Open) -> None:
    loader, _ = open_streams()
    names = [loader.file(index)[0] for index in range(20 * len(ROWS))]
    passes = {tuple(names[i : i + len(ROWS)]) for i in range(0, len(names), len(ROWS))}
    assert len(passes) > 15
    assert all(len(set(order)) == len(ROWS) for order in passes)
    same, other = (rows_of(take(open_streams(seed=seed)[0], 9)) for seed in (SEED, SEED + 1))
    assert rows_of(take(loader, 9)) == same != other


def test_bucketing_reduces_padding(open_streams: Open) -> None:
    def padding(bucketing: bool) -> float:
        updates = take(open_streams(bucketing=bucketing)[0], 40)
        return 1 - sum(u.tokens for u in updates) / sum(u.padded_tokens for u in updates)

    assert padding(True) < 0.6 * padding(False)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_validation_reads_every_row_once_in_equally_many_batches_per_rank(
    world: int, open_streams: Open
) -> None:
    streams = [open_streams(rank, world)[1] for rank in range(world)]
    for _ in range(2):
        rank_updates = [list(stream.prefetched(START)) for stream in streams]
        assert len({len(updates) for updates in rank_updates}) == 1
        all_rows = [row for updates in rank_updates for row in rows_of(updates)]
        assert len(all_rows) == len({tokens for tokens, *_ in all_rows}) == 47
    assert {label for _, label, _ in all_rows} == {0, 1}


def test_prefetch_threads_end(open_streams: Open) -> None:
    loader, validation = open_streams()
    take(loader, 3)
    list(validation.prefetched(START))
    assert not prefetch_threads()


@pytest.mark.parametrize("world, expected", [(6, "names 5; start 5"), (4, "batches of 3 row")])
def test_more_ranks_than_shards_or_rows_are_an_error(
    world: int, expected: str, open_streams: Open
) -> None:
    with pytest.raises(TrainingError, match=rf"^world size {world}: .*{expected}") as caught:
        open_streams(0, world, batch_rows=16 if world == 6 else 3)
    assert len(caught.value.lines) == 1


MISTAKES = {
    "corpus.tokenizer=''": "corpus.tokenizer='': no tokenizer is trained on unprepared rows",
    "corpus.label_names=[]": "corpus.label_names=[]: labels are not collected",
    "corpus.validation=0.1": "corpus.validation=0.1: no fraction of unprepared rows is held out",
    "corpus.overflow=split": "corpus.overflow=split: unprepared texts are not split",
    "stream.batch_rows=0": "stream.batch_rows=0: batches of unprepared rows are not planned",
    "stream.repeat=2": "stream.repeat=2.0: stream.unprepared_rows=99 is the length of an epoch",
    "stream.mix={a: 1}": "stream.mix={a: 1.0}: only prepared datasets can be mixed",
}


@pytest.mark.parametrize("override", ["", *MISTAKES])
def test_mistake_in_the_config_is_one_error_line(override: str) -> None:
    valid = [
        "stream.unprepared_rows=99", "stream.batch_rows=8", "corpus.tokenizer=a",
        "corpus.truncation_side=start", "corpus.label_names=[a, b]", "corpus.validation=a.tar",
        "corpus.test=null",
    ]  # fmt: skip
    if not override:
        assert config.load(None, valid).stream.unprepared_rows == 99
        return
    with pytest.raises(
        ConfigError, match=r"or set stream\.unprepared_rows=0 to prepare first$"
    ) as caught:
        config.load(None, [*valid, override])
    assert len(caught.value.lines) == 1
    assert caught.value.lines[0].startswith(MISTAKES[override])


def read_all(open_streams: Open, **corpus_options: Any) -> set[tuple[int, ...]]:
    """Return the tokens of the different rows, after training and evaluating on all shards."""
    loader, validation = open_streams(corpus_options=corpus_options)
    return tokens_of([*take(loader, 40), *validation.prefetched(START)])


@pytest.mark.parametrize("case", HOSTILE)
def test_error_names_a_damaged_or_hostile_shard(
    case: str, folder: Path, open_streams: Open
) -> None:
    data, message = HOSTILE[case]
    (folder / "train-0.tar").write_bytes(GOOD_ROW + data + END)
    with pytest.raises(InputError, match=rf"train-0\.tar[,:] [^\n]*{message}"):
        read_all(open_streams, input="train-0.tar")


def test_shard_truncated_between_members_is_an_error(folder: Path, open_streams: Open) -> None:
    """Webdataset's own reader takes the members before the truncation for the whole shard."""
    path = folder / "train-3.tar"
    path.write_bytes(path.read_bytes()[: 512 * 4])
    assert len(list(webdataset.WebDataset(str(path), shardshuffle=False))) == 1
    with pytest.raises(InputError, match=r"train-3\.tar: ends at byte 2048 .* is cut short"):
        read_all(open_streams)


def test_nothing_in_a_hostile_shard_is_run(folder: Path, open_streams: Open) -> None:
    marker = folder / "ran"
    payload = pickle.dumps(Payload(marker))
    with tarfile.open(folder / "train-1.tar", "a") as tar:
        for name in ("p.pyd", "p.pkl", "p.pth", "p.pickle", "p.npy", "p.txt", "p.cls"):
            member = tarfile.TarInfo(name)
            member.size = len(payload)
            tar.addfile(member, io.BytesIO(payload))
        tar.addfile(link("symbolic.txt", tarfile.SYMTYPE, str(folder / "held-0.tar")))
    before = sorted(folder.rglob("*"))
    assert len(read_all(open_streams)) == sum(ROWS) + 47
    assert sorted(folder.rglob("*")) == before
    for name in (f"pipe:touch {marker}", f"pipe://touch {marker}"):
        with pytest.raises(InputError, match=r"no such file|pipe:// is not supported"):
            open_streams(corpus_options={"input": name})
    assert not marker.exists()


def test_unusable_rows_are_skipped_up_to_a_fraction(
    folder: Path, open_streams: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unprepared_rows, "MIN_ROWS_FOR_SHARE", 100)
    pack(
        folder / "train-5.tar",
        [("a.cls", b"negative"), *((f"{n}.txt", b"without label") for n in range(15))],
    )
    pack(folder / "held-1.tar", [("a.txt", b" "), ("a.cls", b"positive")])
    assert len(read_all(open_streams, max_skipped_ratio=0.2)) == sum(ROWS) + 30
    pattern = r"corpus\.max_skipped_ratio=0\.01: .* with no label, first train-5\.tar, row 2;"
    with pytest.raises(InputError, match=pattern):
        read_all(open_streams, max_skipped_ratio=0.01)


def test_shards_without_a_usable_row_are_an_error(
    open_streams: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unprepared_rows, "MAX_TEXTS_WITHOUT_ROW", 300)
    pattern = r"train-\d\.tar: has no usable row, like all files before it \(filtered [0-9,]+\)"
    with pytest.raises(InputError, match=pattern):
        read_all(open_streams, filters={"cls": "neutral"})
    drop = {"max_tokens": 1, "overflow": "drop"}
    with pytest.raises(InputError, match="no row is left of this text and the 299 texts before it"):
        read_all(open_streams, **drop)
    _, validation = open_streams(corpus_options=drop)
    with pytest.raises(InputError, match=r"corpus\.validation: no row is left of its 47 text\(s\)"):
        list(validation.prefetched(START))


def test_error_names_an_unknown_label(open_streams: Open) -> None:
    with pytest.raises(InputError, match=r"train-\d\.tar, row \d+: label 'positive' is not in"):
        read_all(open_streams, label_names=["negative", "neutral"])


def test_error_names_a_missing_shard_or_tokenizer(folder: Path, open_streams: Open) -> None:
    with pytest.raises(InputError, match=r"train-9\.tar: no such file; did you mean"):
        open_streams(corpus_options={"input": "train-9.tar"})
    with pytest.raises(InputError, match=r"corpus\.tokenizer='.*held-0\.tar'"):
        open_streams(corpus_options={"tokenizer": str(folder / "held-0.tar")})


def test_shards_may_be_gzipped_and_remote(folder: Path, open_streams: Open) -> None:
    """Each shard is fetched when it is read; an error names one that is deleted by then."""
    local_tokens = read_all(open_streams)
    files, store = fsspec.filesystem("memory"), f"memory://{folder.name}"
    for path in [*folder.glob("*.tar")]:
        files.pipe(f"{store}/{path.name}.gz", gzip.compress(path.read_bytes()))
        path.unlink()
    remote = {"input": f"{store}/train-{{0..4}}.tar.gz", "validation": f"{store}/held-*.tar.gz"}
    assert read_all(open_streams, **remote) == local_tokens
    loader, _ = open_streams(corpus_options=remote)
    files.rm(f"{store}/train-2.tar.gz")
    with pytest.raises(DatasetError, match=r"train-2\.tar\.gz: does not exist any more"):
        take(loader, 40)
