"""Files that lie side by side are read as one file of their columns would be, or refused."""

import gzip
import lzma
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline import config
from pipeline.corpus.dataset.manifest import Manifest, check_settings, open_dataset
from pipeline.corpus.readers import parallel_files
from pipeline.corpus.readers.inputs import resolve
from pipeline.corpus.readers.materialize import each_row
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import ConfigError, DatasetError, InputError
from tests.helpers.files import columns_of, content, reviews, settings_in, write

IDS = {"negative": 0, "positive": 1}
ROWS = [{"text": " ".join(row["text"].split()), "label": IDS[row["label"]]} for row in reviews(300)]
TEXTS, LABELS = [row["text"] for row in ROWS], [row["label"] for row in ROWS]
CODES = {"B": 0x08, "b": 0x09, "h": 0x0B, "i": 0x0C, "f": 0x0D, "d": 0x0E}


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def lines(values: list[Any]) -> bytes:
    return "".join(f"{value}\n" for value in values).encode()


def idx(values: list[Any], kind: str = "B") -> bytes:
    head = struct.pack(">BBBBI", 0, 0, CODES[kind], 1, len(values))
    return head + struct.pack(f">{len(values)}{kind}", *values)


def read(folder: Path, inputs: Any, columns: list[str]) -> list[dict[str, Any] | None]:
    settings = CorpusSettings(input="x", shards="x")
    (source,) = resolve(inputs, folder)
    with each_row(settings, source, columns) as rows:
        return [row.values for row in rows]


def shards(manifest: Manifest) -> dict[str, bytes]:
    """All that a dataset holds, but what it says of its making."""
    return {n: data for n, data in content(manifest.path).items() if n != "dataset.json"}


SIDES = {
    "texts": ("t", lines(TEXTS), "l", lines(LABELS)),
    "gzipped": ("t.en.gz", lines(TEXTS), "l.gz", lines(LABELS)),
    "bytes": ("t.txt", lines(TEXTS), "l-ubyte", idx(LABELS)),
    "gzipped numbers": ("t", lines(TEXTS), "l.gz", idx(LABELS, "i")),
    "no line end at the end": ("t", lines(TEXTS)[:-1], "l", lines(LABELS)[:-1]),
    "CRLF": ("t", lines(TEXTS).replace(b"\n", b"\r\n"), "l", idx(LABELS, "h")),
    "a mark of the byte order": ("t", b"\xef\xbb\xbf" + lines(TEXTS), "l", lines(LABELS)),
}


@pytest.fixture(scope="module")
def as_csv(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    from pipeline.corpus.prepare.prepare import prepare
    from tests.helpers.files import FIELDS

    folder = tmp_path_factory.mktemp("csv")
    write(folder / "a.csv", ROWS)
    return prepare(settings_in(folder), FIELDS, lambda line: None)


@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES)
def test_the_dataset_is_that_of_one_file(
    tmp_path: Path, make: Callable[..., Manifest], as_csv: Manifest, sides: Any
):
    text, texts, label, labels = sides
    put(tmp_path / text, texts)
    put(tmp_path / label, labels)
    made = make(input={"text": text, "label": label})
    assert shards(made) == shards(as_csv)
    assert made.names == as_csv.names
    assert [entry.path for entry in made.inputs] == [text, label]
    assert [e.bytes for e in made.inputs] == [(tmp_path / p).stat().st_size for p in (text, label)]


@pytest.mark.parametrize("kind", CODES)
def test_numbers_of_every_type(tmp_path: Path, kind: str):
    values = [0, 1, 100] + ([-5, 2.5] if kind in "fd" else [-5] if kind != "B" else [255])
    put(tmp_path / "a", idx(values, kind))
    found = read(tmp_path, {"x": ["a"]}, ["x"])
    assert found == [{"x": value} for value in values]
    assert all(type(row["x"]) is (float if kind in "fd" else int) for row in found if row)


def test_several_files_a_side_belong_together_in_their_order(
    tmp_path: Path, make: Callable[..., Manifest], as_csv: Manifest
):
    for number, start in enumerate((0, 70, 200)):
        stop = (70, 200, 300)[number]
        put(tmp_path / f"t{number}.gz", lines(TEXTS[start:stop]))
        put(tmp_path / f"l{2 - number}", idx(LABELS[start:stop]))
    made = make(input={"text": "t*.gz", "label": ["l{2,1}", "l0"]})
    assert made.splits["train"].rows == as_csv.splits["train"].rows
    for split in made.splits:
        assert columns_of(made, split) == columns_of(as_csv, split)


def test_files_side_by_side_are_held_out_whole(tmp_path: Path, make: Callable[..., Manifest]):
    for name, part in {"a": slice(0, 200), "b": slice(200, 300)}.items():
        put(tmp_path / f"{name}.txt", lines(TEXTS[part]))
        put(tmp_path / f"{name}.idx", idx(LABELS[part]))
    held_out = {"text": "b.txt", "label": "b.idx"}
    made = make(input={"text": "?.txt", "label": "?.idx"}, validation=held_out)
    assert {name: split.rows for name, split in made.splits.items()} == {
        "train": 200, "validation": 100,
    }  # fmt: skip
    assert [entry.path for entry in made.inputs] == ["a.txt", "a.idx", "b.txt", "b.idx"]


def test_what_a_line_lacks_is_counted_and_nothing_shifts(
    tmp_path: Path, make: Callable[..., Manifest]
):
    texts = [text.encode() for text in TEXTS]
    texts[3], texts[5], texts[7] = b"", b"caf\xe9", b"a \xe2\x80\xa8 b\x0bc"
    texts[9] = b"a\0b"
    put(tmp_path / "t", b"\n".join(texts))
    put(tmp_path / "l", idx(LABELS))
    found = read(tmp_path, {"text": ["t"], "label": ["l"]}, ["text", "label"])
    assert [row["label"] for row in found if row] == LABELS
    assert found[5] == {"text": "caf\udce9", "label": LABELS[5]}
    made = make(input={"text": "t", "label": "l"})
    assert [made.report[skip] for skip in ("no_text", "not_utf8", "nul")] == [1, 1, 1]
    assert sum(split.rows for split in made.splits.values()) == 297


def test_groups_of_rows_fit_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put(tmp_path / "t", lines([f"{n:08d}" for n in range(2500)]))
    (source,) = resolve({"text": ["t"]}, tmp_path)
    for limit, groups in ((1 << 23, [1024, 1024, 452]), (8000, [1000, 1000, 500])):
        monkeypatch.setattr(parallel_files, "GROUP_BYTES", limit)
        file = BytesIO()
        with parallel_files.open_compound({"text": ("t", source.sides["text"].path)}) as table:
            parallel_files.write(table, file)
        facts = pq.ParquetFile(file).metadata
        assert [facts.row_group(g).num_rows for g in range(facts.num_row_groups)] == groups


IMAGES = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 2, 3) + bytes(range(12))
BAD = {
    "fewer labels": (
        {"t": lines(TEXTS), "l": idx(LABELS[:-1])},
        r"t and l: are misaligned: t has 300, l has 299 rows",
    ),
    "fewer texts": (
        {"t": lines(TEXTS[:9]), "l": lines(LABELS)},
        r"misaligned: t has 9, l has 300 rows",
    ),
    "cut numbers": (
        {"t": lines(TEXTS), "l": idx(LABELS)[:-5]},
        r"l: ends after 295 of the 300 rows .*; fetch it anew",
    ),
    "cut header": ({"t": lines(TEXTS), "l": idx(LABELS)[:6]}, r"l: ends inside its header"),
    "more numbers": (
        {"t": lines(TEXTS), "l": idx(LABELS) + b"x"},
        r"l: goes on after the 300 rows",
    ),
    "no number": ({"t": lines(TEXTS), "l": idx([])}, r"l: holds no row"),
    "unknown type": (
        {"t": lines(TEXTS), "l": b"\0\0\x07\x01" + idx(LABELS)[4:]},
        r"l: begins with the bytes 00 00 07 01, which no idx file does",
    ),
    "no dimension": (
        {"t": lines(TEXTS), "l": b"\0\0\x08\x00"},
        r"l: begins with the bytes 00 00 08 00",
    ),
    "two dimensions": (
        {"t": lines(TEXTS), "l": b"\0\0\x08\x02" + bytes(8)},
        r"l: is an idx file of 2 dimensions",
    ),
    "images of floats": (
        {"t": lines(TEXTS), "l": b"\0\0\x0d\x03" + IMAGES[4:]},
        r"type 0d; labels have 1, images 3 or 4 and type 08",
    ),
    "images of no pixel": (
        {"t": lines(TEXTS), "l": struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 0, 3)},
        r"says that its images have 0 x 3 bytes",
    ),
    "huge images": (
        {"t": lines(TEXTS), "l": b"\0\0\x08\x03" + b"\xff" * 12},
        r"says that its images have 4294967295 x 4294967295 bytes",
    ),
    "a zip": ({"t": lines(TEXTS), "l": b"PK\3\4\0\0\0"}, r"l: is zip .*; unpack it"),
    "xz": ({"t": lines(TEXTS), "l": lzma.compress(lines(LABELS))}, r"l: is xz .*; unpack it"),
    "gzip by another name": (
        {"t.en": gzip.compress(lines(TEXTS)), "l": lines(LABELS)},
        r"t\.en: is gzip .*; name it t\.en\.gz",
    ),
    "gzip within gzip": (
        {"t.gz": gzip.compress(lines(TEXTS)), "l": lines(LABELS)},
        r"t\.gz: is gzip .*; unpack it",
    ),
    "a table": (
        {"t.csv": b"text\n" + lines(TEXTS), "l": lines(LABELS)},
        r"t\.csv: is a table by its suffix \.csv",
    ),
    "a gzipped table": (
        {"t": lines(TEXTS), "l.JSONL.gz": lines(LABELS)},
        r"l\.JSONL\.gz: is a table by its suffix \.jsonl",
    ),
    "empty": ({"t": lines(TEXTS), "l": b""}, r"l: is empty; take it out"),
    "empty, gzipped": ({"t": b"", "l.gz": b""}, r"t: is empty"),
    "both without rows": ({"t.gz": b"", "l.gz": b""}, r"t\.gz and l\.gz: hold no row"),
    "UTF-16": (
        {"t": "a\nb\n".encode("utf-16"), "l": lines([0, 1])},
        r"t: is UTF-16, which is not read",
    ),
    "no column": ({"t": lines(TEXTS)}, r"has no column 'label'; it has 'text'"),
}


@pytest.mark.parametrize("files, says", BAD.values(), ids=BAD)
def test_what_is_wrong_with_a_side_is_named(
    tmp_path: Path, make: Callable[..., Manifest], files: dict[str, bytes], says: str
):
    for name, data in files.items():
        put(tmp_path / name, data)
    inputs = dict(zip(("text", "label"), files, strict=False))
    with pytest.raises(InputError, match=says) as caught:
        make(input=inputs)
    assert len(caught.value.lines) == 1
    with pytest.raises(InputError, match=says):
        read(tmp_path, {column: [name] for column, name in inputs.items()}, ["text", "label"])


def test_half_a_gzip_file_is_named(tmp_path: Path, make: Callable[..., Manifest]):
    put(tmp_path / "t", lines(TEXTS))
    for data, name in ((idx(LABELS), "l.gz"), (lines(LABELS), "m.gz")):
        (tmp_path / name).write_bytes(gzip.compress(data)[:-12])
        with pytest.raises(InputError, match=rf"{name}: is not whole"):
            make(input={"text": "t", "label": name})


@pytest.mark.parametrize(
    "inputs, says",
    [
        ({"text": ["t", "l"], "label": "l"}, r"text=t l,label=l: .* \(text 2, label 1\)"),
        ({"text": "t", "label": "memory://l"}, r"memory://l: only files that are here can lie"),
        ({"text": "t", "label": "m"}, r"m: no such file"),
        ({"text": "t", "label": "."}, r"is a folder"),
    ],
)
def test_what_cannot_lie_side_by_side_is_named(
    tmp_path: Path, make: Callable[..., Manifest], inputs: Any, says: str
):
    put(tmp_path / "t", lines(TEXTS))
    put(tmp_path / "l", lines(LABELS))
    with pytest.raises(InputError, match=says):
        make(input=inputs)


@pytest.mark.parametrize("stale", ["t", "l"])
def test_a_side_that_has_changed_makes_the_shards_stale(
    tmp_path: Path, make: Callable[..., Manifest], stale: str
):
    put(tmp_path / "t", lines(TEXTS))
    put(tmp_path / "l", lines(LABELS))
    inputs = {"text": "t", "label": "l"}
    made = make(input=inputs)
    settings = settings_in(tmp_path, input=inputs)
    check_settings(open_dataset(made.path), settings)
    with pytest.raises(DatasetError, match=r"corpus\.input=.* was made with"):
        check_settings(made, settings_in(tmp_path, input={"text": "t", "label": "t"}))
    (tmp_path / stale).write_bytes((tmp_path / stale).read_bytes() + b"1\n")
    with pytest.raises(DatasetError, match=rf"/{stale}: has .* bytes but had .* are stale"):
        check_settings(made, settings)
    (tmp_path / stale).unlink()  # training needs no input
    check_settings(made, settings)


def test_the_command_line_names_a_column(tmp_path: Path):
    path = tmp_path / "pairs.yaml"
    path.write_text("corpus: {input: {source: a.gz, target: [b.gz, c.gz]}}")
    loaded = config.load(path, ["corpus.input.source=x"])
    assert loaded.corpus.input == {"source": ["x"], "target": ["b.gz", "c.gz"]}
    (tmp_path / "again.yaml").write_text(config.dump(loaded))
    assert config.load(tmp_path / "again.yaml") == loaded


@pytest.mark.parametrize(
    "override, says",
    [
        ("corpus.input={}", "corpus.input={}: needs at least one column"),
        ("corpus.input=[]", "corpus.input=[]: needs a file or a list of files;"),
        ("corpus.input=3", "corpus.input=3: needs a file or a list of files;"),
        ("corpus.input={a: b, c: 1}", "needs a file or a list of files for c; YAML does"),
        ("corpus.validation={a: []}", "needs a share between 0 and 1, or a file"),
    ],
)
def test_a_wrong_input_is_one_line(override: str, says: str):
    with pytest.raises(ConfigError) as caught:
        config.load(None, [override])
    (line,) = caught.value.lines
    assert says in line
