"""Bounded samples of files, read with the readers of preparing."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from pipeline.corpus.readers.inputs import locate
from pipeline.inspection import sampling
from pipeline.inspection.sampling import Sample, read, spread

ROWS = 60_000


def sample(folder: Path, name: str, **keys: Any) -> Sample:
    (source,) = locate([name], folder)
    return read(source, keys)


def numbers(found: Sample, column: str = "n") -> list[int]:
    return [int(row.values[column]) for row in found.rows if row.values]


def write_csv(path: Path, rows: int) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["n", "text"])
        writer.writerows([n, f'Row {n}, "quoted",\nof two lines\n' * 2] for n in range(rows))


def test_a_small_file_is_read_whole(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", 50)
    found = sample(tmp_path, "a.csv")
    assert found.columns == ["n", "text"]
    assert numbers(found) == list(range(50))
    assert (found.total, found.is_exact, found.first) == (50, True, 50)


def test_parts_of_a_large_csv_file_begin_at_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ROWS)
    found = sample(tmp_path, "a.csv")
    read_numbers = numbers(found)
    assert read_numbers[: found.first] == list(range(found.first))
    assert len(read_numbers) == len(set(read_numbers)) == len(found.rows)
    assert min(read_numbers[found.first :]) > found.first
    assert max(read_numbers) > 0.95 * ROWS
    assert not found.is_exact
    assert found.total == pytest.approx(ROWS, rel=0.1)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "array.json"])
def test_rows_of_large_json_files_are_estimated(tmp_path: Path, name: str) -> None:
    lines = [json.dumps({"n": n, "text": f"Row {n}. " * 20}) for n in range(ROWS)]
    text = f"[{','.join(lines)}]" if name == "array.json" else "\n".join(lines)
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    found = sample(tmp_path, name)
    assert found.columns == ["n", "text"]
    assert numbers(found)[: found.first] == list(range(found.first))
    assert found.total == pytest.approx(ROWS, rel=0.1)
    assert (max(numbers(found)) > 0.9 * ROWS) == (name == "a.jsonl")


def test_parquet_has_an_exact_number_of_rows(tmp_path: Path) -> None:
    table = pa.table({"n": list(range(ROWS))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=5000)
    found = sample(tmp_path, "a.parquet")
    assert (found.total, found.is_exact) == (ROWS, True)
    assert len(set(numbers(found))) == len(found.rows)
    assert max(numbers(found)) > 0.9 * ROWS
    pq.write_table(table, tmp_path / "one.parquet", row_group_size=ROWS)
    assert numbers(sample(tmp_path, "one.parquet")) == list(range(sampling.START_ROWS))


def test_feather(tmp_path: Path) -> None:
    table = pa.table({"n": list(range(ROWS))})
    pyarrow.feather.write_feather(table, tmp_path / "a.feather", chunksize=4000)
    found = sample(tmp_path, "a.feather")
    assert len(set(numbers(found))) == len(found.rows)
    assert max(numbers(found)) > 0.9 * ROWS


def test_a_folder_that_is_sorted_by_label_shows_all_labels(tmp_path: Path) -> None:
    for label in ("a", "b", "c"):
        (tmp_path / "mails" / label).mkdir(parents=True)
        for n in range(300):
            (tmp_path / "mails" / label / f"{n}.txt").write_text("A text.")
    found = sample(tmp_path, "mails")
    assert (found.total, found.is_exact) == (900, True)
    assert {row.values["label"] for row in found.rows if row.values} == {"a", "b", "c"}
    files = [row.values["file"] for row in found.rows if row.values]
    assert len(set(files)) == len(files)


def test_sentences_in_the_middle_are_whole(tmp_path: Path) -> None:
    sentence = "".join(f"word{n}\tO\n" for n in range(20)) + "\n"
    (tmp_path / "a.conll").write_text(sentence * 20_000)
    found = sample(tmp_path, "a.conll")
    assert found.columns == ["0", "1"]
    assert len(found.rows) > found.first
    assert {len(row.values["0"]) for row in found.rows if row.values} == {20}


def test_parallel_files(tmp_path: Path) -> None:
    for name in ("a.en", "a.de"):
        (tmp_path / name).write_text("One line.\n" * 30_000)
    (source,) = locate({"source": ["a.en"], "target": ["a.de"]}, tmp_path)
    found = read(source, {})
    assert found.columns == ["source", "target"]
    assert found.total == pytest.approx(30_000, rel=0.1)


def test_many_files_are_spread() -> None:
    sources: Any = list(range(1000))
    found: list[Any] = list(spread(sources))
    assert (found[0], found[-1], len(found)) == (0, 999, sampling.MAX_FILES)
