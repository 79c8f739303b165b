"""Readers skip rows without reading them: the rows after are the same as without a skip."""

import random
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.corpus.readers import base
from pipeline.corpus.readers.formats import jsonl
from pipeline.corpus.row import Row
from tests.helpers.files import open_reader, reviews, write

ROWS = 200


def rows_with_skips(path: Path, seed: int) -> tuple[list[Row], list[Row]]:
    """Return rows read with skips of random lengths, and the same rows of a reader without."""
    rng = random.Random(seed)
    with open_reader(path, ["text"]) as reader:
        whole = list(reader)
    found: list[Row] = []
    numbers: list[int] = []
    with open_reader(path, ["text"]) as reader:
        position, rows = 0, iter(reader)
        while position < ROWS:
            position += reader.skip(rng.randint(0, 40))
            read = list(islice(rows, rng.randint(1, 9)))
            found += read
            numbers += range(position, position + len(read))
            position += len(read)
    return found, [whole[number] for number in numbers]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.csv"])
def test_rows_after_a_skip_are_the_same(
    tmp_path: Path, name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "COLUMN_CHECK_RECORDS", 20)
    path = write(tmp_path / name, reviews(ROWS), row_group=7)
    if name == "a.jsonl":
        path.write_text(path.read_text().replace("\n", "\n \n"))
    found, expected = rows_with_skips(path, seed)
    assert found == expected
    assert (len(found) < ROWS) == (name != "a.csv")


def test_files_of_a_folder_are_skipped(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    with open_reader(tmp_path, ["text"]) as reader:
        assert reader.skip(2) == 2
        rows = iter(reader)
        first = next(rows)
        assert (first.number, first.file) == (3, "2.txt")
        assert reader.skip(9) == 3
        assert list(rows) == []


def test_the_first_rows_of_json_are_read_to_check_the_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", reviews(base.COLUMN_CHECK_RECORDS + 10))
    with open_reader(path, ["text"]) as reader:
        assert reader.skip(5) == 0
        rows = iter(reader)
        list(islice(rows, base.COLUMN_CHECK_RECORDS))
        assert reader.skip(5) == 5


def test_arrow_types_of_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"text": "a", "n": 1, "tag": {"x": 1}}])
    with open_reader(path, ["text", "n", "tag", "tag.x"]) as reader:
        assert reader.arrow_types() == {
            "text": pa.string(),
            "n": pa.int64(),
            "tag": pa.struct([("x", pa.int64())]),
            "tag.x": pa.string(),
        }
    with open_reader(write(tmp_path / "a.csv", reviews(1)), ["text"]) as reader:
        assert reader.arrow_types() is None
