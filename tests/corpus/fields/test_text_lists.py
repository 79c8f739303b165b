"""Lists and maps as text: read item by item, refused, or left alone as plain text."""

import json
from typing import Any

import numpy as np
import pytest

from pipeline.corpus.fields.text_lists import items, parse_list, parse_map
from pipeline.corpus.skip_reason import SkipReason

NAMES = ["B-X", "I-X", "O"]
STRINGS = {
    "Python": str(NAMES),
    "JSON": json.dumps(NAMES),
    "compact JSON": json.dumps(NAMES, separators=(",", ":")),
    "NumPy": str(np.array(NAMES)),
    "NumPy repr": repr(np.array(NAMES)),
    "NumPy objects": repr(np.array(NAMES, object)),
    "NumPy scalars": str([np.str_(name) for name in NAMES]),
    "bytes": str([name.encode() for name in NAMES]),
    "tuple": str(tuple(NAMES)),
    "line breaks": "['B-X'\n 'I-X'\n 'O']",
    "a comma at the end": "['B-X', 'I-X', 'O',]",
    "blanks around": "  [ 'B-X' , 'I-X' , 'O' ]\n",
    "mixed quotes": """["B-X", 'I-X', "O"]""",
}


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("form", STRINGS)
def test_lists_of_quoted_items_are_read(form: str, bare: bool) -> None:
    assert parse_list(STRINGS[form], bare=bare) == NAMES


@pytest.mark.parametrize(
    "text, expected",
    [
        (r"['it\'s', 'a\\b', 'caf\xe9']", ["it's", r"a\b", "café"]),
        ("""["it's", 'say "x"', 'a, b', '[c]']""", ["it's", 'say "x"', "a, b", "[c]"]),
        ('["caf\\u00e9", "a\\nb"]', ["café", "a\nb"]),
        ("[1, 2]", ["1", "2"]),
        ("[0.0, 1.0]", ["0.0", "1.0"]),
        ("[True, False]", ["True", "False"]),
        ("[true, false]", ["true", "false"]),
        ("['a', None, nan, null, NaN]", ["a", "", "", "", ""]),
        ("[]", []),
        ("[1]", ["1"]),
        (str([np.int64(3), np.float32(0.5)]), ["3", "0.5"]),
        ("['\U0001f642']", ["🙂"]),
        (str([b"caf\xe9"]), ["caf\udce9"]),
    ],
)
def test_items_are_read_one_by_one(text: str, expected: list[str]) -> None:
    assert parse_list(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "['a' 'b', 'c']",  # Python would join two of the items
        "['a''b']",
        "['a', 'b' ... 'z']",
        "['a', 'b'",
        "['a', [b]]",
        "[['a'], ['b']]",
        '[{"a": 1}]',
        "['a', 'b]",
        r"['\x']",
    ],
)
@pytest.mark.parametrize("bare", [False, True])
def test_lists_that_cannot_be_read_are_refused(text: str, bare: bool) -> None:
    expected = SkipReason.BAD_LIST if bare or text.endswith("]") else None
    assert parse_list(text, bare=bare) is expected


@pytest.mark.parametrize(
    "text",
    [
        "[ hi ] there",
        "[ hi there ]",
        "[sic]",
        "[laughter, applause]",
        "[0 1 1]",
        "( hi , there )",
        "(hi)",
        '("Hello," she replied.)',
        "(1, 2)",
        "{a}",
        "[CLS] a [SEP]",
        "'a', 'b'",
        "[",
        "",
        "]",
        "[ 'tis the season ]",
    ],
)
def test_sentences_stay_text(text: str) -> None:
    assert parse_list(text) is None
    assert items(text) == text.split()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("[B-X, O]", ["B-X", "O"]),
        ("[B-X,O]", ["B-X", "O"]),
        ('{B-X,"not O",O}', ["B-X", "not O", "O"]),
        ("{'a', 'b'}", ["a", "b"]),
        ("[0 1 1]", ["0", "1", "1"]),
        ("[0. 1. 1.]", ["0.", "1.", "1."]),
        ("[a]", ["a"]),
        ("{}", []),
        ("[CLS] O [SEP]", None),
        ("O O", None),
        ("(O)", None),
        ("['a', 'b", SkipReason.BAD_LIST),  # cut off
        ("[0 1 ... 1 0]", SkipReason.BAD_LIST),
        ("{a: 1, b: 0}", SkipReason.BAD_LIST),
    ],
)
def test_names_need_no_quotes(text: str, expected: Any) -> None:
    assert parse_list(text, bare=True) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ('{"a": 1, "b": 0}', {"a": 1, "b": 0}),
        ("{'a': True, 'b': False}", {"a": True, "b": False}),
        (str({"a": np.int64(1)}), {"a": 1}),
        ("{}", {}),
        ("{'a', 'b'}", None),
        ("{a: 1}", None),
        ("{'a': open('x')}", None),
        ("[1]", None),
        ("{" * 5000 + "}", None),
    ],
)
def test_maps_are_read_without_running_code(text: str, expected: Any) -> None:
    assert parse_map(text) == expected


def test_items_of_other_values() -> None:
    assert items(["a", "b"]) == ["a", "b"]
    assert items([1, 2.5, b"x", True, None]) == ["1", "2.5", "x", "true", ""]
    assert items(b"a b") == ["a", "b"]
    assert items(7) == ["7"]
    assert items(None) == items({"a": 1}) == items(float("nan")) == []


def test_a_long_list_is_read_in_linear_time() -> None:
    names = [f"n{n}'" for n in range(100_000)]
    assert parse_list(str(names)) == names
    assert parse_list(str(names)[:-2] + "]") is SkipReason.BAD_LIST


def test_an_empty_set_is_a_list_of_names_only() -> None:
    assert parse_list(str(set()), bare=True) == parse_list(" frozenset() ", bare=True) == []
    assert parse_list(str(set())) is None
