"""Which files a command line names, and what their names show."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.inspection.files import find


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()


def write(*names: str, text: str = "a\nb\n") -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def values(*arguments: str) -> dict[str, Any]:
    return {name: key.value for name, key in find(arguments).keys.items()}


def test_a_file_in_the_current_folder() -> None:
    write("reviews.csv")
    assert values("reviews.csv") == {"input": "reviews.csv", "root": "."}


@pytest.mark.parametrize("given", ["reviews.csv", "data/reviews.csv"])
def test_a_file_in_data_needs_no_root(given: str) -> None:
    write("data/reviews.csv")
    assert values(given) == {"input": "reviews.csv"}


def test_files_in_both_folders_start_from_the_current_one() -> None:
    write("a.csv", "data/b.csv")
    assert values("a.csv", "b.csv") == {"input": ["a.csv", "data/b.csv"], "root": "."}


def test_an_absolute_path_stays_as_it_is(tmp_path: Path) -> None:
    write("a.csv")
    assert values(f"{tmp_path}/a.csv") == {"input": f"{tmp_path}/a.csv"}


def test_a_pattern() -> None:
    write("2024/a.csv", "2024/b.csv")
    files = find(["2024/*.csv"])
    assert files.keys["input"].value == "2024/*.csv"
    assert [source.name for source in files.sources] == ["2024/a.csv", "2024/b.csv"]


def test_a_missing_file_is_one_line_with_the_nearest_name() -> None:
    write("reviews.csv")
    with pytest.raises(InputError, match=r"no such file; did you mean reviews.csv"):
        find(["review.csv"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train.csv", "test.csv"), {"input": "train.csv", "validation": "test.csv"}),
        (
            ("test.csv", "dev.csv", "train-0.csv", "train-1.csv"),
            {
                "input": ["train-0.csv", "train-1.csv"],
                "validation": "dev.csv",
                "test": "test.csv",
            },
        ),
        (("a.csv", "test.csv"), {"input": ["a.csv", "test.csv"]}),
        (("contest.csv", "latest.csv"), {"input": ["contest.csv", "latest.csv"]}),
    ],
)
def test_names_show_splits(names: tuple[str, ...], expected: dict[str, Any]) -> None:
    write(*names)
    assert values(*names) == expected | {"root": "."}


def test_splits_of_a_saved_dataset() -> None:
    for split in ("train", "test"):
        write(f"saved/{split}/data.arrow")
        state = {"_data_files": [{"filename": "data.arrow"}]}
        Path(f"saved/{split}/state.json").write_text(json.dumps(state))
    Path("saved/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert values("saved") == {"input": "saved/train", "validation": "saved/test", "root": "."}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train.en", "train.de"), {"source": "train.en", "target": "train.de"}),
        (("target.txt", "source.txt"), {"source": "source.txt", "target": "target.txt"}),
        (("source.txt", "target.txt"), {"source": "source.txt", "target": "target.txt"}),
        (("a.en", "b.de"), {"source": "a.en", "target": "b.de"}),
    ],
)
def test_parallel_files(names: tuple[str, ...], expected: dict[str, str]) -> None:
    write(*names)
    assert values(*names)["input"] == expected


def test_parallel_files_of_splits() -> None:
    write("train.en", "train.de", "val.en", "val.de")
    assert values("train.en", "train.de", "val.en", "val.de") == {
        "input": {"source": "train.en", "target": "train.de"},
        "validation": {"source": "val.en", "target": "val.de"},
        "root": ".",
    }


def test_splits_are_not_parallel_if_one_of_them_is_not() -> None:
    write("train.en", "train.de", "val.en")
    found = values("train.en", "train.de", "val.en")
    assert found["input"] == ["train.en", "train.de"]
    assert found["validation"] == "val.en"


def test_compressed_parallel_files() -> None:
    for name in ("a.en.gz", "a.de.gz"):
        Path(name).write_bytes(gzip.compress(b"a\nb"))
    assert values("a.en.gz", "a.de.gz")["input"] == {"source": "a.en.gz", "target": "a.de.gz"}


def test_texts_of_other_lengths_are_not_parallel() -> None:
    write("a.en")
    write("a.de", text="a\n")
    assert values("a.en", "a.de")["input"] == ["a.en", "a.de"]


def test_parallel_files_with_columns() -> None:
    write("x.txt", "y.txt")
    assert values("image=x.txt,label=y.txt")["input"] == {"image": "x.txt", "label": "y.txt"}
    assert values("image=x.txt", "label=y.txt")["input"] == {"image": "x.txt", "label": "y.txt"}
    with pytest.raises(InputError, match=r"y.txt: does not have the form COLUMN=FILE"):
        find(["image=x.txt", "y.txt"])
