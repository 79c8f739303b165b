"""Names that a dataset lacks get indices of their own."""

import pytest

from pipeline.corpus.fields.label_names import NameIndex
from pipeline.corpus.fields.unknown_names import OpenNameIndex
from pipeline.errors import InputError


def test_unknown_names_are_numbered_after_the_known_ones() -> None:
    index = OpenNameIndex(["bad", "good"])
    for name in ["good", "mixed", "bad", "odd", "mixed"]:
        index.check(name, "a.csv, row 1")
    assert [index[name] for name in ["bad", "good", "mixed", "odd"]] == [0, 1, 2, 3]
    assert index.unknown_names == ["mixed", "odd"]
    assert [index.is_unknown(name) for name in ["good", "mixed", "odd"]] == [False, True, True]


def test_an_index_in_place_of_a_name_is_known_as_for_a_closed_index() -> None:
    closed, index = NameIndex(["bad", "good"]), OpenNameIndex(["bad", "good"])
    closed.check("1", "a.csv, row 1")
    index.check("1", "a.csv, row 1")
    assert closed["1"] == index["1"] == 1
    assert not index.is_unknown("1")
    with pytest.raises(InputError, match="'2' is not in"):
        closed.check("2", "a.csv, row 1")
    index.check("2", "a.csv, row 1")
    assert index["2"] == 2
    assert index.is_unknown("2")
