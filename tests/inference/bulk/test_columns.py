"""Columns of the output: types of kept columns, and values that a format lacks."""

import json
from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from pipeline.corpus.row import Row
from pipeline.errors import InputError
from pipeline.inference.bulk.columns import OutputColumns, arrow_type, kept_columns
from pipeline.inference.run_input import RawInput


def rows(values: list[Any]) -> list[Row]:
    return [Row(number, {"x": value}, number) for number, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    "values, dtype",
    [
        ([1, None, 2], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([True, None], pa.bool_()),
        ([True, 1], pa.string()),
        (["a", 1], pa.string()),
        ([[1], {"a": 1}], pa.string()),
        ([b"\xff", None], pa.binary()),
        ([None], pa.string()),
    ],
)
def test_the_first_values_choose_the_type_of_a_kept_column(values: list[Any], dtype: Any) -> None:
    assert kept_columns(["x"], rows(values), {}) == {"x": dtype}
    assert kept_columns(["x"], rows(values), {"x": pa.int8()}) == {"x": pa.int8()}


def table(values: list[Any], dtype: Any) -> list[Any]:
    columns = OutputColumns({"x": dtype}, {"n": pa.int64()})
    items = [RawInput("a.jsonl", row) for row in rows(values)]
    return columns.table(items, [{"n": 1}] * len(items))["x"].to_pylist()


def test_values_become_text_in_a_column_of_text() -> None:
    values = ["é\udcff", None, 1, True, ["a", 1], {"a": None}, b"\xff", date(2024, 1, 2)]
    assert table(values, pa.string()) == [
        "é?", None, "1", "true", '["a", 1]', '{"a": null}', "/w==", "2024-01-02",
    ]  # fmt: skip


def test_a_value_of_another_type_is_one_line() -> None:
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: x='A17': is not of the type int64"):
        table([1, "A17"], pa.int64())


def test_lines_of_json_are_valid() -> None:
    columns = OutputColumns({"x": pa.string()}, {"n": pa.int64()})
    values: list[Any] = [float("nan"), "é\udcff", b"\xff", [float("inf"), 1]]
    items = [RawInput("a", row) for row in [*rows(values), Row(9, None)]]
    lines = list(columns.lines(items, [{"n": 1}] * 4 + [{"error": "e"}]))
    assert [json.loads(line)["x"] for line in lines] == [None, "é?", "/w==", [None, 1], None]
    assert json.loads(lines[-1]) == {"x": None, "error": "e"}


def test_types_of_predictions() -> None:
    declared: dict[str, Any] = {"a": [[str]], "b": {"c": float, "d": int}, "e": dict[str, float]}
    assert {name: arrow_type(t) for name, t in declared.items()} == {
        "a": pa.list_(pa.list_(pa.string())),
        "b": pa.struct([("c", pa.float64()), ("d", pa.int64())]),
        "e": pa.map_(pa.string(), pa.float64()),
    }
