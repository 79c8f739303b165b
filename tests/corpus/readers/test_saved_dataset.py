"""Tests of Hugging Face datasets as `save_to_disk` lays them out."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.readers.inputs import locate
from pipeline.errors import InputError
from tests.helpers.files import content, reviews, write
from tests.helpers.saved_datasets import NAMES, save

ROWS = reviews(120)


def save_splits(folder: Path, **splits: Any) -> Path:
    """Write several splits as `DatasetDict.save_to_disk` does."""
    for split, rows in splits.items():
        save(folder / split, rows)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def shards_of(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in content(folder).items() if name != "dataset.json"}


@pytest.mark.parametrize("files", [1, 3])
def test_dataset_is_the_same_as_from_a_table(
    prepare_dataset: Any, tmp_path: Path, files: int
) -> None:
    save(tmp_path / "saved", ROWS, files)
    write(tmp_path / "table.csv", ROWS)
    saved = prepare_dataset(input="saved", shards=str(tmp_path / "a"))
    prepare_dataset(input="table.csv", shards=str(tmp_path / "b"))
    assert saved.names == {"label": tuple(NAMES)}
    assert shards_of(tmp_path / "a") == shards_of(tmp_path / "b")
    assert len(saved.inputs) == files


def test_splits_are_named_by_their_folders(prepare_dataset: Any, tmp_path: Path) -> None:
    save_splits(tmp_path / "saved", train=ROWS[:90], test=ROWS[90:])
    manifest = prepare_dataset(input="saved/train", validation="saved/test")
    assert {name: split.rows for name, split in manifest.splits.items()} == {
        "train": 90,
        "validation": 30,
    }
    with pytest.raises(
        InputError,
        match=r"^saved: has the splits train, test; use one of saved/train, saved/test$",
    ):
        locate(["saved"], tmp_path)


def test_files_are_those_that_the_state_names(tmp_path: Path) -> None:
    folder = save(tmp_path / "saved", ROWS, 2)
    (folder / "cache-1234.arrow").write_bytes(b"x")
    assert [source.name for source in locate(["saved/"], tmp_path)] == [
        "saved/data-00000-of-00002.arrow",
        "saved/data-00001-of-00002.arrow",
    ]
    assert len(locate(["saved", "saved/data-*.arrow"], tmp_path)) == 2


STATES: dict[str, tuple[Any, str]] = {
    "rows in another order": (
        {
            "_data_files": [{"filename": "a"}],
            "_indices_data_files": [{"filename": "indices.arrow"}],
        },
        r"its rows are selected or reordered by an index; .* dataset\.flatten_indices\(\)$",
    ),
    "no files": ({"_data_files": []}, "state.json lists no data files; save the dataset again"),
    "damaged": ("{", "state.json cannot be read: Expecting .*; save the dataset again"),
    "a list": ([], "state.json is not a JSON object; save the dataset again"),
    "another layout": ({"_data_files": ["a"]}, "state.json is damaged: .*; save the dataset again"),
    "a path that leads out": (
        {"_data_files": [{"filename": "../../a.arrow"}]},
        "state.json lists a file outside the folder, '../../a.arrow'; save the dataset again",
    ),
    "a missing file": (
        {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]},
        "data-00000-of-00001.arrow is missing; save the dataset again",
    ),
}


@pytest.mark.parametrize("case", STATES)
def test_error_for_a_state_that_cannot_be_used(tmp_path: Path, case: str) -> None:
    state, message = STATES[case]
    folder = tmp_path / "saved"
    folder.mkdir()
    text = state if isinstance(state, str) else json.dumps(state)
    (folder / "state.json").write_text(text)
    with pytest.raises(InputError, match=f"^saved: {message}"):
        locate(["saved"], tmp_path)
