"""Lines about skipped rows and unknown labels."""

from pipeline.corpus.skip_reason import SkipReason
from pipeline.inference.counts import SkipCounts, UnknownLabels


def test_each_reason_has_its_number_and_its_first_row() -> None:
    skips = SkipCounts()
    skips.add(SkipReason.NO_LABEL, "a.csv, line 3")
    skips.add(SkipReason.NUL, "a.csv, line 4")
    skips.add(SkipReason.NO_LABEL, "b.csv, line 2")
    assert skips == {SkipReason.NO_LABEL: 2, SkipReason.NUL: 1}
    assert list(skips.describe()) == [
        "skipped 2 row(s): no label, first a.csv, line 3",
        "skipped 1 row(s): a NUL character, first a.csv, line 4",
    ]


def test_the_most_frequent_unknown_labels_are_named() -> None:
    unknown = UnknownLabels()
    unknown.add([], "a.csv, line 1")
    unknown.add(["x", "y"], "a.csv, line 2")
    unknown.add(["y"], "a.csv, line 3")
    assert (unknown.rows, unknown.names.total()) == (2, 3)
    assert unknown.describe() == (
        "3 label(s) in 2 row(s) are unknown to this run and count as wrong: 'y' 2, 'x' 1; first "
        "a.csv, line 2; --unknown-labels=refuse stops instead"
    )
    unknown.add([f"other {n}" for n in range(2000)] + ["z" * 10_000] * 9, "a.csv, line 4")
    line = unknown.describe()
    assert line.startswith("2,012 label(s) in 3 row(s) are unknown")
    assert "'zzz" in line
    assert ", ...; first a.csv, line 2;" in line
    assert len(line) < 400
