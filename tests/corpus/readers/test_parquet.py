"""Tests of Parquet: many row groups, damaged ones, a corpus of Parquet files."""

import gzip
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpus.readers.formats import parquet
from pipeline.corpus.row import Row
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from tests.helpers.files import open_reader, read, values_of

GROUP, GROUPS = 40, 5
ROWS = [
    {"text": f"a text that is not short, number {n}", "label": ["good", "bad"][n % 2]}
    for n in range(GROUP * GROUPS)
]


def write(path: Path, **options: Any) -> Path:
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, path, row_group_size=GROUP, write_page_checksum=True, **options)
    return path


def page_offsets(path: Path, group: int) -> tuple[int, int]:
    """Return the first and last byte of the text column's data in a row group."""
    column = pq.ParquetFile(path).metadata.row_group(group).column(0)
    start = column.data_page_offset
    return start, start + column.total_compressed_size - 1


def damage(path: Path, group: int, count: int = 20) -> Path:
    """Overwrite bytes in the middle of a row group's texts."""
    start, stop = page_offsets(path, group)
    data = bytearray(path.read_bytes())
    middle = (start + stop) // 2
    data[middle : middle + count] = bytes(byte ^ 0x5A for byte in data[middle : middle + count])
    path.write_bytes(data)
    return path


def texts(rows: list[Row]) -> list[str | None]:
    return [None if row.skip else values_of(row)["text"] for row in rows]


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
@pytest.mark.parametrize("batch_rows", [1, 7, 40, 1024])
def test_rows_of_all_groups_are_read(
    tmp_path: Path, compression: str, batch_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH_ROWS", batch_rows)
    rows = list(read(write(tmp_path / "a.parquet", compression=compression), ["text", "label"]))
    assert [row.values for row in rows] == ROWS
    assert [row.number for row in rows] == list(range(1, len(ROWS) + 1))


@pytest.mark.parametrize("group", range(GROUPS))
def test_rows_of_a_damaged_group_are_skipped(tmp_path: Path, group: int) -> None:
    path = damage(write(tmp_path / "a.parquet", use_dictionary=False), group)
    rows = list(read(path, ["text"]))
    expected: list[str | None] = [row["text"] for row in ROWS]
    expected[group * GROUP : (group + 1) * GROUP] = [None] * GROUP
    assert texts(rows) == expected
    bad = rows[group * GROUP]
    assert bad.skip is SkipReason.DAMAGED
    assert bad.detail.startswith(f"row group {group}: ")
    assert bad.place("a.parquet") == f"a.parquet, row {group * GROUP + 1}"


def test_column_that_is_not_read_may_be_damaged(tmp_path: Path) -> None:
    path = damage(write(tmp_path / "a.parquet", use_dictionary=False), 2)
    assert [values_of(row)["label"] for row in read(path, ["label"])] == [
        row["label"] for row in ROWS
    ]


def test_marks_are_at_the_ends_of_groups_damaged_ones_included(tmp_path: Path) -> None:
    path = damage(write(tmp_path / "a.parquet", use_dictionary=False), 1)
    with open_reader(path, ["text"]) as reader:
        rows, marks = [], [0]
        for row in reader:
            rows.append(row)
            if reader.mark is not None:
                marks.append(reader.mark)
        assert reader.position == reader.size
    assert marks == list(range(GROUPS + 1))
    for start in range(GROUPS):
        with open_reader(path, ["text"]) as reader:
            reader.seek(start, start + 1, start * GROUP + 1)
            assert list(reader) == rows[start * GROUP : (start + 1) * GROUP]


def test_flipped_bits_never_lose_a_row(tmp_path: Path) -> None:
    """Each row is read as it was, or counted as damaged; or the file is refused."""
    whole = write(tmp_path / "whole.parquet", use_dictionary=False).read_bytes()
    rng, path, errors = random.Random(0), tmp_path / "a.parquet", list[str]()
    for _ in range(100):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            rows = list(read(path, ["text", "label"]))
        except InputError as error:
            errors.append(str(error))
            continue
        assert len(rows) == len(ROWS)
        assert all(row.values in (None, wanted) for row, wanted in zip(rows, ROWS, strict=True))
    assert 0 < len(errors) < 60
    assert not any("\n" in error for error in errors)


def test_compressed_file_is_read(tmp_path: Path) -> None:
    data = write(tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress(data))
    assert [row.values for row in read(tmp_path / "b.parquet.gz", ["text", "label"])] == ROWS


def test_content_shows_the_format(tmp_path: Path) -> None:
    assert len(list(read(write(tmp_path / "data.csv"), ["text"]))) == len(ROWS)


@pytest.mark.parametrize("cut", [4, 100, 2000])
def test_truncated_file_is_an_error(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match=r"a\.parquet: is not a valid Parquet file: .*again$"):
        list(read(path, ["text"]))


def test_file_without_rows_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: has no rows; remove it from the input"):
        list(read(tmp_path / "a.parquet", ["text"]))


def test_damaged_rows_are_counted_and_stop_if_asked(prepare_dataset: Any, tmp_path: Path) -> None:
    damage(write(tmp_path / "a.parquet", use_dictionary=False), 3)
    with pytest.raises(
        InputError, match=r"a\.parquet, row 121: a row with damaged data .*row grou"
    ):
        prepare_dataset(input="a.parquet", on_bad_row="stop", chunk_mb=0.001)
    manifest = prepare_dataset(input="a.parquet", max_skipped_ratio=0.5, chunk_mb=0.001)
    assert (manifest.report["rows"], manifest.report["damaged"]) == (len(ROWS), GROUP)
    assert sum(split.rows for split in manifest.splits.values()) == len(ROWS) - GROUP


@pytest.mark.parametrize("dtype", [pa.float16(), pa.float32(), pa.float64()])
def test_numbers_are_the_decimals_that_were_written(tmp_path: Path, dtype: Any) -> None:
    values = [0.1, None, 4.5, 1.0, 1e-3]
    array = pa.array(values, pa.float64()).cast(dtype)
    pq.write_table(pa.table({"label": array}), tmp_path / "a.parquet")
    assert [values_of(r)["label"] for r in read(tmp_path / "a.parquet", ["label"])] == values
