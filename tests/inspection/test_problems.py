"""Likely problems of a corpus, each in one line with its place."""

from collections import Counter
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.inspection.inspection import Inspection, inspect
from pipeline.inspection.problems import similar_labels


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(count: int = 60, label: str = "good") -> list[str]:
    labels = (label, "bad")
    return [f"This is text number {n} of them,{labels[n % 2]}" for n in range(count)]


def inspected(lines: list[str], name: str = "a.csv") -> Inspection:
    Path(name).write_text("\n".join(["text,label", *lines]) + "\n")
    return inspect([name])


def test_no_problems() -> None:
    assert inspected(rows()).problems == []


def test_rows_that_would_be_left_out_have_a_reason_and_a_place() -> None:
    found = inspected([*rows(), ",good", "A text without a label,", "one,two,three", " ,bad"])
    end = "more or fewer fields than columns; first a.csv, line 64 (3 instead of 2)"
    assert found.problems[:3] == [
        "2 rows would be left out: no text (empty, blank, or a list or map); first a.csv, line 62",
        "1 row would be left out: no label; first a.csv, line 63",
        f"1 row would be left out: {end}",
    ]
    assert found.keys["max_skipped_ratio"].value == 0.11


def test_duplicates_and_contradictions() -> None:
    lines = rows()
    found = inspected([*lines, lines[0], lines[1], lines[3].replace("bad", "good")])
    first, second = found.problems
    assert first == "2 rows repeat another row: only one of each is used (corpus.drop_duplicates)"
    assert second == (
        "1 row with the same text as another row but a different label, first a.csv, line 64: "
        "correct the labels; only the first row of each text is used"
    )


def test_imbalance() -> None:
    lines = [line.replace("bad", "good") if n % 20 else line for n, line in enumerate(rows(100), 1)]
    (line,) = inspected(lines).problems
    assert line == (
        "imbalance: 95% of the rows have the label 'good'; compare accuracy with that, or set "
        "task.class_weights=balanced"
    )


def test_labels_in_few_rows() -> None:
    lines = [*rows(), "A text of its own here,ugly", "Another one,nice", "And a third,nice"]
    assert inspected(lines).problems == [
        "1 label in only one row, which is left out: 'ugly'",
        "1 label in fewer than 5 rows: 'nice'",
    ]


def test_spellings_of_a_label_are_joined_by_a_hint() -> None:
    found = inspected([*rows(), "A text of its own here,Good", "Another one of them,baad"])
    end = "may be the same: correct the file, or merge them with corpus.label_names"
    assert found.problems == [
        f"labels 'Good' (1) and 'good' (30) {end}",
        f"labels 'baad' (1) and 'bad' (30) {end}",
    ]
    names = {"Good": "good", "baad": "bad", "bad": "bad", "good": "good"}
    assert found.hints["label_names"].value == names


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"bill": 50, "Bill": 2, "BILL ": 1}, {"Bill": "bill", "BILL ": "bill"}),
        ({"delivery": 50, "delivry": 1}, {"delivry": "delivery"}),
        ({"sci-tech": 50, "sci tech": 1}, {"sci tech": "sci-tech"}),
        ({"positive": 50, "negative": 40}, {}),
        ({"class 1": 50, "class 2": 2}, {}),
        ({"1": 5, "2": 4}, {}),
        ({"+": 5, "-": 4}, {}),
    ],
)
def test_similar_labels(counts: dict[str, int], expected: dict[str, str]) -> None:
    assert dict(similar_labels(Counter(counts))) == expected


def test_long_texts() -> None:
    lines = [f"{'word ' * (20 + 40 * (n % 20))}{n},{('good', 'bad')[n % 2]}" for n in range(60)]
    found = inspected(lines)
    (line,) = found.problems
    assert line.startswith("60% of the texts have more than corpus.max_tokens=400 tokens")
    assert found.keys["max_tokens"].value == 1100  # 1.3 tokens for each of 781 words, rounded up
    assert "corpus.max_tokens=1100 would keep 95%" in line


def test_tagging_schemes() -> None:
    sentence = "Ann B-PER\nand O\nBob {tag}-PER\n\n"
    text = "".join(sentence.format(tag="B") for _ in range(30)) + sentence.format(tag="I")
    Path("a.conll").write_text(text.replace("and", "und", 3))
    found = inspect(["a.conll"])
    assert "tags are in the scheme BIO" in found.problems
    (line,) = [line for line in found.problems if "left out" in line]
    assert "1 row would be left out: tags in an order" in line
    assert "in BIO; first a.conll, line 121 (I-PER after O, line 123)" in line


def test_files_of_different_columns() -> None:
    Path("a.csv").write_text("\n".join(["text,label", *rows()]))
    Path("b.csv").write_text("\n".join(["text,label,more", *(f"x{r},1" for r in rows())]))
    found = inspect(["a.csv", "b.csv"])
    assert "b.csv has different columns than a.csv: it also has 'more'" in found.problems
    Path("c.csv").write_text("\n".join(["text,klass", *rows()]))
    with pytest.raises(InputError, match=r"c.csv: has no column 'label', which the other files"):
        inspect(["a.csv", "c.csv"])


def test_an_empty_file_among_others_is_left_out() -> None:
    Path("a.csv").write_text("\n".join(["text,label", *rows()]))
    Path("empty.csv").touch()
    assert inspect(["empty.csv", "a.csv"]).problems == ["empty.csv is empty and is left out"]


def test_rare_labels_of_a_sample_are_no_problem() -> None:
    labels = [f"l{n // 4000 if n % 999 else 'x'}" for n in range(40_000)]
    lines = [f"This is text number {n} of them,{label}" for n, label in enumerate(labels)]
    assert not any("only one row" in line for line in inspected(lines).problems)
