"""Tests of parallel files: the same dataset as from one file with all columns, clear errors."""

import gzip
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline import config
from pipeline.corpus.dataset.input_changes import reason_to_prepare_again
from pipeline.corpus.dataset.manifest import Manifest, check_settings, open_dataset
from pipeline.corpus.readers import materialize
from pipeline.corpus.readers.inputs import resolve
from pipeline.corpus.readers.materialize import open_rows, write_parquet
from pipeline.corpus.readers.parallel_files import open_parallel_files
from pipeline.errors import ConfigError, DatasetError, InputError
from tests.helpers.files import Rows, content, reviews, row_dicts, settings_in, write
from tests.helpers.settings import corpus_settings

IDS = {"negative": 0, "positive": 1}
ROWS: Rows = [
    {"text": " ".join(row["text"].split()), "label": IDS[row["label"]]} for row in reviews(300)
]
TEXTS, LABELS = [row["text"] for row in ROWS], [row["label"] for row in ROWS]
TYPE_CODES = {"B": 0x08, "b": 0x09, "h": 0x0B, "i": 0x0C, "f": 0x0D, "d": 0x0E}


def write_file(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def lines(values: list[Any]) -> bytes:
    return "".join(f"{value}\n" for value in values).encode()


def idx(values: list[Any], kind: str = "B") -> bytes:
    """Return an idx file of numbers; `kind` is their `struct` format."""
    header = struct.pack(">BBBBI", 0, 0, TYPE_CODES[kind], 1, len(values))
    return header + struct.pack(f">{len(values)}{kind}", *values)


def read(folder: Path, inputs: Any, columns: list[str]) -> list[dict[str, Any] | None]:
    settings = corpus_settings(input="x", shards="x")
    (source,) = resolve(inputs, folder)
    with open_rows(settings, source, columns) as rows:
        return [row.values for row in rows]


def shards(manifest: Manifest) -> dict[str, bytes]:
    """Return all files of a dataset except its manifest."""
    return {n: data for n, data in content(manifest.path).items() if n != "dataset.json"}


FILE_PAIRS = {
    "texts": ("t", lines(TEXTS), "l", lines(LABELS)),
    "gzipped": ("t.en.gz", lines(TEXTS), "l.gz", lines(LABELS)),
    "bytes": ("t.txt", lines(TEXTS), "l-ubyte", idx(LABELS)),
    "gzipped numbers": ("t", lines(TEXTS), "l.gz", idx(LABELS, "i")),
    "no newline at the end": ("t", lines(TEXTS)[:-1], "l", lines(LABELS)[:-1]),
    "CRLF": ("t", lines(TEXTS).replace(b"\n", b"\r\n"), "l", idx(LABELS, "h")),
    "a byte order mark": ("t", b"\xef\xbb\xbf" + lines(TEXTS), "l", lines(LABELS)),
}


@pytest.fixture(scope="module")
def as_csv(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    from pipeline.corpus.prepare.prepare import prepare
    from tests.helpers.files import FIELDS

    folder = tmp_path_factory.mktemp("csv")
    write(folder / "a.csv", ROWS)
    return prepare(settings_in(folder), FIELDS)


@pytest.mark.parametrize("file_pair", FILE_PAIRS.values(), ids=FILE_PAIRS)
def test_dataset_is_the_same_as_from_one_file(
    tmp_path: Path, prepare_dataset: Callable[..., Manifest], as_csv: Manifest, file_pair: Any
):
    text, texts, label, labels = file_pair
    write_file(tmp_path / text, texts)
    write_file(tmp_path / label, labels)
    manifest = prepare_dataset(input={"text": text, "label": label})
    assert shards(manifest) == shards(as_csv)
    assert manifest.names == as_csv.names
    assert [entry.path for entry in manifest.inputs] == [text, label]
    assert [e.bytes for e in manifest.inputs] == [
        (tmp_path / p).stat().st_size for p in (text, label)
    ]


@pytest.mark.parametrize("kind", TYPE_CODES)
def test_idx_numbers_of_every_type(tmp_path: Path, kind: str):
    values = [0, 1, 100] + ([-5, 2.5] if kind in "fd" else [-5] if kind != "B" else [255])
    write_file(tmp_path / "a", idx(values, kind))
    rows = read(tmp_path, {"x": ["a"]}, ["x"])
    assert rows == [{"x": value} for value in values]
    assert all(type(row["x"]) is (float if kind in "fd" else int) for row in rows if row)


def test_several_files_per_column_are_matched_in_order(
    tmp_path: Path, prepare_dataset: Callable[..., Manifest], as_csv: Manifest
):
    for number, start in enumerate((0, 70, 200)):
        stop = (70, 200, 300)[number]
        write_file(tmp_path / f"t{number}.gz", lines(TEXTS[start:stop]))
        write_file(tmp_path / f"l{2 - number}", idx(LABELS[start:stop]))
    manifest = prepare_dataset(input={"text": "t*.gz", "label": ["l{2,1}", "l0"]})
    assert manifest.splits["train"].rows == as_csv.splits["train"].rows
    for split in manifest.splits:
        assert row_dicts(manifest, split) == row_dicts(as_csv, split)


def test_parallel_files_can_be_held_out_for_validation(
    tmp_path: Path, prepare_dataset: Callable[..., Manifest]
):
    for name, part in {"a": slice(0, 200), "b": slice(200, 300)}.items():
        write_file(tmp_path / f"{name}.txt", lines(TEXTS[part]))
        write_file(tmp_path / f"{name}.idx", idx(LABELS[part]))
    held_out = {"text": "b.txt", "label": "b.idx"}
    manifest = prepare_dataset(input={"text": "?.txt", "label": "?.idx"}, validation=held_out)
    assert {name: split.rows for name, split in manifest.splits.items()} == {
        "train": 200, "validation": 100,
    }  # fmt: skip
    assert [entry.path for entry in manifest.inputs] == ["a.txt", "a.idx", "b.txt", "b.idx"]


def test_unusable_lines_are_counted_and_rows_stay_aligned(
    tmp_path: Path, prepare_dataset: Callable[..., Manifest]
):
    texts = [text.encode() for text in TEXTS]
    texts[3], texts[5], texts[7] = b"", b"caf\xe9", b"a \xe2\x80\xa8 b\x0bc"
    texts[9] = b"a\0b"
    write_file(tmp_path / "t", b"\n".join(texts))
    write_file(tmp_path / "l", idx(LABELS))
    rows = read(tmp_path, {"text": ["t"], "label": ["l"]}, ["text", "label"])
    assert [row["label"] for row in rows if row] == LABELS
    assert rows[5] == {"text": "caf\udce9", "label": LABELS[5]}
    manifest = prepare_dataset(input={"text": "t", "label": "l"})
    assert [manifest.report[skip] for skip in ("no_text", "not_utf8", "nul")] == [1, 1, 1]
    assert sum(split.rows for split in manifest.splits.values()) == 297


def test_row_groups_are_limited_in_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_file(tmp_path / "t", lines([f"{n:08d}" for n in range(2500)]))
    (source,) = resolve({"text": ["t"]}, tmp_path)
    path = source.sides["text"].path
    assert path is not None
    for limit, groups in ((1 << 23, [1024, 1024, 452]), (8000, [1000, 1000, 500])):
        monkeypatch.setattr(materialize, "ROW_GROUP_BYTES", limit)
        file = BytesIO()
        with open_parallel_files({"text": ("t", path)}) as table:
            write_parquet(table, file)
        metadata = pq.ParquetFile(file).metadata
        sizes = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
        assert sizes == groups


IMAGES = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 2, 3) + bytes(range(12))
BAD_FILES = {
    "fewer labels": (
        {"t": lines(TEXTS), "l": idx(LABELS[:-1])},
        r"t and l: are misaligned: t has 300 rows, l has 299 rows",
    ),
    "fewer texts": (
        {"t": lines(TEXTS[:9]), "l": lines(LABELS)},
        r"misaligned: t has 9 rows, l has 300 rows",
    ),
    "truncated numbers": (
        {"t": lines(TEXTS), "l": idx(LABELS)[:-5]},
        r"l: ends after 295 of the 300 rows .*; download it again",
    ),
    "truncated header": ({"t": lines(TEXTS), "l": idx(LABELS)[:6]}, r"l: ends inside its header"),
    "more numbers": (
        {"t": lines(TEXTS), "l": idx(LABELS) + b"x"},
        r"l: has data after the 300 rows",
    ),
    "no numbers": ({"t": lines(TEXTS), "l": idx([])}, r"l: has no rows"),
    "unknown type": (
        {"t": lines(TEXTS), "l": b"\0\0\x07\x01" + idx(LABELS)[4:]},
        r"l: begins with the bytes 00 00 07 01, which is neither text nor an idx header",
    ),
    "no dimensions": (
        {"t": lines(TEXTS), "l": b"\0\0\x08\x00"},
        r"l: begins with the bytes 00 00 08 00",
    ),
    "two dimensions": (
        {"t": lines(TEXTS), "l": b"\0\0\x08\x02" + bytes(8)},
        r"l: is an idx file with 2 dimensions",
    ),
    "images of floats": (
        {"t": lines(TEXTS), "l": b"\0\0\x0d\x03" + IMAGES[4:]},
        r"type 0d; labels need 1 dimension, images need 3 or 4 dimensions and type 08",
    ),
    "images without pixels": (
        {"t": lines(TEXTS), "l": struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 0, 3)},
        r"its header declares images of 0 x 3 bytes",
    ),
    "huge images": (
        {"t": lines(TEXTS), "l": b"\0\0\x08\x03" + b"\xff" * 12},
        r"its header declares images of 4294967295 x 4294967295 bytes",
    ),
    "a zip": ({"t": lines(TEXTS), "l": b"PK\3\4\0\0\0"}, r"l: is a zip archive; extract its files"),
    "gzip within gzip": (
        {"t.gz": gzip.compress(lines(TEXTS)), "l": lines(LABELS)},
        r"t\.gz: is compressed twice; decompress it once",
    ),
    "a table": (
        {"t.csv": b"text\n" + lines(TEXTS), "l": lines(LABELS)},
        r"t\.csv: is a table by its suffix \.csv",
    ),
    "a gzipped table": (
        {"t": lines(TEXTS), "l.JSONL.gz": lines(LABELS)},
        r"l\.JSONL\.gz: is a table by its suffix \.jsonl",
    ),
    "empty": ({"t": lines(TEXTS), "l": b""}, r"l: is empty; remove it"),
    "empty, gzipped": ({"t": b"", "l.gz": b""}, r"t: is empty"),
    "both without rows": ({"t.gz": b"", "l.gz": b""}, r"t\.gz and l\.gz: have no rows"),
    "UTF-16 without a mark": (
        {"t": "a\nb\n".encode("utf-16-le"), "l": lines([0, 1])},
        r"t: looks like UTF-16 without a byte order mark; set corpus.encoding=utf-16-le",
    ),
    "no column": ({"t": lines(TEXTS)}, r"has no column 'label'; it has 'text'"),
}


@pytest.mark.parametrize("files, message", BAD_FILES.values(), ids=BAD_FILES)
def test_error_describes_a_bad_file(
    tmp_path: Path, prepare_dataset: Callable[..., Manifest], files: dict[str, bytes], message: str
):
    for name, data in files.items():
        write_file(tmp_path / name, data)
    inputs = dict(zip(("text", "label"), files, strict=False))
    with pytest.raises(InputError, match=message) as caught:
        prepare_dataset(input=inputs)
    assert len(caught.value.lines) == 1
    with pytest.raises(InputError, match=message):
        read(tmp_path, {column: [name] for column, name in inputs.items()}, ["text", "label"])


def test_error_names_a_truncated_gzip_file(
    tmp_path: Path, prepare_dataset: Callable[..., Manifest]
):
    write_file(tmp_path / "t", lines(TEXTS))
    for data, name in ((idx(LABELS), "l.gz"), (lines(LABELS), "m.gz")):
        (tmp_path / name).write_bytes(gzip.compress(data)[:-12])
        with pytest.raises(InputError, match=rf"{name}: is damaged or truncated"):
            prepare_dataset(input={"text": "t", "label": name})


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({"text": ["t", "l"], "label": "l"}, r"text=t l,label=l: .* \(text 2, label 1\)"),
        ({"text": "t", "label": "memory://l"}, r"memory://l: parallel files must be local"),
        ({"text": "t", "label": "m"}, r"m: no such file"),
        ({"text": "t", "label": "."}, r"is a folder"),
    ],
)
def test_error_for_files_that_cannot_be_parallel(
    tmp_path: Path, prepare_dataset: Callable[..., Manifest], inputs: Any, message: str
):
    write_file(tmp_path / "t", lines(TEXTS))
    write_file(tmp_path / "l", lines(LABELS))
    with pytest.raises(InputError, match=message):
        prepare_dataset(input=inputs)


@pytest.mark.parametrize("changed", ["t", "l"])
def test_changed_file_makes_the_shards_stale(
    tmp_path: Path, prepare_dataset: Callable[..., Manifest], changed: str
):
    write_file(tmp_path / "t", lines(TEXTS))
    write_file(tmp_path / "l", lines(LABELS))
    inputs = {"text": "t", "label": "l"}
    manifest = prepare_dataset(input=inputs)
    settings = settings_in(tmp_path, input=inputs)
    check_settings(open_dataset(manifest.path), settings)
    assert not reason_to_prepare_again(manifest, settings)
    with pytest.raises(DatasetError, match=r"corpus\.input=.* was made with"):
        check_settings(manifest, settings_in(tmp_path, input={"text": "t", "label": "t"}))
    (tmp_path / changed).write_bytes((tmp_path / changed).read_bytes() + b"1\n")
    with pytest.raises(DatasetError, match=rf"/{changed}: has changed from .* bytes since"):
        reason_to_prepare_again(manifest, settings)
    (tmp_path / changed).unlink()  # training needs no input
    assert not reason_to_prepare_again(manifest, settings)


def test_command_line_overrides_the_files_of_one_column(tmp_path: Path):
    path = tmp_path / "pairs.yaml"
    path.write_text("corpus: {input: {source: a.gz, target: [b.gz, c.gz]}}")
    loaded = config.load(path, ["corpus.input.source=x"])
    assert loaded.corpus.input == {"source": ["x"], "target": ["b.gz", "c.gz"]}
    (tmp_path / "again.yaml").write_text(config.dump(loaded))
    assert config.load(tmp_path / "again.yaml") == loaded


@pytest.mark.parametrize(
    "override, message",
    [
        ("corpus.input={}", "corpus.input={}: needs at least one column"),
        ("corpus.input=[]", "corpus.input=[]: needs a file or a list of files"),
        ("corpus.input={a: b, c: }", "needs a file or a list of files for c"),
        ("corpus.validation={a: []}", "needs a fraction between 0 and 1, or a file"),
    ],
)
def test_error_for_an_invalid_input_is_one_line(override: str, message: str):
    with pytest.raises(ConfigError) as caught:
        config.load(None, [override])
    (line,) = caught.value.lines
    assert message in line
