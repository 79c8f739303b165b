"""Tests of user-defined readers: worker processes, evaluation, unprepared rows, mistakes."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline import config, tasks
from pipeline.components import loading
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.prepare.prepare import prepare
from pipeline.errors import ConfigError, DatasetError, InputError
from tests.helpers.corpora import SMALL
from tests.helpers.files import content, open_reader, reviews, write
from tests.helpers.processes import call

READER = """
from pipeline.corpus.readers.text_format import TextFormat
from pipeline.corpus.settings import CorpusSettings
from pipeline.settings import setting

class Blocks(TextFormat):
    '''Blocks of lines "column: value"; "--" ends a block.'''

    class Settings(CorpusSettings):
        colon: str = setting(":", "separator")

    names = ("text", "label")

    def records(self, lines):
        record = {}
        for line in lines:
            if line.startswith("--"):
                yield record
                record = {}
            else:
                name, _, value = line.partition(self.settings.colon)
                record[name] = value.strip()
"""
BODY = READER[READER.index("        record = {}") :]


def blocks(rows: int) -> str:
    return "".join(
        f"label: {('bad', 'good')[n % 2]}\ntext: a {('dull', 'superb')[n % 2]} film {n}\n--\n"
        for n in range(rows)
    )


@pytest.fixture
def reader(tmp_path: Path) -> Callable[..., str]:
    """A function that writes the reader, with another body of `records` if one is given, and
    returns its reference."""

    def write_reader(body: str = BODY, **replacements: str) -> str:
        code = READER.replace(BODY, body)
        for old, new in replacements.items():
            code = code.replace(old, new)
        (tmp_path / "mine.py").write_text(code)
        loading._load_from_file.cache_clear()  # as in a new process
        return f"{tmp_path}/mine.py:Blocks"

    return write_reader


def overrides(folder: Path, reference: str, **corpus: Any) -> list[str]:
    values = {
        "input": "a.blocks", "root": folder, "shards": folder / "shards", "format": reference,
        **corpus,
    }  # fmt: skip
    return [*SMALL, *(f"corpus.{key}={value}" for key, value in values.items())]


def prepare_dataset(folder: Path, reference: str, **corpus: Any) -> Manifest:
    loaded = config.load(None, overrides(folder, reference, **corpus))
    return prepare(loaded.corpus, tasks.fields(loaded.task.name, loaded.corpus))


def test_own_reader_gives_the_same_dataset_for_any_file_and_number_of_workers(
    tmp_path: Path, reader: Callable[..., str]
) -> None:
    (tmp_path / "a.blocks").write_text(blocks(300))
    (tmp_path / "a.blocks.gz").write_bytes(gzip.compress(blocks(300).encode()))
    url = f"memory://{tmp_path.name}/a.blocks.gz"
    fsspec.filesystem("memory").pipe(url, (tmp_path / "a.blocks.gz").read_bytes())
    rows = [{"text": f"a {('dull', 'superb')[n % 2]} film {n}", "label": ("bad", "good")[n % 2]}
            for n in range(300)]  # fmt: skip
    write(tmp_path / "a.csv", rows)
    reference = reader()
    datasets: dict[str, tuple[str, dict[str, Any]]] = {
        "one": (reference, {"workers": 1}),
        "many": (reference, {"workers": 2, "chunk_mb": 0.001}),
        "gz": (reference, {"input": "a.blocks.gz", "workers": 2, "chunk_mb": 0.001}),
        "url": (reference, {"input": url, "chunk_mb": 0.001}),
        "csv": ("''", {"input": "a.csv"}),
    }
    for name, (file_format, changes) in datasets.items():
        manifest = prepare_dataset(tmp_path, file_format, shards=tmp_path / name, **changes)
        assert manifest.report["rows"] == 300
    trains = [content(tmp_path / name / "train") for name in datasets]
    assert all(train == trains[0] for train in trains)


@pytest.mark.slow
def test_own_reader_is_used_in_evaluation(tmp_path: Path, reader: Callable[..., str]) -> None:
    (tmp_path / "a.blocks").write_text(blocks(300).replace(":", "="))
    settings = [*overrides(tmp_path, reader(), colon="="), f"run.dir={tmp_path}/run"]
    status, _, err = call("train", *settings, "train.max_steps=5")
    assert status == 0, err
    (tmp_path / "mine.py").unlink()  # the run has a copy
    status, out, err = call(
        "evaluate", "--run", f"{tmp_path}/run", "--input", f"{tmp_path}/a.blocks"
    )
    assert status == 0, err
    assert json.loads(out.splitlines()[-1])["examples"] == 300


@pytest.mark.slow
def test_own_reader_streams_unprepared_rows(tmp_path: Path, reader: Callable[..., str]) -> None:
    (tmp_path / "a.blocks").write_text(blocks(300))
    (tmp_path / "b.blocks").write_text(blocks(40))
    reference = reader()
    prepare_dataset(tmp_path, reference)
    tokenizer = tmp_path / "shards" / "tokenizer.json"
    changes = {"label_names": "[bad, good]", "validation": "b.blocks", "tokenizer": tokenizer}
    status, _, err = call(
        "train", *overrides(tmp_path, reference, **changes), f"run.dir={tmp_path}/run",
        "stream.unprepared_rows=200", "stream.batch_rows=20", "train.max_steps=5",
        "corpus.replace={}", "corpus.overflow=truncate",
    )  # fmt: skip
    assert status == 0, err


# name: (body of `records`, columns, error)
MISTAKES = {
    "an exception": (
        "        for line in lines:\n            yield {'text': line, 'label': int(line)}\n",
        "text",
        (
            r"a\.blocks, line 3: Blocks failed \(mine\.py, line 16\): ValueError: invalid literal "
            r"for int\(\) .*'--.*; correct the reader, or this place in the file"
        ),
    ),
    "not a generator": (
        "        return None\n", "text", r"a\.blocks: Blocks failed: TypeError: 'NoneType' object",
    ),
    "a record without a column": (
        "        for line in lines:\n            yield {'text': line}\n",
        "text",
        r"a\.blocks, line 1: Blocks\.records yields a dict without the column 'label'; it must",
    ),
    "a tuple": (
        "        for line in lines:\n            yield line, 1\n",
        "text",
        r"a\.blocks, line 1: Blocks\.records yields a tuple; it must yield a dict from column",
    ),
    "a column that the format lacks": (
        BODY, "txt", r"a\.blocks: has no column 'txt' \(did you mean 'text'\?\); it has 'text', 'l",
    ),
    "no rows": ("        yield from ()\n", "text", r"a\.blocks: has no rows; remove it from the"),
}  # fmt: skip


@pytest.mark.parametrize("body, column, message", MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize("workers", [1, 2])
def test_mistake_is_one_line(
    tmp_path: Path,
    reader: Callable[..., str],
    body: str,
    column: str,
    message: str,
    workers: int,
) -> None:
    (tmp_path / "a.blocks").write_text("1\n2\n" + blocks(3).replace("label: ", "--\n"))
    if "int(" in body:
        (tmp_path / "a.blocks").write_text("1\n2\n--\n")
    if body == BODY:
        (tmp_path / "a.blocks").write_text(blocks(9))
    (tmp_path / "ba.blocks").write_text((tmp_path / "a.blocks").read_text())
    with pytest.raises(InputError, match=message) as caught:
        prepare_dataset(
            tmp_path, reader(body), input="[a.blocks, ba.blocks]", text=column, workers=workers
        )
    assert len(str(caught.value).splitlines()) == 1


def test_reader_that_reads_ahead_is_one_line(tmp_path: Path, reader: Callable[..., str]) -> None:
    (tmp_path / "a.blocks").write_text("a\nb\n" * 99)
    body = """        for line in list(lines):
            yield {"text": line, "label": line}
"""
    with pytest.raises(
        InputError, match=r"a\.blocks: has 1 examples between the marks 0 and 396, "
    ):
        prepare_dataset(tmp_path, reader(body), chunk_mb=0.0001)


def test_changed_reader_prepares_again(tmp_path: Path, reader: Callable[..., str]) -> None:
    (tmp_path / "a.blocks").write_text(blocks(100))
    reference = reader()
    prepare_dataset(tmp_path, reference)
    prepare_dataset(tmp_path, reference)
    reader(strip="rstrip")
    with pytest.raises(DatasetError, match=r"mine\.py:Blocks: this code has changed since .* made"):
        prepare_dataset(tmp_path, reference)


def test_unfinished_work_of_another_version_of_a_reader_is_not_used(
    tmp_path: Path, reader: Callable[..., str]
) -> None:
    (tmp_path / "a.blocks").write_text(blocks(100))
    body = BODY.replace("yield record", "yield {**record, 'label': 'one'}")
    reference = reader(body)
    with pytest.raises(InputError, match=r"only the label 'one'"):
        prepare_dataset(tmp_path, reference)
    reader()
    assert prepare_dataset(tmp_path, reference).names == {"label": ("bad", "good")}


BINARY = """
from pipeline.corpus.readers.base import Reader
from pipeline.corpus.row import Row

class Numbers(Reader):
    '''One byte per row; a mark is a byte offset.'''

    def __init__(self, file, columns, settings):
        super().__init__(file, columns, settings)
        self.stop, self.row = file.size, 1
        assert file.size > 1

    def seek(self, start, stop, row):
        self.mark, self.stop, self.row = start, stop, row

    def rows(self):
        self.file.stream.seek(self.mark)
        while self.mark < self.stop:
            self.mark += 1
            self.position = self.mark
            number = self.file.stream.read(1)[0]
            yield Row(self.row, {"text": f"row {number}", "label": 1 // number % 2})
            self.row += 1
"""


def test_format_without_lines_is_read_in_parts(tmp_path: Path) -> None:
    (tmp_path / "numbers.py").write_text(BINARY.replace("1 // number % 2", "number % 2"))
    (tmp_path / "a.blocks").write_bytes(bytes(range(100)))
    reference = f"{tmp_path}/numbers.py:Numbers"
    manifests = [
        prepare_dataset(tmp_path, reference, shards=tmp_path / name, chunk_mb=size, workers=2)
        for name, size in (("one", 8), ("many", 0.00001))
    ]
    assert [manifest.counts for manifest in manifests] == [{"label": (50, 50)}] * 2
    assert content(tmp_path / "one" / "train") == content(tmp_path / "many" / "train")


@pytest.mark.parametrize(
    "data, message",
    [
        (b"1", r"a\.blocks: Numbers failed \(numbers\.py, line 11\): AssertionError; correct"),
        (b"\1\0", r"a\.blocks: Numbers failed \(numbers\.py, line 22\): ZeroDivisionError: int"),
    ],
)
def test_exception_of_a_format_without_lines_is_one_line(
    tmp_path: Path, data: bytes, message: str
) -> None:
    (tmp_path / "numbers.py").write_text(BINARY)
    (tmp_path / "a.blocks").write_bytes(data)
    with pytest.raises(InputError, match=message):
        prepare_dataset(tmp_path, f"{tmp_path}/numbers.py:Numbers")


COMPONENT_MISTAKES = {
    "no records": (
        {"def records": "def rows"},
        "Blocks does not define records(self, lines); add it",
    ),
    "another base": ({"(TextFormat)": "(str)"}, "Blocks is not a reader; derive it from pipeline."),
    "another class": ({"Blocks": "Block"}, "there is no class Blocks; it has Block"),
    "a key that exists": (
        {"colon:": "workers:"},
        "declares the key workers, which CorpusSettings has; rename",
    ),
}


@pytest.mark.parametrize(
    "replacements, message", COMPONENT_MISTAKES.values(), ids=COMPONENT_MISTAKES
)
def test_component_mistake_is_one_line(
    tmp_path: Path, reader: Callable[..., str], replacements: dict[str, str], message: str
) -> None:
    reference = reader(**replacements)
    with pytest.raises(ConfigError) as caught:
        config.load(None, overrides(tmp_path, reference))
    (line,) = caught.value.lines
    assert message in line


def test_unknown_reader_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.format=conl: no such reader; did you mean con"):
        config.load(None, overrides(tmp_path, "conl"))


@pytest.mark.parametrize("file_format", ["csv", "tsv", "jsonl"])
def test_format_can_be_named_for_any_file_name(tmp_path: Path, file_format: str) -> None:
    rows = reviews(20)
    path = write(tmp_path / f"a.{file_format}", rows).rename(tmp_path / "a.data")
    with open_reader(path, ["text"], file_format=file_format, quoting=True) as opened:
        assert [row.values for row in opened] == [{"text": row["text"]} for row in rows]


def test_any_format_may_be_compressed(tmp_path: Path) -> None:
    rows = reviews(20)
    data = write(tmp_path / "a.parquet", rows).read_bytes()
    (tmp_path / "a").write_bytes(gzip.compress(data))
    with open_reader(tmp_path / "a", ["text"], file_format="parquet") as opened:
        assert [row.values for row in opened] == [{"text": row["text"]} for row in rows]
