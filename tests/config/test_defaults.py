"""Defaults that depend on other values: those of a task, names of folders."""

from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from pipeline import components, config
from pipeline.config.defaults import file_name, input_name
from pipeline.errors import ConfigError

DEFAULTS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "classification": (
        [],
        {"corpus.overflow": "truncate", "corpus.lowercase": True, "model.bidirectional": True},
    ),
    "language_modeling": (
        [],
        {
            "corpus.overflow": "split", "corpus.drop_duplicates": False, "stream.batch_rows": 32,
            "model.bidirectional": False, "corpus.lowercase": True,
        },
    ),
    "language_modeling in both directions": (
        ["model.independent_directions=true"],
        {"model.bidirectional": True},
    ),
    "language_modeling with keys": (
        ["stream.batch_rows=8", "corpus.lowercase=false"],
        {"stream.batch_rows": 8, "corpus.lowercase": False, "corpus.overflow": "split"},
    ),
    "translation": (
        ["corpus.text=source"],
        {"corpus.overflow": "drop", "corpus.lowercase": False, "corpus.drop_duplicates": True},
    ),
    "images": (["corpus.image_size=[28, 28]"], {"corpus.image_size": [28, 28]}),
    "captioning": (["corpus.features=8"], {"corpus.features": 8}),
    "tagging": ([], {}),
    "multilabel": ([], {}),
    "entailment": ([], {}),
    "regression": ([], {}),
}  # fmt: skip


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize("case", DEFAULTS)
def test_each_task_needs_only_an_input(case: str, in_file: bool, tmp_path: Path) -> None:
    overrides, expected = DEFAULTS[case]
    overrides = [f"task.name={case.split()[0]}", *overrides]
    path = None
    if in_file:
        path = tmp_path / "mine.yaml"
        path.write_text("corpus: {input: a.csv}\n")
    else:
        overrides = ["corpus.input=a.csv", *overrides]
    loaded = config.load(path, overrides)
    found: dict[str, Any] = {key: reduce(getattr, key.split("."), loaded) for key in expected}
    assert found == expected


def test_every_task_is_tried() -> None:
    assert {case.split()[0] for case in DEFAULTS} == set(components.names("task"))


@pytest.mark.parametrize(
    "override, error",
    [
        ("corpus.overflow=truncate", "corpus.overflow=truncate: language modeling would lose text"),
        ("model.bidirectional=true", "model.bidirectional=true: would show the model the token"),
        ("stream.batch_rows=0", "stream.batch_rows=0: language modeling divides the text into"),
    ],
)
def test_a_value_that_is_set_is_kept_and_refused(override: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, ["corpus.input=a.txt", "task.name=language_modeling", override])
    (line,) = caught.value.lines
    assert line.startswith(error)


@pytest.mark.parametrize("task", ["images", "captioning"])
def test_images_without_a_size_are_one_line(task: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, ["corpus.input=a.csv", f"task.name={task}"])
    (line,) = caught.value.lines
    assert line.startswith("corpus.image_size=[]: is empty, but the number of steps of an image")


def test_a_runs_config_has_the_defaults_of_its_task(tmp_path: Path) -> None:
    loaded = config.load(None, ["corpus.input=a.txt", "task.name=language_modeling"])
    path = tmp_path / "config.yaml"
    path.write_text(config.dump(loaded))
    assert config.load(path) == loaded


def test_names_of_inputs() -> None:
    names = {
        "mail/tickets-2024.csv.gz": "tickets-2024", "tickets/*.jsonl": "tickets", "a b.csv": "a-b",
        "s3://bucket/part-{0..9}.csv": "part", "..": "input", "saved/": "saved",
    }  # fmt: skip
    assert {name: input_name([name]) for name in names} == names
    assert input_name({"source": ["wmt/train.en"], "target": ["b"]}) == "train"
    assert len(file_name("x" * 1000)) == 60


def test_a_run_from_another_one_holds_out_the_same_texts() -> None:
    """Not by label but by their hashes, as a language model does."""
    for overrides, expected in (
        (["model.init_from=runs/lm"], False),
        (["model.init_from=runs/lm", "corpus.stratify=true"], True),
        (["model.init_from=runs/lm", "corpus.group=author"], None),
        ([], None),
    ):
        loaded = config.load(None, ["corpus.input=a.csv", *overrides])
        assert loaded.corpus.stratify is expected, overrides


@pytest.mark.parametrize(
    "override, line",
    [
        ("corpus.text=[]", "corpus.text=[]: needs the name of a column"),
        ("corpus.label=", "corpus.label='': needs the name of a column"),
        ("corpus.text=[a, '']", "corpus.text=[a, '']: needs the name of a column"),
        (
            "corpus.validation=[]",
            "corpus.validation=[]: needs a fraction between 0 and 1, or a file",
        ),
        ("corpus.test=1.5", "corpus.test=1.5: needs a fraction between 0 and 1, or a file"),
    ],
)
def test_values_that_name_no_column_or_file(override: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, ["corpus.input=a.csv", override])
    assert str(caught.value) == line


def test_several_files_can_be_held_out() -> None:
    loaded = config.load(None, ["corpus.input=a.csv", "corpus.validation=[b.csv, c.csv]"])
    assert loaded.corpus.held_out_files == {"validation": ["b.csv", "c.csv"]}
    loaded = config.load(None, ["corpus.input=a.csv", "corpus.test=b.csv"])
    assert loaded.corpus.held_out_files == {"test": ["b.csv"]}
    assert loaded.corpus.held_out_fractions == {"validation": 0.1}
