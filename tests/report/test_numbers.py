"""Numbers, times and shares as a person reads them."""

import math

import pytest

from pipeline.report.html import Markup, key_table, meter, table
from pipeline.report.numbers import (
    format_date,
    format_duration,
    format_number,
    format_share,
    format_tick,
)


@pytest.mark.parametrize(
    "value, text",
    [(0.91666, "0.9167"), (25000, "25,000"), (1234.5, "1,234"), (0, "0"), (3, "3"),
     (math.nan, "not defined"), (-math.inf, "-inf"), (1e-5, "1e-05")],
)  # fmt: skip
def test_number(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize("value, text", [(0.25, "0.25"), (2000, "2k"), (1.5e6, "1.5M"), (0, "0")])
def test_tick(value: float, text: str) -> None:
    assert format_tick(value) == text


@pytest.mark.parametrize("value, text", [(42, "42 s"), (250, "4 min 10 s"), (9000, "2 h 30 min")])
def test_duration(value: float, text: str) -> None:
    assert format_duration(value) == text


def test_date_and_share() -> None:
    assert format_date(1795838600) == "2026-11-28 04:03 UTC"
    assert format_share(0.9167) == "91.7 %"


def test_cells_are_escaped_unless_they_are_markup() -> None:
    html = table(("name", "n"), [("<a>", "<b>"), ("c", Markup("<i></i>"))])
    assert (
        "<th scope='row' dir='auto'>&lt;a&gt;</th><td class='n' dir='auto'>&lt;b&gt;</td>" in html
    )
    assert "<td class='n'><i></i></td>" in html
    assert "<td>&lt;b&gt;</td>" in key_table({"a": "<b>"})
    assert "<i style='width:50%'></i></span><span class='share'>50.0 %</span>" in meter(0.5)
