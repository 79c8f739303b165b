"""The dataset of a run on several processes of a node."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import config
from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.errors import DatasetError
from pipeline.runtime.launcher import RankInfo
from pipeline.training.datasets import Dataset, open_or_prepare
from tests.helpers.corpora import CASES, small_run_overrides


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., config.Config]:
    """A function that returns a config whose input is in the folder of the test."""
    CASES["classification"].write(tmp_path / "reviews.csv", 120)
    return lambda *more: config.load(None, [*small_run_overrides(tmp_path), *more])


def first() -> RankInfo:
    return RankInfo()


def start_second(settings: config.Config) -> tuple[threading.Thread, list[Dataset]]:
    """Start a thread that opens the dataset as the second process of a node does."""
    found: list[Dataset] = []
    second = RankInfo(rank=1, local_rank=1, size=2)
    thread = threading.Thread(target=lambda: found.append(open_or_prepare(settings, second)))
    thread.start()
    return thread, found


def change(folder: Path) -> None:
    CASES["classification"].write(folder / "reviews.csv", 150)


def test_the_second_process_waits_until_the_first_has_prepared(
    load: Callable[..., config.Config],
) -> None:
    settings = load()
    thread, found = start_second(settings)
    manifest, _ = open_or_prepare(settings, first())
    thread.join(30)
    assert [other for other, _ in found] == [manifest]


def test_the_second_process_gets_the_shards_that_the_first_makes_again(
    load: Callable[..., config.Config], tmp_path: Path
) -> None:
    old, _ = open_or_prepare(load(), first())
    change(tmp_path)
    settings = load("corpus.if_changed=prepare")
    thread, found = start_second(settings)
    time.sleep(0.5)
    assert not found, "the old dataset is stale"
    manifest, _ = open_or_prepare(settings, first())
    thread.join(30)
    assert manifest.fingerprint != old.fingerprint
    assert [other.fingerprint for other, _ in found] == [manifest.fingerprint]


def test_the_second_process_waits_while_the_first_compares_contents(
    load: Callable[..., config.Config], tmp_path: Path
) -> None:
    old, _ = open_or_prepare(load(), first())
    os.utime(tmp_path / "reviews.csv", (1, 1))
    thread, found = start_second(load())
    time.sleep(0.3)
    assert not found
    manifest, _ = open_or_prepare(load(), first())
    thread.join(30)
    assert manifest == old
    assert [other for other, _ in found] == [old]


def test_training_refuses_stale_shards_unless_they_are_to_be_kept(
    load: Callable[..., config.Config], tmp_path: Path
) -> None:
    old, _ = open_or_prepare(load(), first())
    change(tmp_path)
    with pytest.raises(DatasetError, match=r"reviews\.csv: has changed from .* to .* bytes since"):
        open_or_prepare(load(), first())
    keep = load("corpus.if_changed=keep")
    thread, found = start_second(keep)
    thread.join(30)
    assert [other for other, _ in found] == [old]
    assert open_or_prepare(keep, first())[0] == old


def test_other_settings_are_reported_before_a_changed_input(
    load: Callable[..., config.Config], tmp_path: Path
) -> None:
    open_or_prepare(load(), first())
    change(tmp_path)
    with pytest.raises(DatasetError) as caught:
        open_or_prepare(load("corpus.max_tokens=40", "corpus.if_changed=prepare"), first())
    (line,) = caught.value.lines
    assert line.startswith("corpus.max_tokens=40: ")


def test_runs_of_equal_settings_share_shards_whatever_their_names(
    load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [load(f"run.name={name}", "corpus.shards=") for name in ("a", "b")]
    for own in settings:
        open_or_prepare(own, first())
    (folder,) = Path("data/shards").glob("reviews-????????")
    assert open_dataset(folder).location == settings[0].corpus.shards == settings[1].corpus.shards
