"""Damaged files that a fuzzing run found: each is refused in one line, or its rows are counted."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pytest

from pipeline.corpus.prepare.prepare import prepare
from pipeline.corpus.readers.folders import folder_version
from pipeline.corpus.readers.inputs import locate
from pipeline.corpus.readers.opening import LAID_OUT, open_corpus_file, plain_chunks
from pipeline.corpus.row import Row
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from tests.helpers.files import FIELDS, open_reader, read, settings_in


def feather_1(path: Path) -> bytes:
    table = pa.table({"text": [f"text {n}" for n in range(50)], "label": ["a", "b"] * 25})
    pyarrow.feather.write_feather(table, str(path), version=1)
    return path.read_bytes()


def test_feather_1_is_read(tmp_path):
    path = tmp_path / "a.feather"
    feather_1(path)
    rows = list(read(path, ["text", "label"]))
    assert [row.values for row in rows[:2]] == [
        {"text": "text 0", "label": "a"}, {"text": "text 1", "label": "b"}
    ]  # fmt: skip
    assert len(rows) == 50
    (tmp_path / "b.feather.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert list(read(tmp_path / "b.feather.gz", ["text", "label"])) == rows


def test_damaged_feather_1_is_refused_in_one_line_whatever_pyarrow_does(tmp_path):
    path = tmp_path / "a.feather"
    data = feather_1(path)
    # the metadata at the end has offsets that pyarrow follows without a check
    path.write_bytes(data[:-200] + b"\xff" * 40 + data[-160:])
    with pytest.raises(InputError) as raised:
        list(read(path, ["text", "label"]))
    (line,) = raised.value.lines
    assert line.startswith(f"{path}: is not a valid Arrow file: ")
    assert line.endswith("; download or write it again")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_an_encoding_that_needs_a_byte_order_mark_is_refused_without_one(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,b\n", encoding=encoding)
    assert [row.values for row in read(path, ["text"], encoding=encoding)] == [{"text": "a"}]
    path.write_text("text,label\na,b\n", encoding=f"{encoding}-le")
    with pytest.raises(InputError) as raised:
        list(read(path, ["text"], encoding=encoding))
    assert raised.value.lines == [
        f"{path}: has no byte order mark; set corpus.encoding={encoding}-le, or {encoding}-be"
    ]
    assert [row.values for row in read(path, ["text"], encoding=f"{encoding}-le")] == [
        {"text": "a"}
    ]


def test_an_encoding_that_cannot_continue_after_an_invalid_sequence_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\nxn--99999999,b\n")
    with pytest.raises(InputError) as raised:
        list(read(path, ["text"], encoding="punycode"))
    (line,) = raised.value.lines
    assert line.startswith(f"{path}: cannot be decoded by corpus.encoding=punycode: ")
    assert line.endswith("; set the encoding of this file")


def test_half_a_surrogate_pair_is_an_invalid_sequence(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\nx +2AA- y,b\nz,b\n")  # U+D800 in UTF-7
    rows = list(read(path, ["text"], encoding="utf-7"))
    assert [row.values for row in rows] == [{"text": "x \udcff y"}, {"text": "z"}]


def test_a_broken_link_in_a_folder_is_a_skipped_row(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "1.txt").write_text("one")
    (folder / "2.txt").symlink_to("missing")
    assert folder_version("texts", folder).bytes == 3 + len("missing")
    with open_reader(folder, ["text"]) as reader:
        assert [row.values for row in reader] == [{"text": "one"}, None]


def test_a_file_whose_name_is_not_text_is_refused_as_input_and_shown_in_a_place(tmp_path):
    name = os.fsdecode(b"\xff\xfe.csv")
    (tmp_path / name).write_text("text,label\n")
    with pytest.raises(InputError) as raised:
        locate(["*.csv"], tmp_path)
    assert raised.value.lines == [r"\udcff\udcfe.csv: has a name that is not UTF-8; rename it"]
    assert Row(1, None, file=name).place("texts/") == "texts/\ufffd\ufffd.csv"


def test_a_document_that_cannot_be_read_is_a_skipped_row(tmp_path):
    folder = tmp_path / "texts"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.txt").write_text("one")
    (folder / "a" / "2.txt").write_bytes(b"t\0e\0x\0t\0 \0o\0f\0 \0t\0w\0o\0")
    (folder / "a" / "3.txt").write_bytes(b"PK\3\4 an archive")
    (folder / "a" / "4.txt").write_bytes(gzip.compress(b"four" * 100)[:20])
    (folder / "a" / "5.txt").write_bytes(gzip.compress(b"five"))
    with open_reader(folder, ["text", "label"]) as reader:
        rows = list(reader)
    assert [row.values and row.values["text"] for row in rows] == ["one", None, None, None, "five"]
    assert [row.skip for row in rows[1:4]] == [
        SkipReason.NOT_UTF8, SkipReason.DAMAGED, SkipReason.DAMAGED
    ]  # fmt: skip
    assert "looks like UTF-16" in rows[1].detail
    assert "is a zip archive" in rows[2].detail
    assert rows[1].place("texts") == "texts/a/2.txt"


@pytest.mark.parametrize(
    "files, expected",
    [
        ([{"filename": "b.arrow"}], "b.arrow is missing; save the dataset again"),
        ([{"filename": "a\0.arrow"}], r"a\x00.arrow is missing; save the dataset again"),
        (
            [{"name": "a.arrow"}],
            "state.json is damaged: KeyError('filename'); save the",
        ),
        (["a.arrow"], "state.json is damaged: TypeError("),
        (3, "state.json is damaged: TypeError("),
    ],
)
def test_a_damaged_state_of_a_saved_dataset_is_refused(tmp_path, files, expected):
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "a.arrow").touch()
    (folder / "state.json").write_text(json.dumps({"_data_files": files}))
    with pytest.raises(InputError) as raised:
        locate(["saved"], tmp_path)
    (line,) = raised.value.lines
    assert line.startswith(f"saved: {expected}")


def test_a_folder_with_an_unreadable_file_is_prepared(tmp_path):
    folder = tmp_path / "texts"
    for number in range(30):
        path = folder / "ab"[number % 2] / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text {number}")
    (folder / "a" / "broken.txt").symlink_to("missing")
    settings = settings_in(tmp_path, input="texts", vocab_size=300)
    manifest = prepare(settings, FIELDS)
    assert manifest.report["rows"] == 31
    assert manifest.report["damaged"] == 1
    assert sum(split.rows for split in manifest.splits.values()) == 30


def test_a_damaged_header_is_refused_with_a_remedy(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,"label\nx,y\n')
    with pytest.raises(InputError) as raised:
        list(read(path, ["text"]))
    (line,) = raised.value.lines
    assert line.startswith(f"{path}, line 1: the header has a quote that is not closed")
    assert line.endswith("; correct this line, which has the column names")


DAMAGED_JSON = {
    "number": '{"text": "a", "label": ' + "1" * 5000 + "}",
    "nesting": '{"text": ' + "[" * 20_000 + "]" * 20_000 + "}",
    "array": "[[[ 3, ]",
    "text": '{"text": "a" "label"}',
}


@pytest.mark.parametrize("damaged", DAMAGED_JSON.values(), ids=DAMAGED_JSON)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_damaged_object_of_a_json_array_is_one_row_wherever_it_is(tmp_path, damaged, place):
    good = [f'{{"text": "text {number}", "label": "a"}}' for number in range(2)]
    objects = [*good[:place], damaged, *good[place:]]
    path = tmp_path / "a.json"
    path.write_text("[" + ",\n".join(objects) + "]")
    rows = list(read(path, ["text", "label"]))
    texts = [row.values["text"] for row in rows if row.values]
    assert texts == ["text 0", "text 1"]
    assert {row.skip for row in rows if not row.values} == {SkipReason.NOT_JSON}
    # a copy that is laid out by rows is read as it is
    copy = tmp_path / f"copy{LAID_OUT}"
    copy.write_bytes(
        b"".join(chunk for chunk, _ in plain_chunks(path, "a.json", settings_in(tmp_path)))
    )
    with open_corpus_file(settings_in(tmp_path), copy, ["text"], "a.json") as reader:
        assert [row.skip for row in reader] == [row.skip for row in rows]


def test_deeply_nested_json_lines_are_skipped(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": ' + "[" * 20_000 + '\n{"text": "b"}\n')
    assert [row.values for row in read(path, ["text"])] == [None, {"text": "b"}]


def test_a_column_name_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "a.arrow"
    table = pa.table({"text": ["a"], "nameXX": ["b"]})
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)
    path.write_bytes(path.read_bytes().replace(b"nameXX", b"name\xe5\xff"))
    with pytest.raises(InputError) as raised:
        list(read(path, ["text"]))
    assert raised.value.lines == [
        f"{path}: has a column whose name is not UTF-8; download or write it again"
    ]


def test_a_json_array_larger_than_a_chunk_is_read(tmp_path):
    path = tmp_path / "a.json"
    texts = [str(number) * 700_000 for number in range(5)]
    path.write_text(json.dumps([{"text": text} for text in texts], indent=1))
    assert [row.values for row in read(path, ["text"])] == [{"text": text} for text in texts]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_huge_declared_size_of_a_batch_is_damage(tmp_path, suffix):
    path = tmp_path / "a.arrow"
    table = pa.table({"text": ["a" * 300] * 4})
    with pa.ipc.new_stream(str(path), table.schema) as file:
        file.write_table(table)
    data = path.read_bytes()
    _, batch = pa.ipc.MessageReader.open_stream(data)
    assert batch.body is not None
    start = data.index(batch.body.size.to_bytes(8, "little"))
    damaged = data[:start] + (1 << 45).to_bytes(8, "little") + data[start + 8 :]
    path = tmp_path / f"b.arrow{suffix}"
    path.write_bytes(gzip.compress(damaged) if suffix else damaged)
    (row,) = read(path, ["text"])
    assert row.skip == SkipReason.DAMAGED
    assert row.detail.startswith("batch 0 and all after it: ")
