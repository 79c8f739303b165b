"""Input files that change after their dataset was prepared."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.dataset import input_changes
from pipeline.corpus.dataset.input_changes import has_current_versions, reason_to_prepare_again
from pipeline.corpus.dataset.manifest import Manifest, open_dataset
from pipeline.corpus.prepare.prepare import prepare_with_summary
from pipeline.errors import DatasetError, InputError
from tests.helpers.files import FIELDS, reviews, settings_in, write

Prepare = Callable[..., Manifest]


def swap_labels(path: Path) -> None:
    """Exchange the labels positive and negative, which have the same length."""
    data = path.read_bytes()
    swapped = data.replace(b"positive", b"#").replace(b"negative", b"positive")
    swapped = swapped.replace(b"#", b"negative")
    assert len(swapped) == len(data)
    assert swapped != data
    path.write_bytes(swapped)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    write(path, reviews(300))
    return path


@pytest.fixture
def manifest(source: Path, prepare_dataset: Prepare) -> Manifest:
    return prepare_dataset()


def test_an_unchanged_file_is_not_read(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_changes, "_content_digest", lambda *_: pytest.fail("was read"))
    assert not reason_to_prepare_again(manifest, settings_in(tmp_path))
    assert has_current_versions(manifest, settings_in(tmp_path))


def test_swapped_labels_in_a_file_of_the_same_size_are_noticed(
    manifest: Manifest, source: Path, prepare_dataset: Prepare
) -> None:
    swap_labels(source)
    with pytest.raises(DatasetError) as caught:
        prepare_dataset()
    (line,) = caught.value.lines
    assert line == (
        f"{source}: has changed since {manifest.location} was made, so the shards are stale; "
        "corpus.if_changed=prepare makes the shards again, corpus.if_changed=keep uses them as "
        "they are"
    )


def test_a_file_of_another_size_is_noticed(
    manifest: Manifest, source: Path, prepare_dataset: Prepare
) -> None:
    size = source.stat().st_size
    source.write_bytes(source.read_bytes() + b"more,positive,a\n")
    with pytest.raises(DatasetError, match=rf"has changed from {size:,} to {size + 16:,} bytes"):
        prepare_dataset()


def test_a_new_file_is_noticed_and_a_missing_one_is_not_compared(
    manifest: Manifest, source: Path, tmp_path: Path, prepare_dataset: Prepare
) -> None:
    source.unlink()  # a machine that only trains may lack the input
    assert not reason_to_prepare_again(manifest, settings_in(tmp_path))
    write(tmp_path / "new.csv", reviews(10))
    with pytest.raises(DatasetError, match=r"/new\.csv: has become an input file since"):
        prepare_dataset()


def test_shards_are_made_again_when_asked(
    manifest: Manifest,
    source: Path,
    tmp_path: Path,
    prepare_dataset: Prepare,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The result equals that of a new folder, and nothing else is left beside the dataset."""
    swap_labels(source)
    caplog.set_level("INFO", logger="pipeline")
    again = prepare_dataset(if_changed="prepare")
    messages = [record.message for record in caplog.records]
    assert f"{source}: has changed since {manifest.location} was made; preparing again" in messages
    assert again.location == manifest.location
    assert again.fingerprint != manifest.fingerprint
    assert open_dataset(manifest.location).to_text() == again.to_text()
    assert again.fingerprint == prepare_dataset(shards=str(tmp_path / "other")).fingerprint
    assert sorted(path.name for path in tmp_path.glob("shards*")) == [
        "shards", "shards.inputs.json", "shards.lock"
    ]  # fmt: skip
    assert prepare_dataset() == again  # not stale any more


def test_the_old_dataset_is_kept_until_the_new_one_is_complete(
    manifest: Manifest, source: Path, tmp_path: Path, prepare_dataset: Prepare
) -> None:
    source.write_text("no,such,columns\n1,2,3\n")
    with pytest.raises(InputError):
        prepare_dataset(if_changed="prepare")
    assert open_dataset(manifest.location).fingerprint == manifest.fingerprint


def test_a_kill_between_the_two_renames_loses_nothing(
    manifest: Manifest, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap_labels(source)
    rename, settings = Path.rename, settings_in(tmp_path, if_changed="prepare")

    def killed(path: Path, target: Path) -> Path:
        if path.name == "out":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_with_summary(settings, FIELDS)
    assert open_dataset(tmp_path / "shards.replaced").fingerprint == manifest.fingerprint
    again, _ = prepare_with_summary(settings, FIELDS)
    assert again.fingerprint != manifest.fingerprint
    assert not (tmp_path / "shards.replaced").exists()
    assert not (tmp_path / "shards.partial").exists()


@pytest.mark.parametrize("change", [swap_labels, lambda path: path.write_text("x\n")])
def test_stale_shards_are_used_when_asked(
    change: Callable[[Path], None], manifest: Manifest, source: Path, prepare_dataset: Prepare
) -> None:
    change(source)
    assert prepare_dataset(if_changed="keep") == manifest


def test_the_content_of_a_touched_file_is_compared_once(
    manifest: Manifest,
    source: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", logger="pipeline")
    settings, before = settings_in(tmp_path), (manifest.path / "dataset.json").read_bytes()
    os.utime(source, (1, 1))
    assert not has_current_versions(manifest, settings)  # other processes wait
    assert not reason_to_prepare_again(manifest, settings)
    assert "1 input file(s) have a new modification time" in caplog.text
    caplog.clear()
    assert has_current_versions(manifest, settings)
    assert not reason_to_prepare_again(manifest, settings)
    assert not caplog.records
    assert (manifest.path / "dataset.json").read_bytes() == before


def test_a_copied_dataset_is_compared_by_content(
    manifest: Manifest, source: Path, tmp_path: Path
) -> None:
    """The copy has no versions of this machine, or those of another dataset of this name."""
    copy = tmp_path / "copy" / "shards"
    shutil.copytree(manifest.path, copy)
    settings = settings_in(tmp_path, shards=str(copy))
    assert not reason_to_prepare_again(open_dataset(copy), settings)
    swap_labels(source)
    with pytest.raises(DatasetError, match="has changed since"):
        reason_to_prepare_again(open_dataset(copy), settings)
    recorded = {"reviews.csv": [str(source.stat().st_mtime_ns), "0" * 32]}
    copy.with_name("shards.inputs.json").write_text(json.dumps(recorded))
    with pytest.raises(DatasetError, match="has changed since"):
        reason_to_prepare_again(open_dataset(copy), settings)


def test_a_dataset_without_digests_is_compared_by_size(
    manifest: Manifest, source: Path, tmp_path: Path, prepare_dataset: Prepare
) -> None:
    path = manifest.path / "dataset.json"
    values = json.loads(path.read_text())
    for entry in values["inputs"]:
        del entry["digest"]
    path.write_text(json.dumps(values))
    swap_labels(source)
    assert prepare_dataset().fingerprint == manifest.fingerprint
    source.write_text("text,label\n")
    with pytest.raises(DatasetError, match="has changed from"):
        prepare_dataset()


def test_a_process_that_cannot_record_compares_by_itself(
    manifest: Manifest, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_changes, "_is_writable", lambda _: False)
    os.utime(source, (1, 1))
    assert has_current_versions(manifest, settings_in(tmp_path))
    swap_labels(source)
    with pytest.raises(DatasetError, match="has changed since"):
        has_current_versions(manifest, settings_in(tmp_path))


@pytest.mark.parametrize(
    "names", [["reviews.csv", "./reviews.csv"], ["*.csv", "{tmp}/reviews.csv"]]
)
def test_two_names_of_a_file_are_one_input(
    names: list[str], source: Path, tmp_path: Path, prepare_dataset: Prepare
) -> None:
    inputs: Any = [name.format(tmp=tmp_path) for name in names]
    first = prepare_dataset(input=inputs)
    assert prepare_dataset(input=inputs) == first
    swap_labels(source)
    with pytest.raises(DatasetError, match="has changed since"):
        prepare_dataset(input=inputs)


def test_a_file_with_brackets_in_its_name_is_compared(
    source: Path, tmp_path: Path, prepare_dataset: Prepare
) -> None:
    source = source.rename(tmp_path / "a[1]{2}.csv")
    assert [entry.path for entry in prepare_dataset(input=["a[1]{2}.csv"]).inputs] == [source.name]
    swap_labels(source)
    with pytest.raises(DatasetError, match="has changed since"):
        prepare_dataset(input=["a[1]{2}.csv"])
