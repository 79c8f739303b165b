"""Tests of fastText's format: labels anywhere in a line, reading in parts, datasets and configs."""

import gzip
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from pipeline import config, tasks
from pipeline.corpus.prepare.prepare import prepare
from pipeline.errors import ConfigError, InputError
from tests.helpers.corpora import SMALL, TOPICS
from tests.helpers.files import content, open_reader, read, row_dicts
from tests.helpers.processes import call

COLUMNS = ["text", "label"]
LINES = {
    "one label": ("__label__pos a fine film", "a fine film", "pos"),
    "in the middle": ("a fine __label__pos film", "a fine film", "pos"),
    "at the end": ("a fine film __label__pos", "a fine film", "pos"),
    "several": ("__label__a __label__b-c text __label__d", "text", ["a", "b-c", "d"]),
    "none": ("a fine film", "a fine film", None),
    "only a label": ("__label__pos", "", "pos"),
    "no name": ("__label__ text", "text", ""),
    "a prefix inside a word": ("x__label__pos _label_b", "x__label__pos _label_b", None),
    "unicode": ("__label__été 映画\u00a0館 naïve\u2028🙂", "映画\u00a0館 naïve\u2028🙂", "été"),
    "white space as written": ("__label__a\t two  spaces\tand ", "two  spaces\tand", "a"),
    "a regular expression": ("__label__a.*[b] x", "x", "a.*[b]"),
}  # fmt: skip
TEXT = "".join(f"{line}\n" for line, _, _ in LINES.values())
ROWS = [{"text": text, "label": label} for _, text, label in LINES.values()]


def write_file(path: Path, text: str | bytes) -> Path:
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


CHANGES = {
    "unchanged": lambda text: text,
    "no line break at the end": lambda text: text.rstrip("\n"),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "blank lines": lambda text: "\n \n" + text.replace("\n", "\n\t\n") + "\n",
    "a byte order mark": lambda text: "\ufeff" + text,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["a.ft", "a.fasttext", "a.ft.gz", "a.FastText.gz"])
def test_each_line_is_a_row(tmp_path: Path, name: str, change: str) -> None:
    path = write_file(tmp_path / name, CHANGES[change](TEXT))
    rows = list(read(path, COLUMNS))
    assert [row.values for row in rows] == ROWS
    assert [row.number for row in rows] == list(range(1, len(ROWS) + 1))


def test_the_format_and_the_prefix_can_be_named(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.txt", "#b x __label__a\n#c #b y\n")
    with open_reader(path, COLUMNS, file_format="fasttext", label_prefix="#") as reader:
        assert [row.values for row in reader] == [
            {"text": "x __label__a", "label": "b"},
            {"text": "y", "label": ["c", "b"]},
        ]


@pytest.mark.parametrize("change", CHANGES)
def test_reading_between_any_two_marks_returns_the_same_rows(tmp_path: Path, change: str) -> None:
    path = write_file(tmp_path / "a.ft", CHANGES[change](TEXT))
    with open_reader(path, COLUMNS) as reader:
        rows, marks, lines = [], [reader.mark], [reader.next_line]
        for row in reader:
            rows.append(row)
            marks.append(reader.mark)
            lines.append(reader.next_line)
        assert reader.position == reader.size
    for first, end in combinations(range(len(marks)), 2):
        with open_reader(path, COLUMNS) as reader:
            reader.next_line = lines[first]
            reader.seek(marks[first] or 0, marks[end] or 0, first + 1)
            assert list(reader) == rows[first:end]
            assert reader.mark == marks[end]


ERRORS = {
    "blank": (b"\n \r\n", "text", "has no rows; remove it from the input"),
    "another column": (
        b"__label__a x\n",
        "txt",
        r"has no column 'txt' \(did you mean 'text'\?\); it has 'text', 'label' \(a fastText",
    ),
    "UTF-16": ("abcd".encode("utf-16-be"), "text", "looks like UTF-16 .*corpus.encoding=utf-16-be"),
}


@pytest.mark.parametrize("data, column, message", ERRORS.values(), ids=ERRORS)
def test_error_names_the_file(tmp_path: Path, data: bytes, column: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"a\.ft: {message}"):
        list(read(write_file(tmp_path / "a.ft", data), [column]))


def test_bytes_that_are_not_utf8_become_surrogates(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.ft", b"__label__caf\xe9 th\xe9\n")
    assert [row.values for row in read(path, COLUMNS)] == [
        {"text": "th\udce9", "label": "caf\udce9"}
    ]


def labeled_lines(rows: int) -> list[str]:
    """Return lines whose labels depend on their words; each line has one or two labels."""
    names = sorted(TOPICS)
    lines = []
    for number in range(rows):
        chosen = [names[number % 3], *names[(number + 1) % 3 :][: number % 2]]
        words = [f"n{number}", *(TOPICS[name][number % 4] for name in chosen)]
        lines.append(" ".join([*(f"__label__{name}" for name in chosen), *words, "film"]))
    return lines


def overrides(folder: Path, task: str, **corpus: Any) -> list[str]:
    values = {"input": "a.ft", "root": folder, "shards": folder / "shards", **corpus}
    return [*SMALL, f"task.name={task}", *(f"corpus.{k}={v}" for k, v in values.items())]


def prepare_dataset(settings: list[str]) -> Any:
    loaded = config.load(None, settings)
    return prepare(loaded.corpus, tasks.fields(loaded.task.name, loaded.corpus))


@pytest.mark.parametrize("name", ["a.ft", "a.ft.gz"])
def test_dataset_does_not_depend_on_chunks_and_workers(tmp_path: Path, name: str) -> None:
    write_file(tmp_path / name, "".join(f"{line}\n" for line in labeled_lines(300)))
    sizes: dict[str, dict[str, Any]] = {
        "one": {"chunk_mb": 8, "workers": 1},
        "many": {"chunk_mb": 0.001, "workers": 2},
    }
    for folder, changes in sizes.items():
        shards = tmp_path / folder
        manifest = prepare_dataset(
            overrides(tmp_path, "multilabel", input=name, shards=shards, **changes)
        )
        assert manifest.names == {"labels": tuple(sorted(TOPICS))}
        assert manifest.report["rows"] == 300
    assert content(tmp_path / "one" / "train") == content(tmp_path / "many" / "train")
    labels = [row["labels"] for row in row_dicts(manifest, "train")]
    assert {len(row) for row in labels} == {1, 2}


def test_a_single_label_with_the_separator_in_its_name_is_not_divided(tmp_path: Path) -> None:
    lines = [f"__label__{('Tools,_DIY', 'Toys')[n % 2]} text {n}\n" for n in range(60)]
    write_file(tmp_path / "a.ft", "".join(lines))
    manifest = prepare_dataset(overrides(tmp_path, "multilabel"))
    assert manifest.names == {"labels": ("Tools,_DIY", "Toys")}


def test_classification_refuses_a_row_with_several_labels(tmp_path: Path) -> None:
    write_file(tmp_path / "a.ft", "__label__a x\n__label__a __label__b y\n")
    with pytest.raises(
        InputError,
        match=r"a\.ft, line 2: column 'label' has 2 labels \('a', 'b'\).* task\.name=multilab",
    ):
        prepare_dataset(overrides(tmp_path, "classification"))


def test_the_prefix_belongs_to_the_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, overrides(tmp_path, "classification", label_prefix="x"))
    (line,) = caught.value.lines
    assert line == (
        "corpus.label_prefix=x: applies only to corpus.format=fasttext and would be ignored with "
        "corpus.format=''; remove it or change corpus.format"
    )


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_tasks_train_and_evaluate(tmp_path: Path, task: str) -> None:
    lines = labeled_lines(400)
    if task == "classification":
        lines = [line for line in lines if line.count("__label__") == 1]
    write_file(tmp_path / "a.txt", "".join(f"{line}\n" for line in lines))
    settings = overrides(tmp_path, task, input="a.txt", format="fasttext")
    run = tmp_path / "run"
    status, _, err = call(
        "train", *settings, f"run.dir={run}", "train.max_steps=20", "train.lr=0.02"
    )
    assert status == 0, err
    status, out, err = call("evaluate", "--run", str(run), "--input", str(tmp_path / "a.txt"))
    assert status == 0, err
    assert f'"examples": {len(lines)}' in out
    (tmp_path / "b.csv").write_text("text,label\n" + "a text,blame\nanother one,praise\n")
    status, out, err = call(  # the key label_prefix of the run's config belongs to fasttext only
        "evaluate", "--run", str(run), "--input", str(tmp_path / "b.csv"), "corpus.format=csv"
    )
    assert status == 0, err
    assert '"examples": 2' in out


def test_a_text_file_that_begins_with_a_label_is_recognized(tmp_path: Path) -> None:
    path = write_file(tmp_path / "cooking.stackexchange.txt", b"__label__a x\ny __label__b\n")
    assert [row.values for row in read(path, COLUMNS)] == [
        {"text": "x", "label": "a"},
        {"text": "y", "label": "b"},
    ]
