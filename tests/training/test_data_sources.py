"""Runs on shards from a server, damaged shards, several mixed datasets and sorted input."""

import csv
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.dataset.manifest import open_dataset
from tests.helpers.corpora import small_run_overrides, write_reviews
from tests.helpers.processes import call, error_lines, last_with, losses, run, was_killed, weights
from tests.helpers.servers import FileServer

pytestmark = [pytest.mark.slow, pytest.mark.distributed]

RUN = ["train.max_steps=10", "train.log_every=1"]


def damage(shards: Path, blocks: slice, split: str = "train") -> None:
    """Flip a bit in each of these blocks of a split."""
    manifest = open_dataset(shards)
    for record in np.load(manifest.index(split))[blocks]:
        shard = manifest.shard(split, record["shard"])
        data = bytearray(shard.read_bytes())
        data[int(record["offset"]) + 200] ^= 1
        shard.write_bytes(data)


def test_shards_on_an_unreliable_server_train_the_same_weights(
    corpus: Path, tmp_path: Path
) -> None:
    status, _, err = run(*small_run_overrides(corpus), *RUN, f"run.dir={tmp_path}/local")
    assert status == 0, err
    fail_sometimes = lambda path, count: 503 if count % 5 == 3 else None  # noqa: E731
    with FileServer(corpus / "shards", before=fail_sometimes) as server:
        remote = [
            *small_run_overrides(corpus),
            *RUN, f"corpus.shards={server.url}", f"run.dir={tmp_path}/remote",
            f"stream.cache={tmp_path}/cache", "stream.cache_gb=1",
        ]  # fmt: skip
        status, _, err = run(*remote, nproc=2)
        assert status == 0, err
        found, expected = losses(tmp_path / "remote"), losses(tmp_path / "local")
        assert all(abs(found[step] - expected[step]) < 1e-5 for step in expected)
        sent = server.bytes_sent["train/00000.tar"]
        shutil.rmtree(tmp_path / "remote")
        status, _, err = run(*remote)
        assert status == 0, err
        assert weights(tmp_path / "remote") == weights(tmp_path / "local")
        assert server.bytes_sent["train/00000.tar"] == sent  # the second run reads the cache
    status, _, err = run(*remote, "train.max_steps=12", "stream.attempts=2")
    assert status == 2
    (line,) = error_lines(err)
    assert "dataset.json" in line
    assert "attempt" in line


def test_damaged_blocks_are_skipped_counted_and_limited(corpus: Path, tmp_path: Path) -> None:
    shards = shutil.copytree(corpus / "shards", tmp_path / "shards")
    damage(shards, slice(2))
    settings = [
        *small_run_overrides(corpus),
        f"corpus.shards={shards}",
        "train.epochs=2",
        "train.log_every=1",
    ]
    status, _, err = call("train", *settings, f"run.dir={tmp_path}/stop")
    assert status == 2
    assert "set stream.on_corrupt=skip" in err
    skipping = [*settings, "stream.on_corrupt=skip"]
    status, _, err = run(
        *skipping, "stream.max_corrupt_ratio=0.1", f"run.dir={tmp_path}/skip", nproc=2
    )
    assert status == 0, err
    assert last_with("progress/skipped_rows", tmp_path / "skip")["progress/skipped_rows"] == 64
    assert err.count("its 16 rows are skipped") >= 2
    status, _, err = call(
        "train", *skipping, "stream.max_corrupt_ratio=0.001", f"run.dir={tmp_path}/limit"
    )
    assert status == 2
    (line,) = error_lines(err)
    assert "stream.max_corrupt_ratio=0.001: " in line
    assert "rows are in damaged blocks and were skipped" in line


def test_damaged_validation_blocks_are_reported_by_their_rank_counted_and_limited(
    corpus: Path, tmp_path: Path
) -> None:
    """The final evaluation of a run reads them, the first damaged block on the last rank."""
    shards = shutil.copytree(corpus / "shards", tmp_path / "shards")
    damage(shards, slice(-1, None), "validation")
    settings = [*small_run_overrides(corpus), f"corpus.shards={shards}", "train.max_steps=3"]
    status, _, err = run(*settings, f"run.dir={tmp_path}/stop", nproc=2)
    assert status != 0
    assert "error: rank 1: " in err
    assert "validation/00000.tar: block" in err
    assert "[rank" not in err  # no worker's traceback
    skipping = [*settings, "stream.on_corrupt=skip"]
    status, _, err = call(
        "train", *skipping, "stream.max_corrupt_ratio=0.2", f"run.dir={tmp_path}/skip"
    )
    assert status == 0, err
    rows = open_dataset(shards).splits["validation"].rows
    last = last_with("val/examples", tmp_path / "skip")
    assert 0 < last["val/skipped_rows"] == rows - last["val/examples"]
    damage(shards, slice(0, -1), "validation")
    status, _, err = call("train", *skipping, f"run.dir={tmp_path}/limit")
    assert status == 2
    assert f"{rows} of {rows} rows are in damaged blocks and were skipped" in err


@pytest.fixture(scope="module")
def second_dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards of another corpus, prepared with the first one's tokenizer."""
    folder = tmp_path_factory.mktemp("second")
    write_reviews(folder / "reviews.csv", 300, seed=9)
    status, _, err = call(
        "train",
        *small_run_overrides(folder),
        f"corpus.tokenizer={corpus}/shards/tokenizer.json", "train.max_steps=1",
        f"run.dir={folder}/run",
    )  # fmt: skip
    assert status == 0, err
    return folder / "shards"


@pytest.mark.campaign
def test_mixed_datasets_resume_bit_for_bit(
    corpus: Path, second_dataset: Path, tmp_path: Path
) -> None:
    mixed = [
        *small_run_overrides(corpus), f"stream.mix={{{second_dataset}: 0.5}}", "stream.repeat=2",
        "train.epochs=1", "train.log_every=1",
    ]  # fmt: skip
    status, _, err = run(*mixed, f"run.dir={tmp_path}/uninterrupted", nproc=2)
    assert status == 0, err
    datasets = (corpus / "shards", second_dataset)
    rows = [open_dataset(path).splits["train"].rows for path in datasets]
    last = last_with("progress/epoch", tmp_path / "uninterrupted")
    assert last["progress/epoch"] == 1
    assert abs(last["progress/rows"] - (2 * rows[0] + rows[1] / 2)) <= 16
    for crash in (("update", 13), None):
        status, _, err = run(
            *mixed, "train.checkpoint_every=5", f"run.dir={tmp_path}/killed", nproc=2, crash=crash
        )
        assert was_killed(status, err) if crash else status == 0, err
    assert losses(tmp_path / "killed") == losses(tmp_path / "uninterrupted")
    assert weights(tmp_path / "killed") == weights(tmp_path / "uninterrupted")


def test_dataset_with_another_tokenizer_is_not_mixed(corpus: Path, tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews.csv", 300, seed=3)
    status, _, err = call(
        "train", *small_run_overrides(tmp_path), "train.max_steps=1", f"run.dir={tmp_path}/own"
    )
    assert status == 0, err
    mix = f"stream.mix={{{tmp_path}/shards: 1}}"
    status, _, err = call("train", *small_run_overrides(corpus), mix, f"run.dir={tmp_path}/run")
    assert status == 2
    assert f"stream.mix: {tmp_path}/shards has another tokenizer than {corpus}/shards" in err


def test_input_sorted_by_label_trains_as_well_as_shuffled_input(tmp_path: Path) -> None:
    """All negative rows come first, in a corpus of several shuffle windows."""
    write_reviews(tmp_path / "all.csv", 1500)
    with (tmp_path / "all.csv").open() as file:
        header, *rows = csv.reader(file)
    accuracy = {}
    for name in ("sorted", "shuffled"):
        folder = tmp_path / name
        folder.mkdir()
        rows.sort(key=lambda row: row[1])
        if name == "shuffled":
            random.Random(0).shuffle(rows)
        with (folder / "reviews.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        status, _, err = call(
        "train",
            *small_run_overrides(folder),
            "stream.lanes=4", "stream.shuffle_window=4", "train.epochs=4",
            "train.lr=5e-3", f"run.dir={folder}/run",
    )  # fmt: skip
        assert status == 0, err
        accuracy[name] = last_with("val/accuracy", folder / "run")["val/accuracy"]
    assert min(accuracy.values()) > 0.85
    assert abs(accuracy["sorted"] - accuracy["shuffled"]) < 0.05
