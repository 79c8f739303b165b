"""Tests of Arrow and Feather files: layouts, types of columns, damaged batches."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from pipeline.corpus.readers.arrow_values import ArrowColumns
from pipeline.corpus.readers.opening import open_corpus_file
from pipeline.corpus.row import Row
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from tests.helpers.files import open_reader, read, settings_in, values_of

pytestmark = pytest.mark.filterwarnings("ignore:Feather V1 files are deprecated")
COUNT, BATCH = 25, 10
ROWS = [{"text": f"text {n} é", "label": n % 3} for n in range(COUNT)]
TABLE = pa.Table.from_batches(
    [pa.RecordBatch.from_pylist(ROWS[start : start + BATCH]) for start in range(0, COUNT, BATCH)]
)


def write_file(table: pa.Table, path: Path, **options: Any) -> Path:
    with pa.ipc.new_file(
        str(path), table.schema, options=pa.ipc.IpcWriteOptions(**options)
    ) as writer:
        writer.write_table(table)
    return path


def write_stream(table: pa.Table, path: Path, **options: Any) -> Path:
    with pa.ipc.new_stream(
        str(path), table.schema, options=pa.ipc.IpcWriteOptions(**options)
    ) as writer:
        writer.write_table(table)
    return path


def write_gzipped(write: Callable[[pa.Table, Path], Path]) -> Callable[[pa.Table, Path], Path]:
    def write_table(table: pa.Table, path: Path) -> Path:
        path.write_bytes(gzip.compress(write(table, path).read_bytes()))
        return path

    return write_table


def write_feather(**options: Any) -> Callable[[pa.Table, Path], Path]:
    def write(table: pa.Table, path: Path) -> Path:
        pyarrow.feather.write_feather(table.combine_chunks(), path, **options)
        return path

    return write


LAYOUTS: dict[str, Callable[[pa.Table, Path], Path]] = {
    "file": write_file,
    "file, zstd": lambda table, path: write_file(table, path, compression="zstd"),
    "stream": write_stream,
    "stream, lz4": lambda table, path: write_stream(table, path, compression="lz4"),
    "file.gz": write_gzipped(write_file),
    "stream.gz": write_gzipped(write_stream),
    "Feather 1": write_feather(version=1),
    "Feather 2": write_feather(chunksize=BATCH),
    "Feather 2, zstd": write_feather(compression="zstd", chunksize=BATCH),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read(tmp_path: Path, layout: str) -> None:
    path = LAYOUTS[layout](TABLE, tmp_path / "a.arrow")
    rows = list(read(path, ["label", "text"]))
    assert [row.values for row in rows] == [
        {"label": row["label"], "text": row["text"]} for row in ROWS
    ]
    assert [row.number for row in rows] == list(range(1, COUNT + 1))


@pytest.mark.parametrize("layout", ["file", "Feather 1", "Feather 2"])
def test_layout_is_recognized_by_content(tmp_path: Path, layout: str) -> None:
    path = LAYOUTS[layout](TABLE, tmp_path / "data.bin")
    assert len(list(read(path, ["text"]))) == COUNT


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if not name.endswith(".gz")])
def test_reading_between_any_two_marks_returns_the_same_rows(tmp_path: Path, layout: str) -> None:
    path = LAYOUTS[layout](TABLE, tmp_path / "a.arrow")
    with open_reader(path, ["text"]) as reader:
        marks = [(reader.mark, 1)]
        rows = []
        for row in reader:
            rows.append(row)
            if reader.mark is not None:
                marks.append((reader.mark, row.number + 1))
        assert reader.position == reader.size
    assert len(marks) == (2 if layout == "Feather 1" else 4)
    for number, (start, first) in enumerate(marks):
        for stop, end in marks[number + 1 :]:
            with open_reader(path, ["text"]) as reader:
                reader.seek(start or 0, stop or 0, first)
                assert list(reader) == rows[first - 1 : end - 1]


BAD = pa.array([b"caf\xe9", b"fine"]).view(pa.string())
TEXTS = ["caf\udce9", "fine"]
OFFSETS: Any = pa.array([0, 1, 2], pa.int32())
TYPES: dict[str, tuple[Any, list[Any]]] = {
    "string": (BAD, TEXTS),
    "large_string": (BAD.view(pa.binary()).cast(pa.large_binary()).view(pa.large_string()), TEXTS),
    "string_view": (
        pa.array([b"caf\xe9", b"fine"], pa.binary_view()).view(pa.string_view()), TEXTS,
    ),
    "binary": (pa.array([b"caf\xe9", None]), [b"caf\xe9", None]),
    "dictionary": (pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), BAD), TEXTS[::-1]),
    "dictionary with null": (pa.array(["a", None]).dictionary_encode(), ["a", None]),
    "null": (pa.nulls(2), [None, None]),
    "bool": (pa.array([True, None]), [True, None]),
    "int8": (pa.array([1, -1], pa.int8()), [1, -1]),
    "list": (pa.ListArray.from_arrays(OFFSETS, BAD), [[t] for t in TEXTS]),
    "large_list": (pa.array([["a", "b"], None], pa.large_list(pa.string())), [["a", "b"], None]),
    "fixed_size_list": (pa.FixedSizeListArray.from_arrays(BAD, 1), [[t] for t in TEXTS]),
    "list of dictionary": (
        pa.ListArray.from_arrays(OFFSETS, BAD.view(pa.binary()).dictionary_encode()),
        [[b"caf\xe9"], [b"fine"]],
    ),
    "list of lists": (pa.array([[[1], [2, 3]], []]), [[[1], [2, 3]], []]),
    "struct": (pa.StructArray.from_arrays([BAD], ["x"]), [{"x": t} for t in TEXTS]),
    "list of structs": (pa.array([[{"x": "a"}, None], None]), [[{"x": "a"}, None], None]),
    "map": (
        pa.MapArray.from_arrays(OFFSETS, BAD, pa.array([1, 0])),
        [{"caf\udce9": 1}, {"fine": 0}],
    ),
    "map with null": (
        pa.array([None, [("a", 1), ("b", 2)]], pa.map_(pa.string(), pa.int8())),
        [None, {"a": 1, "b": 2}],
    ),
    "a time that Python does not have": (
        pa.array([10**18, None], pa.timestamp("s")),
        ["<value out of range: 1000000000000000000>", None],
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", [write_file, write_stream], ids=["file", "stream"])
@pytest.mark.parametrize("kind", TYPES)
def test_values_of_every_type_are_read(
    tmp_path: Path, kind: str, layout: Callable[[pa.Table, Path], Path]
) -> None:
    array, expected = TYPES[kind]
    path = layout(pa.table({"x": array}), tmp_path / "a.arrow")
    assert [values_of(row)["x"] for row in read(path, ["x"])] == expected


NOT_IN_PARQUET = ("a time that Python does not have", "dictionary")
"""The writer refuses such a time, and Arrow refuses a row group with invalid dictionaries."""


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind not in NOT_IN_PARQUET])
def test_parquet_has_the_same_values(tmp_path: Path, kind: str) -> None:
    array, expected = TYPES[kind]
    pq.write_table(pa.table({"x": array}), tmp_path / "a.parquet", use_dictionary=False)
    assert [values_of(row)["x"] for row in read(tmp_path / "a.parquet", ["x"])] == expected


@pytest.mark.parametrize("kind", TYPES)
def test_part_of_an_array_is_converted_alone(kind: str) -> None:
    array, expected = TYPES[kind]
    batch = pa.record_batch({"x": array}).slice(1)
    (row,) = ArrowColumns(batch.schema, ["x"], "a.arrow").records(batch)
    assert row["x"] == expected[1]


NESTED = pa.table(
    {
        "id": [1, 2],
        "body": [{"text": "a", "more": {"tags": ["x", "y"]}}, None],
        "a.b": ["dotted", "name"],
        "scores": pa.array([[("good", 1)], []], pa.map_(pa.string(), pa.int8())),
    }
)
PATHS = {
    "body.text": ["a", None],
    "body.more.tags": [["x", "y"], None],
    "body.more.tags.1": ["y", None],
    "a.b": ["dotted", "name"],
    "scores.good": [1, None],
}


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_path_leads_through_structs(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "arrow":
        write_file(NESTED, path)
    else:
        pq.write_table(NESTED, path)
    rows = list(read(path, list(PATHS)))
    assert {column: [values_of(row)[column] for row in rows] for column in PATHS} == PATHS


@pytest.mark.parametrize("column", ["body.txt", "body.more.tags.x", "id.x", "bdy.text"])
def test_path_that_does_not_exist_is_an_error(tmp_path: Path, column: str) -> None:
    path = write_file(NESTED, tmp_path / "a.arrow")
    with pytest.raises(InputError, match=rf"has no column '{column}'.*; it has 'id', 'body', 'a.b"):
        list(read(path, [column]))


def with_features(table: pa.Table, features: Any) -> pa.Table:
    """Return the table with the schema metadata of the datasets library."""
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": features})})


@pytest.mark.parametrize("write", [write_file, write_stream, pq.write_table])
def test_class_labels_become_their_names(
    tmp_path: Path, write: Callable[[pa.Table, Path], Any]
) -> None:
    names = {"_type": "ClassLabel", "names": ["O", "B-X"]}
    features = {
        "one": names,
        "list": {"_type": "List", "feature": names},
        "sequence": {"_type": "Sequence", "feature": names, "length": -1},
        "old list": [names],
        "text": {"_type": "Value", "dtype": "string"},
    }
    lists = [[0, 1], [], None, [1]]
    columns = {
        "one": [1, -1, None, 7],
        "list": lists,
        "sequence": lists,
        "old list": lists,
        "text": list("abcd"),
    }
    table = with_features(pa.table(columns), {"features": features})
    path = tmp_path / ("a.parquet" if write is pq.write_table else "a.arrow")
    write(table, path)
    rows = [values_of(row) for row in read(path, list(columns))]
    assert [row["one"] for row in rows] == ["B-X", None, None, 7]
    for column in ("list", "sequence", "old list"):
        assert [row[column] for row in rows] == [["O", "B-X"], [], None, ["B-X"]]
    assert [row["text"] for row in rows] == list("abcd")


@pytest.mark.parametrize("features", [None, [], {}, {"features": None}, {"features": {"x": [1]}}])
def test_unknown_metadata_is_ignored(tmp_path: Path, features: Any) -> None:
    path = write_file(with_features(pa.table({"x": [1, 0]}), features), tmp_path / "a.arrow")
    assert [values_of(row)["x"] for row in read(path, ["x"])] == [1, 0]


def brief(rows: list[Row]) -> list[Any]:
    return [row.skip or values_of(row)["text"] for row in rows]


def test_damaged_batch_of_a_file_is_one_bad_row(tmp_path: Path) -> None:
    path = write_file(TABLE, tmp_path / "a.arrow")
    data = bytearray(path.read_bytes())
    texts = data.index(b"text 10 ")  # the offsets of the texts are before them
    data[texts - 24 : texts - 16] = b"\xff" * 8
    path.write_bytes(data)
    rows = list(read(path, ["text"]))
    expected = [row["text"] for row in ROWS]
    assert brief(rows) == [*expected[:10], SkipReason.DAMAGED, *expected[20:]]
    assert rows[10].detail.startswith("batch 1: ")
    assert "\n" not in rows[10].detail


def test_stream_cannot_be_read_after_a_damaged_batch(tmp_path: Path) -> None:
    path, zstd_frame = write_stream(TABLE, tmp_path / "a.arrow", compression="zstd"), b"(\xb5/\xfd"
    first, *rest = path.read_bytes().split(zstd_frame)
    assert len(rest) >= 6  # some buffers of each batch
    rest[len(rest) // 2] = b"\xff" * 8 + rest[len(rest) // 2][8:]
    path.write_bytes(zstd_frame.join([first, *rest]))
    rows = list(read(path, ["text"]))
    assert brief(rows) == [*(row["text"] for row in ROWS[:10]), SkipReason.DAMAGED]
    assert rows[10].detail.startswith("batch 1 and all after it: ")


def test_truncated_stream_has_a_damaged_row(tmp_path: Path) -> None:
    path = write_stream(TABLE, tmp_path / "a.arrow")
    path.write_bytes(path.read_bytes()[:-100])
    rows = list(read(path, ["text"]))
    assert rows[-1].skip is SkipReason.DAMAGED
    assert [row.values for row in rows[:20]] == [{"text": row["text"]} for row in ROWS[:20]]


ERRORS = {
    "text": (b"text,label\n", "is not a valid Arrow file"),
    "a truncated file": (b"", "is not a valid Arrow file: .*; download or write it again"),
    "no rows": (b"", "has no rows; remove it from the input"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_file_that_is_not_arrow_is_an_error(tmp_path: Path, case: str) -> None:
    data, message = ERRORS[case]
    path = tmp_path / "a.arrow"
    path.write_bytes(data)
    if case == "a truncated file":
        path.write_bytes(write_file(TABLE, path).read_bytes()[:-20])
    if case == "no rows":
        write_file(TABLE.slice(0, 0), path)
    with (
        pytest.raises(InputError, match=rf"^a\.arrow: {message}"),
        open_corpus_file(settings_in(tmp_path), path, ["text"], "a.arrow") as reader,
    ):
        list(reader)
