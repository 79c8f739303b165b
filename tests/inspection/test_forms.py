"""The task that fits a table, and the columns that it reads."""

from pathlib import Path
from typing import Any

import pytest

from pipeline import components, tasks
from pipeline.errors import ConfigError, InputError
from pipeline.inspection.inspection import Inspection, inspect

TEXT = "This is the sentence of number {n} here"
ROWS = 40


def write(columns: dict[str, Any], rows: int = ROWS) -> str:
    """Write a CSV file with the values that functions of the row's number return."""
    lines = [",".join(columns)]
    lines += [",".join(str(value(n)) for value in columns.values()) for n in range(rows)]
    Path("a.csv").write_text("\n".join(lines) + "\n")
    return "a.csv"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def text(n: int) -> str:
    return TEXT.format(n=n)


def keys(found: Inspection) -> dict[str, Any]:
    return {name: key.value for name, key in found.keys.items() if name not in ("input", "root")}


def pick(*values: object) -> Any:
    return lambda n: values[n % len(values)]


@pytest.mark.parametrize(
    ("columns", "task", "expected"),
    [
        (
            {"id": str, "x": text, "y": pick("a", "b", "c")},
            "classification",
            {"text": "x", "label": "y"},
        ),
        (
            {"x": text, "stars": pick(1, 2, 3, 4, 5)},
            "classification",
            {"text": "x", "label": "stars"},
        ),
        (
            {"x": text, "price": lambda n: n * 1.37},
            "regression",
            {"text": "x", "label": "price"},
        ),
        (
            {"x": text, "score": lambda n: n * n},
            "regression",
            {"text": "x", "label": "score"},
        ),
        ({"x": text, "id": lambda n: n}, "language_modeling", {"text": "x"}),
        (
            {"x": text, "date": lambda n: f"2024-01-{n % 28 + 1:02}"},
            "language_modeling",
            {"text": "x"},
        ),
        (
            {
                "title": lambda n: f"Title {n} here",
                "body": lambda n: text(n) + text(n),
                "y": pick("a", "b"),
            },
            "classification",
            {"text": ["title", "body"], "label": "y"},
        ),
        (
            {"premise": text, "hypothesis": lambda n: f"It is the number {n}", "y": pick("a", "b")},
            "entailment",
            {"text": "premise", "text_pair": "hypothesis", "label": "y"},
        ),
        (
            {"en": text, "de": lambda n: f"Das ist der Satz {n} hier"},
            "translation",
            {"text": "en", "target": "de"},
        ),
        (
            {"question": text, "answer": lambda n: f"The answer is number {n}"},
            "translation",
            {"text": "question", "target": "answer"},
        ),
        (
            {"x": text, "toxic": pick(0, 1), "insult": pick(0, 0, 1)},
            "multilabel",
            {"text": "x", "label": ["toxic", "insult"]},
        ),
        (
            {"x": text, "tags": pick("a|b", "b|c", "c", "a|c", "a", "b", "a|b|c")},
            "multilabel",
            {"text": "x", "label": "tags", "label_separator": "|"},
        ),
        (
            {"x": text, "author": pick("ann", "bob", "cid"), "category": pick("a", "b")},
            "classification",
            {"text": "x", "label": "category"},
        ),
    ],
)
def test_task_and_columns(columns: dict[str, Any], task: str, expected: dict[str, Any]) -> None:
    found = inspect([write(columns)])
    assert found.proposal.task == task
    assert keys(found) == expected


def test_numbers_name_the_other_reading() -> None:
    found = inspect([write({"x": text, "stars": pick(1, 2, 3, 4, 5)})])
    assert any("task.name=regression" in line for line in found.proposal.alternatives)


def test_an_ambiguous_label_is_reported() -> None:
    columns = {"x": text, "color": pick("red", "green"), "size": pick("small", "large", "huge")}
    found = inspect([write(columns)])
    assert not found.proposal.is_sure
    assert any("corpus.label=" in line for line in found.proposal.alternatives)


def test_the_user_decides() -> None:
    name = write({"x": text, "note": lambda n: f"Some other text {n}", "y": pick("a", "b"),
                  "z": pick(1, 2)})  # fmt: skip
    found = inspect([name], text=["note"], label=["z"])
    assert keys(found) == {"text": "note", "label": "z"}
    assert inspect([name], label=["z"], task="regression").proposal.task == "regression"
    found = inspect([name], text=["x", "note"])
    assert keys(found)["text"] == ["x", "note"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": ["x"]}, r"--label=x: 40 of its 40 values are different.*such as y"),
        ({"label": ["missing"]}, r"--label=missing: no such column; name one of x, y"),
        ({"text": ["missing"]}, r"--text=missing: no such column; name one of x, y"),
        ({"label": ["when"]}, r"--label=when: its values are dates"),
        ({"label": ["one"]}, r"--label=one: all its values are 'same'"),
        ({"label": ["y"], "text": ["y"]}, r"--label=y: --text names this column, too"),
        ({"task": "tagging"}, r"--task=tagging: does not fit a.csv, whose columns are x \(text\)"),
        ({"task": "nothing"}, r"--task=nothing: no such task; use captioning, classification"),
    ],
)
def test_a_wrong_choice_is_one_line(options: dict[str, Any], message: str) -> None:
    name = write({"x": text, "y": pick("a", "b"), "one": pick("same"),
                  "when": lambda n: f"2024-01-{n % 28 + 1:02}"})  # fmt: skip
    with pytest.raises((ConfigError, InputError), match=message) as error:
        inspect([name], **options)
    assert len(error.value.lines) == 1


def test_lists_of_equal_lengths_are_not_always_tags() -> None:
    Path("a.jsonl").write_text("".join(
        f'{{"question": "What is number {n} called?", "answers": ["a {n}"], "starts": [{n}]}}\n'
        for n in range(ROWS)
    ))  # fmt: skip
    assert inspect(["a.jsonl"]).proposal.task == "language_modeling"


def test_dates_with_day_and_month_in_doubt() -> None:
    columns = {"x": text, "y": pick("a", "b"), "when": lambda n: f"{n % 12 + 1:02}/03/2024"}
    hint = inspect([write(columns)]).hints["time_format"]
    assert (hint.value, hint.why) == ("%d/%m/%Y", "or %m/%d/%Y?: 01/03/2024")


def test_an_id_is_never_a_label() -> None:
    name = write({"x": text, "label": lambda n: n + 1})
    assert inspect([name]).proposal.task != "classification"


def test_hints() -> None:
    name = write({
        "x": text, "y": pick("a", "b"), "author": lambda n: f"u{n % 15}", "weight": pick(0.5, 1, 2),
        "when": lambda n: f"{n % 28 + 1}.01.2024",
    })  # fmt: skip
    hints = {name: key.value for name, key in inspect([name]).hints.items()}
    assert hints == {
        "group": "author", "time": "when", "time_format": "%d.%m.%Y", "weight": "weight",
    }  # fmt: skip


def test_each_task_has_a_form() -> None:
    forms = [components.load("form", name) for name in components.names("form")]
    assert sorted(form.task for form in forms) == components.names("task")


def test_proposed_keys_are_those_of_the_task() -> None:
    found = inspect([write({"x": text, "y": pick("a", "b")})])
    settings = components.load("task", found.proposal.task)
    own = {key for used in components.with_used(settings) for key in used.Settings.model_fields}
    assert keys(found).keys() <= own
    assert tasks.get(found.proposal.task) is settings
