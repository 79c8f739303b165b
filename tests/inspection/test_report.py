"""The report of an inspection fits a terminal of 80 columns."""

from pathlib import Path

import pytest

from pipeline.inspection.histogram import histogram
from pipeline.inspection.inspection import inspect
from pipeline.inspection.report import MAX_LABELS, fit, one_line, report, width
from tests.inspection.tables import FORMS

EXPECTED = """\
a.csv: CSV, 653 bytes, 20 rows

column  type      missing  distinct  example
text    text            -        20  This is text number 0
label   label           -         2  a

first rows (text | label):
  This is text number 0 | a
  This is text number 1 of them | b
  This is text number 2 of them of them | a

length of text in words: half have up to 7, 95 % up to 9, longest 9
  5 |█ █ ▇| 9

labels in label:
  a        10  50.0%  ████████████████████████
  b        10  50.0%  ████████████████████████
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", FORMS)
def test_no_line_is_wider_than_the_terminal(name: str) -> None:
    write, task = FORMS[name]
    text = report(inspect(write()))
    assert [line for line in text.splitlines() if width(line) > 80] == []
    assert f"name: {task}" in text


def test_report() -> None:
    rows = [f"This is text number {n}{' of them' * (n % 3)},{'ab'[n % 2]}\n" for n in range(20)]
    Path("a.csv").write_text("text,label\n" + "".join(rows))
    text = report(inspect(["a.csv"]))
    assert text.startswith(EXPECTED)
    parts = text.split("\n\n")
    assert parts[5].startswith("worth a look:\n  - only 20 rows: results will vary")
    assert "task: classification fits: texts in text, and 2 different labels" in parts[6]


def test_ascii() -> None:
    write, _ = FORMS["csv"]
    assert report(inspect(write()), is_ascii=True).isascii()


def test_many_labels_are_cut_off() -> None:
    rows = [f"This is text number {n} of them,label {n % 30}\n" for n in range(300)]
    Path("a.csv").write_text("text,label\n" + "".join(rows))
    text = report(inspect(["a.csv"]))
    assert f"  and {30 - MAX_LABELS} more\n" in text
    assert "label 9 " not in text.partition("labels in")[2].partition("task:")[0]


def test_control_characters_and_line_breaks_do_not_reach_the_terminal() -> None:
    assert one_line("a\nb\tc\x1b[31m d") == "a b c\ufffd[31m d"


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [("abc", 5, "abc  "), ("abcdefgh", 6, "abc..."), ("日本語日本語", 7, "日本...")],
)
def test_fit(text: str, columns: int, expected: str) -> None:
    assert fit(text, columns) == expected
    assert width(fit(text, columns)) == columns


def test_histogram() -> None:
    assert list(histogram([1, 1, 1, 1, 2, 2, 4])) == ["  1 |█▄ ▂| 4"]
    assert list(histogram([1, 1, 1, 1, 2, 2, 4], is_ascii=True)) == ["  1 |@= :| 4"]
    assert list(histogram([3, 3, 3])) == []
    (line,) = histogram([*range(1000), 10**6])
    assert line.endswith("| 990 or more")
    assert len(line) < 80
