"""The manifest: errors on opening a dataset, its fingerprint, and the byte lengths of tokens."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.corpus.dataset.manifest import PREPARE, check_settings, open_dataset
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.prepare.prepare import prepare
from pipeline.errors import DatasetError
from tests.helpers.files import reviews, row_dicts, settings_in, write


@pytest.fixture
def dataset(prepare_dataset, tmp_path: Path) -> Path:
    write(tmp_path / "reviews.csv", reviews(300))
    return prepare_dataset().path


def change_manifest(folder: Path, **changes: object) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder missing": (
        shutil.rmtree,
        f"there is no such dataset; make it with {PREPARE}",
    ),
    "manifest missing": (
        lambda d: (d / "dataset.json").unlink(),
        "is not a complete dataset; make it with",
    ),
    "manifest truncated": (
        lambda d: (d / "dataset.json").write_text("{"),
        "dataset.json: is damaged",
    ),
    "manifest invalid": (lambda d: change_manifest(d, splits=1), "dataset.json: is damaged"),
    "other format": (
        lambda d: change_manifest(d, format=1),
        "has format 1, but this version reads 4",
    ),
    "tokenizer changed": (
        lambda d: flip(d / "tokenizer.json"),
        "tokenizer.json: is not the file that",
    ),
    "tokenizer missing": (
        lambda d: (d / "tokenizer.json").unlink(),
        "tokenizer.json: No such file",
    ),
    "shard missing": (
        lambda d: (d / "train" / "00000.tar").unlink(),
        "00000.tar: this shard is missing",
    ),
    "shard truncated": (
        lambda d: (d / "train" / "00000.tar").write_bytes(b"x" * 700),
        "00000.tar: has 700 bytes, not",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_an_error(dataset: Path, case: str):
    damage, message = DAMAGE[case]
    open_dataset(dataset)
    damage(dataset)
    with pytest.raises(DatasetError) as error:
        open_dataset(dataset)
    assert message in str(error.value)
    assert str(dataset) in str(error.value)


@pytest.mark.parametrize("number", [3, 5])
def test_another_format_gives_one_error_line(dataset: Path, number: int):
    """The other keys of the manifest are not checked, because the format is checked first."""
    (dataset / "dataset.json").write_text(json.dumps({"format": number, "columns": []}))
    with pytest.raises(DatasetError) as error:
        open_dataset(dataset)
    message = (
        f"{dataset}/dataset.json: has format {number}, but this version reads 4; "
        "use the version that wrote it, or prepare again, with another corpus.shards"
    )
    assert error.value.lines == [message]


def test_each_changed_setting_is_reported(dataset: Path, prepare_dataset):
    """Except `workers`, which may change."""
    with pytest.raises(DatasetError) as error:
        prepare_dataset(max_tokens=50, lowercase=True, workers=3)
    assert error.value.lines == [
        f"corpus.{key}={new}: {dataset} was made with {old}; "
        f"set corpus.shards to another folder, or delete {dataset} and prepare again"
        for key, old, new in [("lowercase", False, True), ("max_tokens", 60, 50)]
    ]


def test_a_key_missing_from_the_manifest_counts_as_its_default(dataset: Path, tmp_path: Path):
    manifest = open_dataset(dataset)
    older = {key: value for key, value in manifest.settings.items() if key != "word_bytes"}
    change_manifest(dataset, settings=older)
    check_settings(open_dataset(dataset), settings_in(tmp_path))
    with pytest.raises(DatasetError, match=r"corpus\.word_bytes=9: .* was made with 24"):
        check_settings(open_dataset(dataset), settings_in(tmp_path, word_bytes=9))


def test_a_setting_that_no_longer_exists_is_reported(dataset: Path, tmp_path: Path):
    change_manifest(dataset, settings=open_dataset(dataset).settings | {"gone": 1})
    with pytest.raises(DatasetError, match=r"corpus\.gone=None: .* was made with 1"):
        check_settings(open_dataset(dataset), settings_in(tmp_path))


def test_a_dataset_of_another_task_is_an_error(dataset: Path, tmp_path: Path):
    with pytest.raises(DatasetError, match="was made for a task with the fields"):
        prepare(settings_in(tmp_path), (FieldSpec("tokens", "text", "text"),))


def test_the_fingerprint_depends_only_on_the_content(dataset: Path, tmp_path: Path):
    manifest = open_dataset(dataset)
    moved = Path(shutil.move(dataset, tmp_path / "moved"))
    assert open_dataset(moved).fingerprint == manifest.fingerprint
    elsewhere = {"path": "elsewhere.csv", "bytes": manifest.inputs[0].bytes}
    change_manifest(moved, inputs=[elsewhere], settings={**manifest.settings, "input": ["else*"]})
    assert open_dataset(moved).fingerprint == manifest.fingerprint
    change_manifest(moved, names={"label": ["positive", "negative"]})
    assert open_dataset(moved).fingerprint != manifest.fingerprint


@pytest.mark.parametrize("level", ["subword", "word", "byte"])
def test_byte_lengths_of_tokens_add_up_to_the_size_of_the_corpus(
    level: str, tmp_path: Path
) -> None:
    """Including the blanks between words and a line end after each text."""
    lines = [text + " the" * n for n in range(20) for text in ("the naïve film", "映画 was été")]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    fields = (FieldSpec("tokens", "text", "text", append_end=True),)
    settings = settings_in(tmp_path, input="a.txt", level=level, validation=0.5, max_tokens=200)
    manifest = prepare(settings, fields)
    lengths = manifest.token_byte_lengths("tokenizer")
    rows = [*row_dicts(manifest, "train"), *row_dicts(manifest, "validation")]
    total = sum(lengths[token] for row in rows for token in row["tokens"])
    assert total == sum(len(line.encode()) + 1 for line in lines)
