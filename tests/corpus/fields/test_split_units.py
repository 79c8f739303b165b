"""Units of rows by a column: groups and times."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.fields.split_units import (
    SplitUnits,
    TimeKind,
    Unit,
    describe_time,
    split_conflicts,
)
from pipeline.corpus.skip_reason import SkipReason
from tests.helpers.files import settings_in


def unit(folder: Path, value: Any, **keys: Any) -> Unit:
    found = SplitUnits(settings_in(folder, **keys)).unit(value)
    assert isinstance(found, Unit), found
    return found


def test_groups_are_compared_as_text(tmp_path: Path) -> None:
    ann = unit(tmp_path, "ann", group="author")
    assert ann == unit(tmp_path, " ann ", group="author") == unit(tmp_path, b"ann", group="author")
    assert ann != unit(tmp_path, "Ann", group="author")


@pytest.mark.parametrize("values", [(7, 7.0, "7", "7.0"), (True, "true", "True"), ("é", "e\u0301")])
def test_spellings_of_a_group_are_one_unit(values: tuple[Any, ...], tmp_path: Path) -> None:
    """A column of integers has numbers such as 7.0 in a file where one value is missing."""
    assert len({unit(tmp_path, value, group="author") for value in values}) == 1


@pytest.mark.parametrize("value", ["", "  ", None, float("nan")])
def test_a_missing_group_or_time_is_a_reason_to_skip(value: Any, tmp_path: Path) -> None:
    assert SplitUnits(settings_in(tmp_path, group="a")).unit(value) is SkipReason.NO_GROUP
    assert SplitUnits(settings_in(tmp_path, time="a")).unit(value) is SkipReason.NO_TIME


TIMES: list[list[Any]] = [
    ["-1e300", -5, "-2.5", "-0.0", 1e-300, "7", 8, "1e300"],
    ["1066-10-14", date(1969, 12, 31), "1970-01-01", "1970-01-01T00:00:00.000001",
     datetime(2024, 5, 31, 12), "2024-05-31 12:00:01", "2024-05-31T14:00:02+02:00",
     datetime(2024, 5, 31, 14, 0, 3, tzinfo=timezone(timedelta(hours=2))), "9999-12-31"],
]  # fmt: skip


@pytest.mark.parametrize("values", TIMES, ids=["numbers", "dates"])
def test_units_of_times_descend(values: list[Any], tmp_path: Path) -> None:
    units = [unit(tmp_path, value, time="t") for value in values]
    assert [u.number for u in units] == sorted({u.number for u in units}, reverse=True)
    assert all(0 <= u.number < 1 << 64 for u in units)
    kind = TimeKind.NUMBER if values is TIMES[0] else TimeKind.DATE
    assert {u.kind for u in units} == {kind}


def test_equal_times_are_one_unit(tmp_path: Path) -> None:
    noon = unit(tmp_path, "2024-05-31T12:00:00Z", time="t")
    assert noon == unit(tmp_path, datetime(2024, 5, 31, 12, tzinfo=UTC), time="t")
    assert noon == unit(tmp_path, "2024-05-31T07:00:00-05:00", time="t")
    assert unit(tmp_path, "0", time="t") == unit(tmp_path, -0.0, time="t")


@pytest.mark.parametrize("value", ["31.05.2024", "yesterday", "inf", "2024-13-01"])
def test_other_texts_are_no_time(value: str, tmp_path: Path) -> None:
    assert SplitUnits(settings_in(tmp_path, time="t")).unit(value) is SkipReason.NO_TIME


def test_a_format_reads_other_dates(tmp_path: Path) -> None:
    keys = {"time": "t", "time_format": "%d.%m.%Y"}
    assert unit(tmp_path, "31.05.2024", **keys) == unit(tmp_path, "2024-05-31", time="t")
    assert SplitUnits(settings_in(tmp_path, **keys)).unit("2024-05-31") is SkipReason.NO_TIME


@pytest.mark.parametrize(
    "value, text",
    [("2024-05-31", "2024-05-31"), ("2024-05-31T14:00:00+02:00", "2024-05-31 12:00:00"),
     ("2024", "2024"), (-2.5, "-2.5"), (1717113600.25, "1717113600.25")],
)  # fmt: skip
def test_times_are_described(value: Any, text: str, tmp_path: Path) -> None:
    found = unit(tmp_path, value, time="t")
    assert found.kind
    assert describe_time(found.number, found.kind) == text


@pytest.mark.parametrize(
    "keys, line",
    [
        ({"group": "a", "validation": "b.csv"},
         ("corpus.group: needs a fraction of rows to hold out, but corpus.validation names files; "
         "remove it, or set corpus.validation to a fraction")),
        ({"time": "a", "test": "b.csv"},
         ("corpus.time: needs a fraction of rows to hold out, but corpus.test names files; "
         "remove it, or set corpus.test to a fraction")),
        ({"time": "a", "group": "b"},
         ("corpus.time: cannot be combined with corpus.group: both decide which rows are held out; "
         "remove one of them")),
        ({"stratify": True, "group": "b"},
         ("corpus.stratify: cannot be combined with corpus.group: both decide which rows are held "
         "out; remove one of them")),
        ({"time_format": "%Y"}, "corpus.time_format: applies only to corpus.time; remove it"),
        ({"validation": 0.5, "test": 0.5},
         "corpus.test: leaves no row to train on: corpus.validation=0.5; set smaller fractions"),
        ({"group": "a", "test": 0.1}, ""),
        ({"test": "b.csv", "validation": 0.1}, ""),
    ],
)  # fmt: skip
def test_conflicts(keys: dict[str, Any], line: str, tmp_path: Path) -> None:
    lines = [
        f"{c.key}: {c.problem}; {c.remedy}" for c in split_conflicts(settings_in(tmp_path, **keys))
    ]
    assert lines == [line] * bool(line)
