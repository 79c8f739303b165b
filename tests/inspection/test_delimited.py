"""Delimiters, quotes and headers."""

import pytest

from pipeline.inspection.delimited import find_layout, has_header, name_columns


@pytest.mark.parametrize(
    ("text", "preferred", "delimiter", "width"),
    [
        ("a,b\n1,2\n", ",", ",", 2),
        ("id;sentence\n1;Fine, I think, really\n2;Dull\n", ",", ";", 2),
        ("text\tlabel\nOne, two\tx\nThree\ty\n", ",", "\t", 2),
        ("a|b|c\n1|2|3\n", ",", "|", 3),
        ('text,label\n"One; two; three",x\n"Four; five",y\n', ",", ",", 2),
        ("text\nOne, two\nThree\nFour\n", ",", ",", 1),
    ],
)
def test_delimiter(text: str, preferred: str, delimiter: str, width: int) -> None:
    layout = find_layout(text, preferred)
    assert (layout.delimiter, layout.width) == (delimiter, width)


def test_quotes() -> None:
    assert find_layout('text,label\n"a, b",x\n', ",").quoting
    assert not find_layout('5" disk\tspam\n"An open quote\tham\n', "\t").quoting
    assert find_layout('"text"\t"label"\n"two\nlines"\t"ham"\n', "\t").quoting


def test_unmatched_quotes_in_most_lines_are_ordinary_characters() -> None:
    text = "text,label\n" + "".join(f'"line {n},x\n' for n in range(20))
    layout = find_layout(text, ",")
    assert not layout.quoting
    assert layout.width == 2


@pytest.mark.parametrize(
    "records",
    [
        [["text", "label"], ["Fine.", "1"]],
        [["Text", "Label"], ["Fine.", "good"]],
        [["id", "sentence", "stars"], ["1", "Fine", "5"]],
        [["Anmerkung", "Preis"], ["Der Film war gut.", "12"]],
        [["q1", "q2"], ["How do I get there by bus?", "Is there a bus that goes there?"]],
        [["comment_text", "toxic", "insult"], ["Go away.", "1", "0"]],
    ],
)
def test_header(records: list[list[str]]) -> None:
    assert has_header(records)


@pytest.mark.parametrize(
    "records",
    [
        [["1", "The soup was cold."], ["2", "Lovely people!"]],
        [["A sunny day.", "good"], ["Rain.", "bad"], ["A fine film.", "good"]],
        [['5" disk', "spam"], ['"An open quote', "ham"]],
        [["2024-01-01", "Fine"], ["2024-01-02", "Dull"]],
        [["a", "a"], ["b", "c"]],
    ],
)
def test_no_header(records: list[list[str]]) -> None:
    assert not has_header(records)


def test_the_column_of_fewest_labels_is_named_label() -> None:
    records = [[f"user {n % 7}", f"This is query number {n}", "ab"[n % 2]] for n in range(40)]
    assert name_columns(records) == ["label_1", "text", "label"]


def test_columns_are_named_by_their_values() -> None:
    records = [["3", "Oil rises", "Prices rose again last week."],
               ["4", "A phone folds", "It has two screens and a hinge."]]  # fmt: skip
    assert name_columns(records) == ["label", "text_2", "text"]
