"""Tests of scanning: small files share work items, changed files are scanned again, bad rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.prepare import prepare as prepare_module
from pipeline.corpus.prepare import scan as scan_module
from pipeline.corpus.prepare.prepare import prepare, prepare_with_summary
from pipeline.corpus.prepare.scan import file_groups
from pipeline.corpus.readers import materialize
from pipeline.corpus.readers.inputs import InputFile
from pipeline.corpus.tokenization.text_encoder import TextEncoder
from pipeline.errors import InputError
from tests.helpers.files import FIELDS, content, reviews, row_dicts, settings_in, write

ROWS = reviews(300)
SUFFIXES = ("csv", "jsonl", "parquet", "jsonl.gz", "tsv")


def write_parts(folder: Path, count: int = 30) -> list[str]:
    """Write ROWS to files of several formats, and return their names."""
    size = len(ROWS) // count
    names = []
    for number in range(count):
        name = f"{number:03d}.{SUFFIXES[number % len(SUFFIXES)]}"
        write(folder / name, ROWS[number * size : (number + 1) * size])
        names.append(name)
    return names


def shards_of(manifest: Manifest) -> dict[str, bytes]:
    """Return all files of a dataset except its manifest, which has the input."""
    return {name: data for name, data in content(manifest.path).items() if name != "dataset.json"}


@contextmanager
def count_groups(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Record the number of files of each group that is made."""
    sizes: list[int] = []

    def groups(*arguments: Any) -> Any:
        made = file_groups(*arguments)
        sizes.extend(len(group.files) for group in made)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "file_groups", groups)
        yield sizes


@contextmanager
def names_of_scanned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Record the names of the files that are scanned."""
    names: list[str] = []

    def record(file: InputFile, *arguments: Any) -> Path:
        names.append(Path(file.name).name)
        return materialize.materialize(file, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(scan_module, "materialize", record)
        yield names


def test_small_files_share_work_items_and_give_the_same_dataset(
    prepare_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = write_parts(tmp_path)
    keys: dict[str, Any] = {"input": names, "quoting": True}
    with count_groups(monkeypatch) as sizes:
        together = prepare_dataset(**keys, chunk_mb=1.0, shards=str(tmp_path / "together"))
    assert sizes == [30]
    with monkeypatch.context() as patch, count_groups(monkeypatch) as sizes:
        patch.setattr(scan_module, "GROUP_FILES", 1)
        alone = prepare_dataset(**keys, chunk_mb=1.0, shards=str(tmp_path / "alone"))
    assert sizes == [1] * 30
    with count_groups(monkeypatch) as sizes:
        some = prepare_dataset(**keys, chunk_mb=0.02, workers=2, shards=str(tmp_path / "some"))
    assert 1 < len(sizes) < 30
    assert sum(sizes) == 30
    assert shards_of(together) == shards_of(alone) == shards_of(some)
    assert together.report == alone.report
    assert together.report["rows"] == len(ROWS)
    write(tmp_path / "one.csv", ROWS)
    assert shards_of(prepare_dataset(input="one.csv")) == shards_of(together)


def input_file(number: int, size: int, split: str = "") -> InputFile:
    return InputFile(number, f"{number}.csv", Path(f"{number}.csv"), split, size, "1")


def test_groups_are_limited_in_bytes_and_hold_files_of_one_split() -> None:
    sizes = [10, 40, 60, 200, 1, 99, 1]
    files = [input_file(number, size) for number, size in enumerate(sizes)]
    files += [input_file(7, 1, "test"), input_file(8, 1, "test")]
    groups = file_groups(files, 100)
    assert [[file.number for file in group.files] for group in groups] == [
        [0, 1], [2], [3], [4, 5], [6], [7, 8],
    ]  # fmt: skip
    assert [group.split for group in groups] == [""] * 5 + ["test"]
    assert len({group.key for group in groups}) == len(groups)
    assert groups[0].name == "0.csv and 1 more"


def test_groups_are_limited_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "GROUP_FILES", 4)
    groups = file_groups([input_file(number, 1) for number in range(10)], 100)
    assert [len(group.files) for group in groups] == [4, 4, 2]


def test_validation_files_stay_apart_from_the_others(prepare_dataset: Any, tmp_path: Path) -> None:
    names = write_parts(tmp_path)
    manifest = prepare_dataset(input=names[:20], validation=names[20], quoting=True, chunk_mb=8.0)
    assert manifest.splits["validation"].rows == 10
    assert manifest.splits["train"].rows == 200


def test_only_a_changed_file_is_scanned_again(
    prepare_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.jsonl", ROWS[number * 100 : (number + 1) * 100])
    fixed = (tmp_path / "1.jsonl").read_bytes()
    (tmp_path / "1.jsonl").write_bytes(fixed + b"{\n" * 50)
    keys: dict[str, Any] = {"input": "*.jsonl", "chunk_mb": 0.001}
    with names_of_scanned(monkeypatch) as scanned, pytest.raises(InputError, match="50 of 350 row"):
        prepare_dataset(**keys)
    assert scanned == ["0.jsonl", "1.jsonl", "2.jsonl"]
    (tmp_path / "1.jsonl").write_bytes(fixed)
    with names_of_scanned(monkeypatch) as scanned:
        resumed = prepare_dataset(**keys)
    assert scanned == ["1.jsonl"]
    fresh = prepare_dataset(**keys, shards=str(tmp_path / "fresh"))
    assert content(resumed.path) == content(fresh.path)


def test_no_file_is_scanned_again_for_a_higher_limit_of_skipped_rows(
    prepare_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.jsonl", ROWS)
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("{\n" * 50)
    with pytest.raises(InputError, match="50 of 350 rows"):
        prepare_dataset(input="a.jsonl")
    with (
        names_of_scanned(monkeypatch) as scanned,
        pytest.raises(InputError, match=r"a\.jsonl, line 301 \(Expecting .*\): a row with a line"),
    ):
        prepare_dataset(input="a.jsonl", on_bad_row="stop", max_skipped_ratio=0.5)
    with names_of_scanned(monkeypatch) as scanned_later:
        manifest = prepare_dataset(input="a.jsonl", max_skipped_ratio=0.5)
    assert (scanned, scanned_later) == ([], [])
    assert manifest.report["not_json"] == 50


def summary_of(folder: Path, **changes: Any) -> tuple[Manifest, str]:
    manifest, lines = prepare_with_summary(settings_in(folder, **changes), FIELDS)
    return manifest, "\n".join(lines)


@pytest.mark.parametrize("chunk_mb", [0.0001, 8.0])
def test_empty_file_among_many_is_counted(tmp_path: Path, chunk_mb: float) -> None:
    names = write_parts(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"")
    (tmp_path / "z.jsonl").write_bytes(b"")
    manifest, summary = summary_of(
        tmp_path, input=["a.csv", *names, "z.jsonl"], quoting=True, chunk_mb=chunk_mb
    )
    assert manifest.report["rows"] == len(ROWS)
    assert "  2 file(s) without rows left out, first a.csv" in summary


def test_empty_file_stops_if_asked(prepare_dataset: Any, tmp_path: Path) -> None:
    names = write_parts(tmp_path)
    (tmp_path / "b.csv").write_bytes(b"")
    with pytest.raises(InputError, match=r"b\.csv: is empty; remove it from the input"):
        prepare_dataset(input=[*names, "b.csv"], quoting=True, on_bad_row="stop")


def test_empty_files_alone_are_an_error(prepare_dataset: Any, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"^a\.csv: is empty; remove it .* all 2 input files"):
        prepare_dataset(input=["a.csv", "b.csv"])


BAD_ROWS: dict[str, tuple[str, bytes, str]] = {
    "JSON": ("b.jsonl", b'{"text": "x", "label": "a"}\n{"text": \n', "line 2: a row with a line "),
    "fields": ("b.csv", b"text,label\nx,a\nx,a,b\n", "line 3: a row with more or fewer fields"),
    "quotes": ("b.csv", b'text,label\nx,a\n"x,a\n', "line 3: a row with a quote that is not"),
    "no text": ("b.csv", b"text,label\nx,a\n ,a\n", "line 3: a row with no text"),
    "bytes": ("b.csv", b"text,label\nx,a\n\xff,a\n", "line 3: a row with bytes that are not text"),
    "no token": ("b.csv", b"text,label\nx,a\nzz,a\n", "line 3: a row with no token left"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_row_stops_with_its_file_and_line_if_asked(
    prepare_dataset: Any, tmp_path: Path, case: str
) -> None:
    name, data, message = BAD_ROWS[case]
    write(tmp_path / "a.csv", ROWS)
    (tmp_path / name).write_bytes(data)
    keys: dict[str, Any] = {"input": ["a.csv", name], "replace": {"zz": ""}, "chunk_mb": 8.0}
    with pytest.raises(InputError) as error:
        prepare_dataset(**keys, on_bad_row="stop")
    assert str(error.value).startswith(f"{name}, {message}")
    assert str(error.value).endswith("or set corpus.on_bad_row=skip to leave such rows out")
    manifest, summary = summary_of(tmp_path, **keys)  # the default skips it
    assert sum(split.rows for split in manifest.splits.values()) in (len(ROWS), len(ROWS) + 1)
    assert f"first {name}, line {message.split()[1].rstrip(':')}" in summary


def test_filtered_rows_do_not_stop(prepare_dataset: Any, tmp_path: Path) -> None:
    rows = [{**row, "source": "ab"[n % 2]} for n, row in enumerate(ROWS)]
    write(tmp_path / "a.csv", rows)
    manifest = prepare_dataset(filters={"source": "a"}, on_bad_row="stop")
    assert manifest.report["filtered"] == 150


PARTS = [{"title": f"Title {n}", "body": f"body {n}", "label": "ab"[n % 2]} for n in range(60)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "tar"])
def test_text_may_be_several_columns(tmp_path: Path, suffix: str) -> None:
    fields = (FieldSpec("tokens", ("title", "body"), "text"), FIELDS[1])
    rows = [*PARTS, {"title": "", "body": "only a body", "label": "a"}]
    rows += [{"title": "", "body": " ", "label": "a"}]
    write(tmp_path / f"a.{suffix}", rows)
    settings = settings_in(tmp_path, input=f"a.{suffix}", text=["title", "body"], join=" | ")
    manifest = prepare(settings, fields)
    assert manifest.report["no_text"] == 1
    encoder = TextEncoder(manifest.path / "tokenizer.json", 100)
    stored = [row for split in ("train", "validation") for row in row_dicts(manifest, split)]
    assert {encoder.decode(row["tokens"]) for row in stored} == {
        *(f"{row['title']} | {row['body']}" for row in PARTS),
        "only a body",
    }


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_labels_may_be_columns_of_0_and_1(tmp_path: Path, suffix: str) -> None:
    fields = (FIELDS[0], FieldSpec("labels", ("toxic", "insult"), "labels"))
    rows = [
        {"text": f"text {n}", "toxic": n % 2, "insult": int(n % 3 == 0), "n": n} for n in range(60)
    ]
    write(tmp_path / f"a.{suffix}", rows)
    settings = settings_in(tmp_path, input=f"a.{suffix}", label=["toxic", "insult"])
    manifest = prepare(settings, fields)
    assert manifest.names == {"labels": ("toxic", "insult")}
    assert manifest.counts == {"labels": (30, 20)}
    encoder = TextEncoder(manifest.path / "tokenizer.json", 100)
    for row in row_dicts(manifest, "train"):
        number = int(encoder.decode(row["tokens"]).split()[1])
        assert row["labels"] == [1] * (number % 2) + [2] * (number % 3 == 0)


def test_value_that_is_not_0_or_1_skips_its_row(tmp_path: Path) -> None:
    fields = (FIELDS[0], FieldSpec("labels", ("toxic", "insult"), "labels"))
    lines = [f"text {n},{n % 2},{n % 3 // 2}\n" for n in range(60)]
    (tmp_path / "a.csv").write_text("text,toxic,insult\n" + "".join(lines) + "x,2,0\ny,1,\n")
    manifest = prepare(settings_in(tmp_path, label=["toxic", "insult"]), fields)
    assert manifest.report["not_binary"] == 2
