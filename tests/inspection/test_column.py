"""The type of a column is decided by its values."""

from datetime import date

import pytest

from pipeline.inspection.column import Column, Kind, find_time_format, is_number

SENTENCES = [f"This is sentence number {n} of the text." for n in range(20)]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("x", SENTENCES, Kind.TEXT),
        ("x", ["red", "green"] * 10, Kind.LABEL),
        ("x", ["1", "2", "3", "4", "5"] * 4, Kind.NUMBER),
        ("x", [0.5 * n for n in range(20)], Kind.NUMBER),
        ("x", [f"{n}.25" for n in range(20)], Kind.NUMBER),
        ("x", [str(n) for n in range(1, 21)], Kind.ID),
        ("order_id", [str(n * 7919 % 1000) for n in range(20)], Kind.ID),
        ("price", [str(n * 7919 % 1000) for n in range(20)], Kind.NUMBER),
        ("x", [f"T-{n}" for n in range(20)], Kind.ID),
        ("x", ["https://example.com/" + str(n) for n in range(20)], Kind.ID),
        ("x", [f"2024-05-{n:02}" for n in range(1, 21)], Kind.DATE),
        ("x", [f"2024-05-{n:02}T12:00:00Z" for n in range(1, 21)], Kind.DATE),
        ("x", [date(2024, 5, n) for n in range(1, 21)], Kind.DATE),
        ("x", ["yes"] * 20, Kind.CONSTANT),
        ("x", [None, "", float("nan")], Kind.EMPTY),
        ("x", [True, False] * 10, Kind.LABEL),
        ("x", [["a", "b"], ["c"]] * 10, Kind.LIST),
        ("x", ["['a', 'b']", "['c']"] * 10, Kind.LIST),
        ("x", [["a", "b"], "c"] * 10, Kind.LIST),
        ("x", [{"toxic": 1, "insult": 0}] * 10, Kind.MAP),
        ("x", [PNG + bytes([n]) for n in range(20)], Kind.IMAGE),
        ("x", [f"photos/{n}.jpg" for n in range(20)], Kind.IMAGE),
        ("x", [{"bytes": PNG, "path": None}] * 3, Kind.IMAGE),
        ("x", [bytes([0, 1, 2, 255])] * 3, Kind.BYTES),
        ("x", [b"A text in bytes", b"Another one here"] * 2, Kind.TEXT),
        ("x", ["今日は天気がいいですね", "明日も晴れるでしょう"] * 2, Kind.TEXT),
    ],
)
def test_kind(name: str, values: list[object], kind: Kind) -> None:
    assert Column.of(name, list(values)).kind is kind


@pytest.mark.parametrize(
    ("name", "kind"), [("text", Kind.TEXT), ("label", Kind.LABEL), ("body.text", Kind.TEXT)]
)
def test_names_decide_about_two_short_values(name: str, kind: Kind) -> None:
    assert Column.of(name, ["Fine", "Dull"]).kind is kind


def test_a_frequent_value_among_many_is_no_text_but_a_label() -> None:
    answers = ["I agree with this", "I do not agree with this at all"]
    assert Column.of("x", answers * 10).kind is Kind.LABEL


def test_statistics() -> None:
    column = Column.of("x", ["a b c d", "a b c d", None, "e f g h i j"])
    assert (column.missing, column.distinct, column.example) == (0.25, 2, "a b c d")
    assert column.words == [4, 4, 6]
    assert column.mean_words == pytest.approx(14 / 3)


def test_words_of_a_script_without_blanks_are_characters() -> None:
    column = Column.of("text", ["今日は天気がいい", "明日も晴れる"])
    assert column.is_unspaced
    assert column.words == [8, 6]


def test_numbers() -> None:
    column = Column.of("stars", ["1", "5", "4.0"] * 5)
    assert column.is_whole
    assert set(column.numbers) == {1.0, 4.0, 5.0}
    assert not column.is_binary
    assert Column.of("toxic", ["0", "1"] * 5).is_binary
    assert Column.of("toxic", [True, False] * 5).is_binary


@pytest.mark.parametrize("text", ["nan", "inf", "1_000", "", "1,5", "one"])
def test_what_is_no_number(text: str) -> None:
    assert not is_number(text)


@pytest.mark.parametrize(
    ("texts", "time_format"),
    [
        (["31.12.2023", "01.02.2024"], "%d.%m.%Y"),
        (["12/31/2023", "01/02/2024"], "%m/%d/%Y"),
        (["31/12/2023", "01/02/2024"], "%d/%m/%Y"),
        (["2024-05-31 12:00:00"], ""),
        (["Mon May 06 22:45:00 +0000 2024"], "%a %b %d %H:%M:%S %z %Y"),
        (["20240531"], None),
        (["May", "June"], None),
        (["3.5", "4.5"], None),
    ],
)
def test_time_format(texts: list[str], time_format: str | None) -> None:
    assert find_time_format(texts) == time_format
