"""The text of a proposed config: a comment for each key, the same for the same files."""

from pathlib import Path

import pytest
import yaml

from pipeline import config
from pipeline.inspection.config_text import as_yaml, config_text, key_help, overrides
from pipeline.inspection.inspection import inspect
from tests.inspection.tables import FORMS, rows


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", FORMS)
def test_each_key_has_a_comment(name: str) -> None:
    write, _ = FORMS[name]
    lines = config_text(inspect(write())).splitlines()
    for number, line in enumerate(lines):
        if line.startswith("  ") and not line.lstrip().startswith("#"):
            assert lines[number - 1].lstrip().startswith("# "), line


def test_the_same_files_give_the_same_text() -> None:
    write, _ = FORMS["csv"]
    files = write()
    assert config_text(inspect(files)) == config_text(inspect(files))


def test_text() -> None:
    lines = [f"{text},{label},user{n % 20}\n" for n, (text, label) in enumerate(rows())]
    Path("a.csv").write_text("text,label,author\n" + "".join(lines))
    assert config_text(inspect(["a.csv"]), "headrace init a.csv") == (
        "# Made by: headrace init a.csv\n"
        "task:\n"
        "  # Kind of task (docs/tasks.md): texts in text, and 2 different labels in label\n"
        "  name: classification\n"
        "\n"
        "corpus:\n"
        "  # Input file or list of files\n"
        "  input: a.csv\n"
        "  # Folder that relative input paths start from: the current folder\n"
        "  root: .\n"
        "  # Text column: its values have 10 words on average\n"
        "  text: text\n"
        "  # Label column: 2 different values: bad, good\n"
        "  label: label\n"
        "\n"
        "  # Not used yet. Remove the first # of a line to use it:\n"
        "  # group: author  # rows with the same value (20 in total) stay in one split\n"
    )


def test_hints_can_be_used_as_they_are() -> None:
    lines = [f"{text},{label},user{n % 20}\n" for n, (text, label) in enumerate(rows())]
    lines.append("A film that is spelled otherwise,Good,user1\n")
    Path("a.csv").write_text("text,label,author\n" + "".join(lines))
    start, mark, hints = config_text(inspect(["a.csv"])).partition("  # Not used yet.")
    used = [line.replace("# ", "", 1) for line in hints.splitlines()[1:]]
    Path("own.yaml").write_text("\n".join([start, *used]))
    settings = config.load(Path("own.yaml"))
    assert settings.corpus.group == "author"
    names = {"Good": "good", "bad": "bad", "good": "good"}
    assert getattr(settings.corpus, "label_names") == names  # noqa: B009  of the task
    assert mark


def test_overrides() -> None:
    write, _ = FORMS["semicolons"]
    assert overrides(inspect(write())) == [
        "task.name=classification", "corpus.input=a.csv", "corpus.root=.", "'corpus.delimiter=;'",
        "corpus.text=Satz", "corpus.label=Klasse",
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["a b", "0", "-1", "yes", "a: b", ["a", "b, c"], {"a": "#"}, 0.1])
def test_values_are_yaml(value: object) -> None:
    assert yaml.safe_load(as_yaml(value)) == value
    assert "\n" not in as_yaml(value)


def test_help_is_shortened() -> None:
    assert key_help("text") == "text column"
    assert key_help("root") == "folder that relative input paths start from"
    assert key_help("label_separator") == (
        "separator between labels, where a row's labels are one string"
    )
