"""Shortened names, and numbers with a noun."""

import pytest

from pipeline.wording import quantity, shorten


@pytest.mark.parametrize(
    "text, expected", [("label", "label"), ("a label", "a..."), ("labels", "la..."), ("", "")]
)
def test_a_shortened_text_has_at_most_the_length(text: str, expected: str) -> None:
    assert shorten(text, 5) == expected


def test_quantities() -> None:
    assert [quantity(n, "row") for n in (0, 1, 2, 12345)] == [
        "0 rows", "1 row", "2 rows", "12,345 rows",
    ]  # fmt: skip
