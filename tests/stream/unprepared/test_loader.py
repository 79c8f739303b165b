"""Raw shards through webdataset's pipeline: each row once a pass, in step, and nothing is run."""

import gzip
import io
import pickle
import tarfile
import threading
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
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import ConfigError, DatasetError, InputError, TrainingError
from pipeline.stream.hashing import draw, key
from pipeline.stream.loader import Update
from pipeline.stream.plan import Position
from pipeline.stream.settings import StreamSettings
from pipeline.stream.unprepared import rows as raw_rows
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
from tests.stream.test_loader import Row, rows

ROWS = (70, 5, 41, 90, 12)
"""Of each shard that is trained on."""
SEED = 3
START = Position()
Opened = Callable[..., tuple[UnpreparedLoader, UnpreparedValidation]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tars(tmp_path, ROWS)
    write_tars(tmp_path, (30, 17), name="held", seed=9)
    return tmp_path


@pytest.fixture
def opened(folder: Path, corpus: Path) -> Opened:
    def opened(
        rank: int = 0,
        world: int = 1,
        *,
        keys: dict[str, Any] | None = None,
        seed: int = SEED,
        **stream: Any,
    ) -> tuple[UnpreparedLoader, UnpreparedValidation]:
        of_corpus: dict[str, Any] = {
            "input": "train-*.tar", "root": str(folder), "shards": "unused", "rows_per_block": 16,
            "text": "txt", "label": "cls", "label_names": ["negative", "positive"],
            "validation": "held-*.tar", "tokenizer": str(corpus / "shards" / "tokenizer.json"),
            "max_tokens": 150,
        }  # fmt: skip
        corpus_settings = CorpusSettings(**(of_corpus | (keys or {})))
        manifest, _ = unprepared_manifest(corpus_settings, Classification.fields(corpus_settings))
        settings = StreamSettings(
            **({"unprepared_rows": 218, "batch_rows": 15, "shuffle_window": 1} | stream)
        )
        return open_unprepared(manifest, corpus_settings, settings, seed, rank=rank, world=world)

    return opened


def take(loader: UnpreparedLoader, updates: int, position: Position = START) -> list[Update]:
    """So many updates, over ends of epochs too."""
    found: list[Update] = []
    while len(found) < updates:
        with closing(loader.prefetched(position)) as epoch:
            found += islice(epoch, updates - len(found))
        position = found[-1].after
    return found


def delivered(updates: list[Update]) -> list[Row]:
    """Tokens, label and key of each row that counts."""
    return [row for update in updates for batch in update.batches for row in rows(batch)]


def keys_before(loader: UnpreparedLoader, place: int) -> set[int]:
    """The keys of all rows of the shards that stand before a place of the sequence."""
    counts = {f"train-{number}.tar": count for number, count in enumerate(ROWS)}
    ids = [
        (before << ROW_BITS) + row + 1
        for before in range(place)
        for row in range(counts[loader.file(before)[0]])
    ]
    return set(draw(key(SEED, 1), np.array(ids, np.int64)).view(np.int64).tolist())


def together(parts: list[list[Update]]) -> Position:
    """What the ranks of a run go on from: they stand at the same update of the same epoch."""
    ends = [part[-1].after for part in parts]
    assert len({(end.epoch, end.update) for end in ends}) == 1
    return replace(ends[0], window=min(end.window for end in ends))


@pytest.mark.parametrize("accumulation_steps", [1, 3])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_each_row_is_seen_once_a_pass(world: int, accumulation_steps: int, opened: Opened) -> None:
    """Of as many shards as the position says, by ranks that take the same number of steps."""
    loaders = [
        opened(rank, world, accumulation_steps=accumulation_steps)[0] for rank in range(world)
    ]
    parts = [take(loader, 120) for loader in loaders]
    for updates in zip(*parts, strict=True):
        assert {update.rows for update in updates} == {15}
        assert {len(update.batches) for update in updates} == {accumulation_steps}
        assert sum(len(b.lengths) for update in updates for b in update.batches) == 15
    found = [row for part in parts for row in delivered(part)]
    done = together(parts)
    assert done.window > 2 * len(ROWS), "the test is of several passes"
    assert len({key for *_, key in found}) == len(found) == 120 * 15, "a row of a pass is seen once"
    assert keys_before(loaders[0], done.window) <= {key for *_, key in found}
    assert len({tokens for tokens, *_ in found}) == sum(ROWS)


def test_an_epoch_is_a_number_of_updates(opened: Opened) -> None:
    loader, _ = opened(unprepared_rows=100)
    assert (loader.updates, loader.rows_before(3)) == (7, 3 * 7 * 15)
    ends = [(update.after.epoch, update.after.update) for update in take(loader, 15)]
    assert ends == [(n // 7, n % 7) for n in range(1, 16)]


@pytest.mark.parametrize("world,later", [(1, 1), (2, 2), (3, 2), (2, 5)])
def test_a_stopped_run_leaves_no_row_out(world: int, later: int, opened: Opened) -> None:
    """It goes on at the first shard that is not done, also on another number of ranks."""
    before = [take(opened(rank, world)[0], 17) for rank in range(world)]
    position = together(before)
    loaders = [opened(rank, later)[0] for rank in range(later)]
    after = [take(loader, 40, position) for loader in loaders]
    end = together(after)
    assert (end.epoch, end.update) == divmod(57, loaders[0].updates)
    assert end.window > position.window > 0
    once, again = (
        {row[2] for part in parts for row in delivered(part)} for parts in (before, after)
    )
    assert keys_before(loaders[0], end.window) <= once | again
    assert not again & keys_before(loaders[0], position.window), "what is done stays done"


def test_passes_and_seeds_have_orders_of_their_own(opened: Opened) -> None:
    loader, _ = opened()
    names = [loader.file(place)[0] for place in range(20 * len(ROWS))]
    passes = {tuple(names[i : i + len(ROWS)]) for i in range(0, len(names), len(ROWS))}
    assert len(passes) > 15
    assert all(len(set(order)) == len(ROWS) for order in passes)
    same, other = (delivered(take(opened(seed=seed)[0], 9)) for seed in (SEED, SEED + 1))
    assert delivered(take(loader, 9)) == same != other


def test_rows_of_similar_length_are_batched_together(opened: Opened) -> None:
    def padding(bucketing: bool) -> float:
        found = take(opened(bucketing=bucketing)[0], 40)
        return 1 - sum(u.tokens for u in found) / sum(u.padded_tokens for u in found)

    assert padding(True) < 0.6 * padding(False)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_validation_is_every_row_once_on_as_many_batches(world: int, opened: Opened) -> None:
    held = [opened(rank, world)[1] for rank in range(world)]
    for _ in range(2):
        parts = [list(part.prefetched(START)) for part in held]
        assert len({len(part) for part in parts}) == 1
        found = [row for part in parts for row in delivered(part)]
        assert len(found) == len({tokens for tokens, *_ in found}) == 47
    assert {label for _, label, _ in found} == {0, 1}


def test_the_threads_end(opened: Opened) -> None:
    loader, held = opened()
    take(loader, 3)
    list(held.prefetched(START))
    assert not [t for t in threading.enumerate() if t.name == "headrace-prefetch"]


@pytest.mark.parametrize("world,named", [(6, "names 5; start 5"), (4, "batches of 3 row")])
def test_too_many_ranks_are_refused(world: int, named: str, opened: Opened) -> None:
    with pytest.raises(TrainingError, match=rf"^world size {world}: .*{named}") as caught:
        opened(0, world, batch_rows=16 if world == 6 else 3)
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
def test_a_mistake_is_one_line(override: str) -> None:
    right = [
        "stream.unprepared_rows=99", "stream.batch_rows=8", "corpus.tokenizer=a",
        "corpus.truncation_side=start", "corpus.label_names=[a, b]", "corpus.validation=a.tar",
    ]  # fmt: skip
    if not override:
        assert config.load(None, right).stream.unprepared_rows == 99
        return
    with pytest.raises(
        ConfigError, match=r"or set stream\.unprepared_rows=0 to prepare first$"
    ) as caught:
        config.load(None, [*right, override])
    assert len(caught.value.lines) == 1
    assert caught.value.lines[0].startswith(MISTAKES[override])


def drain(opened: Opened, **keys: Any) -> list[Row]:
    loader, held = opened(keys=keys)
    return delivered([*take(loader, 40), *held.prefetched(START)])


@pytest.mark.parametrize("case", HOSTILE)
def test_a_damaged_or_hostile_shard_ends_the_run_by_its_name(
    case: str, folder: Path, opened: Opened
) -> None:
    data, message = HOSTILE[case]
    (folder / "train-0.tar").write_bytes(GOOD_ROW + data + END)
    with pytest.raises(InputError, match=rf"train-0\.tar[,:] [^\n]*{message}"):
        drain(opened, input="train-0.tar")


def test_a_shard_that_is_cut_between_members_is_no_end(folder: Path, opened: Opened) -> None:
    """Where webdataset's own reader takes what is there for all."""
    path = folder / "train-3.tar"
    path.write_bytes(path.read_bytes()[: 512 * 4])
    assert len(list(webdataset.WebDataset(str(path), shardshuffle=False))) == 1
    with pytest.raises(InputError, match=r"train-3\.tar: ends at byte 2048 .* is cut short"):
        drain(opened)


def test_a_hostile_shard_runs_nothing(folder: Path, opened: Opened) -> None:
    ran = folder / "ran"
    payload = pickle.dumps(Payload(ran))
    with tarfile.open(folder / "train-1.tar", "a") as tar:
        for name in ("p.pyd", "p.pkl", "p.pth", "p.pickle", "p.npy", "p.txt", "p.cls"):
            member = tarfile.TarInfo(name)
            member.size = len(payload)
            tar.addfile(member, io.BytesIO(payload))
        tar.addfile(link("symbolic.txt", tarfile.SYMTYPE, str(folder / "held-0.tar")))
    before = sorted(folder.rglob("*"))
    assert len({tokens for tokens, *_ in drain(opened)}) == sum(ROWS) + 47
    assert sorted(folder.rglob("*")) == before
    for name in (f"pipe:touch {ran}", f"pipe://touch {ran}"):
        with pytest.raises(InputError, match=r"no such file|pipe:// is not supported"):
            opened(keys={"input": name})
    assert not ran.exists()


def test_rows_that_cannot_be_used_are_counted_up_to_a_limit(
    folder: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_rows, "MIN_ROWS_FOR_SHARE", 100)
    pack(
        folder / "train-5.tar",
        [("a.cls", b"negative"), *((f"{n}.txt", b"of no label") for n in range(15))],
    )
    pack(folder / "held-1.tar", [("a.txt", b" "), ("a.cls", b"positive")])
    assert len({tokens for tokens, *_ in drain(opened, max_skipped_ratio=0.2)}) == sum(ROWS) + 30
    pattern = r"corpus\.max_skipped_ratio=0\.01: .* with no label, first train-5\.tar:2;"
    with pytest.raises(InputError, match=pattern):
        drain(opened, max_skipped_ratio=0.01)


def test_shards_of_no_usable_row_end_the_run(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_rows, "MAX_TEXTS_WITHOUT_ROW", 300)
    with pytest.raises(InputError, match=r"no usable row, like all files before it .*filtered"):
        drain(opened, filters={"cls": "neutral"})
    drop = {"max_tokens": 1, "overflow": "drop"}
    with pytest.raises(InputError, match="no row is left of this text and the 299 texts before it"):
        drain(opened, **drop)
    _, held = opened(keys=drop)
    with pytest.raises(InputError, match=r"corpus\.validation: none of 47 text\(s\) leaves a row"):
        list(held.prefetched(START))


def test_an_unknown_label_is_named(opened: Opened) -> None:
    with pytest.raises(InputError, match=r"train-\d\.tar:\d+: label 'positive' is none of"):
        drain(opened, label_names=["negative", "neutral"])


def test_a_missing_shard_and_a_wrong_tokenizer_are_named(folder: Path, opened: Opened) -> None:
    with pytest.raises(InputError, match=r"train-9\.tar: no such file; did you mean"):
        opened(keys={"input": "train-9.tar"})
    with pytest.raises(InputError, match=r"corpus\.tokenizer='.*held-0\.tar'"):
        opened(keys={"tokenizer": str(folder / "held-0.tar")})


def test_shards_may_be_packed_and_remote(folder: Path, opened: Opened) -> None:
    """Each is fetched when its turn comes; one that has gone by then is named."""
    here = {tokens for tokens, *_ in drain(opened)}
    files, store = fsspec.filesystem("memory"), f"memory://{folder.name}"
    for path in [*folder.glob("*.tar")]:
        files.pipe(f"{store}/{path.name}.gz", gzip.compress(path.read_bytes()))
        path.unlink()
    keys = {"input": f"{store}/train-{{0..4}}.tar.gz", "validation": f"{store}/held-*.tar.gz"}
    assert {tokens for tokens, *_ in drain(opened, **keys)} == here
    loader, _ = opened(keys=keys)
    files.rm(f"{store}/train-2.tar.gz")
    with pytest.raises(DatasetError, match=r"train-2\.tar\.gz: does not exist any more"):
        take(loader, 40)
