"""Which inputs are tables, and which are lines of text."""

import gzip
import io
import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import InputError
from pipeline.inference.run_input import RunInput, is_stream, spooled
from tests.helpers.files import write
from tests.helpers.settings import corpus_settings


def make_input(
    given: str | Path | Sequence[str], *, images: bool = False, **corpus: Any
) -> RunInput:
    settings: CorpusSettings = corpus_settings(**{"input": ["a.csv"], "shards": "s"} | corpus)
    values = [str(given)] if isinstance(given, (str, Path)) else given
    return RunInput(settings, values, ["text"], images)


def texts(run_input: RunInput, *, stream_of_rows: bool = False) -> list[Any]:
    """Return lines as they are, and rows as lists of their values."""
    items = run_input.rows_and_lines(stream_of_rows=stream_of_rows)
    return [[*(i.row.values or {}).values()] if i.line is None else i.line for i in items]


def set_stdin(patch: pytest.MonkeyPatch, data: bytes) -> None:
    patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


LINES = "\ufefffine\r\n\r\ndull, but long\n{} \u2028\nlast".encode()
EXPECTED = ["fine", "", "dull, but long", "{} \u2028", "last"]


@pytest.mark.parametrize("name", ["a.txt", "a", "a.en", "a.txt.gz", "a.TXT"])
def test_a_text_file_has_one_input_per_line(name: str, tmp_path: Path) -> None:
    data = gzip.compress(LINES) if name.endswith(".gz") else LINES
    (tmp_path / name).write_bytes(data)
    assert texts(make_input(tmp_path / name)) == EXPECTED


@pytest.mark.parametrize("value", ["-", "/dev/stdin", "/dev/fd/0"])
def test_stdin_has_one_input_per_line(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_stdin(monkeypatch, LINES)
    assert is_stream(value)
    assert texts(make_input(value, format="conll", columns=["text"])) == EXPECTED


def test_a_table_has_one_input_per_row(tmp_path: Path) -> None:
    rows = [{"text": "fine, but long", "n": 1}, {"text": "dull", "n": 2}]
    (tmp_path / "a.csv").write_text('n,text\n1,"fine, but long"\n2,dull\n')
    (tmp_path / "a.tsv").write_text("text\tn\nfine, but long\t1\ndull\t2\n")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write((tmp_path / "a.jsonl").read_text())
    write(tmp_path / "a.parquet", rows)
    (tmp_path / "a.ft").write_text("__label__x fine, but long\ndull\n")
    for name in ["a.csv", "a.tsv", "a.jsonl", "a.jsonl.gz", "a.parquet", "a.ft"]:
        assert texts(make_input(tmp_path / name)) == [["fine, but long"], ["dull"]], name


def test_the_format_of_the_run_applies_to_files_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("EU\nrejects\n\nGerman\n")
    conll = make_input(tmp_path / "test.txt", format="conll", columns=["text"])
    assert texts(conll) == [[["EU", "rejects"]], [["German"]]]
    lines = make_input(tmp_path / "test.txt", format="text")
    assert texts(lines) == ["EU", "rejects", "", "German"]
    folders = make_input(tmp_path / "test.txt", format="images", images=True)
    assert texts(folders) == ["EU", "rejects", "", "German"]


def test_files_come_in_the_order_of_their_globs(tmp_path: Path) -> None:
    for name in "cab":
        (tmp_path / f"{name}.csv").write_text(f"text\n{name}\n")
    (tmp_path / "z.txt").write_text("z\n")
    given = [f"{tmp_path}/z.txt", f"{tmp_path}/*.csv", f"{tmp_path}/c.csv"]
    assert texts(make_input(given)) == ["z", ["a"], ["b"], ["c"], ["c"]]
    files = [(Path(f).name, len(list(rows))) for f, rows in make_input(given[1:]).rows_by_file()]
    assert files == [("a.csv", 1), ("b.csv", 1), ("c.csv", 1), ("c.csv", 1)]


def test_an_empty_text_file_has_no_input_and_an_image_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    assert texts(make_input(tmp_path / "a.txt")) == []
    assert texts(make_input(tmp_path / "*.png", images=True)) == [f"{tmp_path}/a.png"]


@pytest.mark.parametrize("empty", [("b.csv", ""), ("b.csv", "text\n"), ("b.jsonl", "\n")])
def test_a_file_without_rows_among_others_is_left_out(
    tmp_path: Path, empty: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    name, data = empty
    (tmp_path / "a.csv").write_text("text\na\n")
    (tmp_path / name).write_text(data)
    (tmp_path / "c.csv").write_text("text\nc\n")
    given = make_input(tmp_path / "*")
    assert texts(given) == [["a"], ["c"]]
    assert sum(len(list(rows)) for _, rows in given.rows_by_file()) == 2
    assert caplog.text.count(f"{name}: ") == 2
    with pytest.raises(InputError, match=rf"{name}: (is empty|has no rows); remove it"):
        texts(make_input(tmp_path / name))


def test_parallel_files_need_only_the_columns_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("one\ntwo\n")
    (tmp_path / "a.de").write_text("eins\nzwei\n")
    corpus: dict[str, Any] = {"input": {"text": ["t.en"], "target": ["t.de"]}}
    for given in (f"text={tmp_path}/a.en", f"text={tmp_path}/a.en,target={tmp_path}/a.de"):
        run_input = make_input(given, **corpus)
        assert [item.row.values["text"] for item in run_input.rows_and_lines()] == ["one", "two"]  # type: ignore[index]
    assert texts(make_input(tmp_path / "a.en", **corpus)) == ["one", "two"]
    with pytest.raises(InputError, match=r"is not a file of rows, .* give text=FILE"):
        list(make_input(tmp_path / "a.en", **corpus).rows_by_file())


STREAMS = {
    "csv": ({"input": ["data/a.csv", "b*.csv.gz"]}, b"n,text\n1,fine\n"),
    "jsonl": ({"input": ["s3://bucket/a.jsonl?x=1"]}, b'{"text": "fine"}\n'),
    "gzip": ({"input": ["a.tsv"]}, gzip.compress(b"text\tn\nfine\t1\n")),
    "format": ({"input": ["a.csv"], "format": "text"}, b"fine\n\n"),
}


@pytest.mark.parametrize("corpus, data", STREAMS.values(), ids=STREAMS)
def test_a_labeled_stream_has_the_format_of_the_run(
    corpus: dict[str, Any], data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_stdin(monkeypatch, data)
    ((name, rows),) = (
        (name, [row.values for row in rows])
        for name, rows in make_input("-", **corpus).rows_by_file()
    )
    assert (name, rows) == ("stdin", [{"text": "fine"}])


@pytest.mark.parametrize(
    "corpus, expected",
    [
        ({"input": ["a.csv", "a.tsv"]}, "a stream has no name that shows its format; set corpus"),
        ({"input": ["a.unknown"]}, "a stream has no name that shows its format; set corpus.format"),
        ({"input": {"text": ["a.en"]}}, "is one stream, and the columns of this run are in"),
    ],
)
def test_a_labeled_stream_without_a_format_is_one_line(
    corpus: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError, match=f"--input -: {expected}"):
        list(make_input("-", **corpus).rows_by_file())


def test_pipes_are_streams_that_are_read_as_rows_if_a_format_is_given(tmp_path: Path) -> None:
    pipe, data = tmp_path / "pipe.csv", b"text,n\nfine,1\n"
    os.mkfifo(pipe)
    assert is_stream(str(pipe))
    assert not is_stream(str(tmp_path))
    for stream_of_rows, expected in ((True, [["fine"]]), (False, ["text,n", "fine,1"])):
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        assert texts(make_input(pipe, format="csv"), stream_of_rows=stream_of_rows) == expected
        writer.join()
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    assert texts(make_input(f"/dev/fd/{reading}")) == ["text,n", "fine,1"]
    os.close(reading)


def test_the_copy_of_a_stream_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    set_stdin(monkeypatch, gzip.compress(b"text\n"))
    with spooled("-") as source:
        assert source.path is not None
        assert source.name == "stdin"
        folder = source.path.parent
    assert not folder.exists()


def test_an_input_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        texts(make_input(tmp_path / "none.csv"))
    with pytest.raises(InputError, match="--input /dev/fd/999: cannot be read: "):
        texts(make_input("/dev/fd/999"))
