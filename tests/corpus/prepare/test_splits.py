"""Splits by label, group, time and file: exact, and the same however the corpus is prepared."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.prepare.prepare import prepare, prepare_with_summary
from pipeline.errors import InputError
from tests.helpers.files import FIELDS, Rows, reviews, row_dicts, settings_in, write

Prepare = Callable[..., Manifest]
SPLITS = ("train", "validation", "test")


def rows_with(count: int, **columns: Callable[[int], Any]) -> Rows:
    return [
        {**row, **{name: value(number) for name, value in columns.items()}}
        for number, row in enumerate(reviews(count))
    ]


def texts(manifest: Manifest, split: str) -> list[str]:
    return [manifest.decode("tokenizer", row["tokens"]) for row in row_dicts(manifest, split)]


def by_number(manifest: Manifest, split: str) -> set[int]:
    """Return the numbers of a split's rows: the end of the last word of `reviews`."""
    return {int(text.rpartition("-")[2]) for text in texts(manifest, split)}


@pytest.fixture
def in_folder(tmp_path: Path) -> Callable[..., Manifest]:
    def prepared(rows: Rows, name: str = "a.csv", **keys: Any) -> Manifest:
        if not (tmp_path / name).exists():
            write(tmp_path / name, rows)
        keys = {"input": name, "shards": str(tmp_path / "shards"), "max_tokens": 400, **keys}
        return prepare(settings_in(tmp_path, **keys), FIELDS)

    return prepared


def test_labels_have_the_same_share_in_all_splits(in_folder: Prepare) -> None:
    rows = rows_with(1000, label=lambda n: "abc"[(n % 10 > 5) + (n % 100 == 99)])
    counts = Counter(row["label"] for row in rows)
    manifest = in_folder(rows, validation=0.1, test=0.05)
    assert {split: s.rows for split, s in manifest.splits.items()} == {
        "train": 850, "validation": 100, "test": 50,
    }  # fmt: skip
    for split, fraction in (("validation", 0.1), ("test", 0.05)):
        found = Counter(manifest.names["label"][row["label"]] for row in row_dicts(manifest, split))
        assert all(abs(found[label] - fraction * n) < 1 for label, n in counts.items()), found


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_fraction_beside_a_file_has_the_share_of_each_label(
    split: str, in_folder: Prepare, tmp_path: Path
) -> None:
    rows = rows_with(400, label=lambda n: "rare" if n % 8 == 0 else "common")
    write(tmp_path / "held.csv", reviews(50, seed=4) + rows[:20])
    other = "validation" if split == "test" else "test"
    manifest = in_folder(rows, **{split: "held.csv", other: 0.1}, label_names=[])
    assert manifest.splits[split].rows == 70 - sum(manifest.report[k] for k in ("label_once",))
    found = Counter(manifest.names["label"][row["label"]] for row in row_dicts(manifest, other))
    assert found == {"rare": 5, "common": 33}  # of 47 and 333 rows that are not in the file
    assert not {*texts(manifest, "train")} & {*texts(manifest, split), *texts(manifest, other)}


def test_without_stratify_the_hash_of_a_text_decides(in_folder: Prepare, tmp_path: Path) -> None:
    """More rows, or a test split, move no row from or to validation."""
    rows = reviews(900)
    few = in_folder(rows[:600], "few.csv", stratify=False, shards=str(tmp_path / "few"))
    all_rows = in_folder(rows, "all.csv", stratify=False, test=0.2, shards=str(tmp_path / "all"))
    held_out = by_number(few, "validation")
    assert held_out == {n for n in by_number(all_rows, "validation") if n < 600}
    assert 0.14 < all_rows.splits["test"].rows / 900 < 0.26
    assert not by_number(all_rows, "test") & by_number(all_rows, "validation")


def test_validation_does_not_depend_on_the_test_split(in_folder: Prepare, tmp_path: Path) -> None:
    rows = reviews(500)
    without = in_folder(rows, shards=str(tmp_path / "without"))
    with_test = in_folder(rows, test=0.1, shards=str(tmp_path / "with"))
    assert by_number(without, "validation") == by_number(with_test, "validation")
    assert without.splits.keys() == {"train", "validation"}


def test_groups_stay_together(in_folder: Prepare) -> None:
    rng = random.Random(0)
    groups = [f"g{rng.randint(0, 60) ** 2 // 60}" for _ in range(1000)]
    rows = rows_with(1000, author=lambda n: groups[n])
    manifest = in_folder(rows, group="author", validation=0.2, test=0.1)
    members = {split: by_number(manifest, split) for split in SPLITS}
    found = {split: {groups[n] for n in numbers} for split, numbers in members.items()}
    assert sum(map(len, found.values())) == len(set(groups))
    assert set.union(*found.values()) == set(groups)
    assert sum(map(len, members.values())) == 1000
    assert abs(len(members["validation"]) - 200) < 20
    assert abs(len(members["test"]) - 100) < 20


@pytest.mark.parametrize("form", ["number", "date"])
def test_the_latest_rows_are_held_out(form: str, in_folder: Prepare) -> None:
    order = list(range(1000))
    random.Random(1).shuffle(order)
    days = [n // 7 for n in order]  # seven rows of each time
    rows = rows_with(
        1000,
        when=lambda n: (
            days[n] if form == "number" else f"20{10 + days[n] // 12}-{1 + days[n] % 12:02}-05"
        ),
    )
    manifest = in_folder(rows, time="when", validation=0.1, test=0.05)
    train, validation, test = ([days[n] for n in by_number(manifest, split)] for split in SPLITS)
    assert max(train) < min(validation) <= max(validation) < min(test)
    assert (len(validation), len(test)) == (98, 48)  # whole times: 14 * 7, and 6 + 6 * 7


def test_splits_are_the_same_on_any_number_of_workers_and_again(
    in_folder: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_with(600, author=lambda n: f"g{n % 37}", when=lambda n: (n * 17) % 600)
    reversed_rows = write(tmp_path / "reversed.csv", rows[::-1])
    variants: list[dict[str, Any]] = [
        {}, {"workers": 2, "chunk_mb": 0.01}, {}, {"input": reversed_rows.name},
    ]  # fmt: skip
    rules: list[dict[str, Any]] = [{"group": "author"}, {"time": "when"}, {"stratify": True}]
    for number, rule in enumerate(rules):
        keys = {"validation": 0.2, "test": 0.1, **rule}
        splits = []
        for variant, more in enumerate(variants):
            if variant == 2:
                ranges = "pipeline.corpus.prepare.dedup_and_split"
                monkeypatch.setattr(f"{ranges}.RANGE_EXAMPLES", 50)
                monkeypatch.setattr(f"{ranges}.CHUNK_EXAMPLES", 77)
            shards = str(tmp_path / f"{number}-{variant}")
            manifest = in_folder(rows, **keys, **more, shards=shards)
            splits.append([by_number(manifest, split) for split in SPLITS])
        assert splits[0] == splits[1] == splits[2] == splits[3], keys


def test_equal_texts_of_different_groups_are_in_one_split(
    in_folder: Prepare, tmp_path: Path
) -> None:
    rows = rows_with(300, author=lambda n: f"g{n % 30}")
    for number in range(0, 300, 3):
        rows[number]["text"] = f"ok {number % 7}"
    for test in (None, 0.2):
        shards = str(tmp_path / f"shards-{test}")
        manifest = in_folder(
            rows, group="author", validation=0.3, test=test, drop_duplicates=False, shards=shards
        )
        found = [set(texts(manifest, split)) for split in manifest.splits]
        assert sum(map(len, found)) == len(set.union(*found))
        report = manifest.report
        assert report["in_test" if test else "in_validation"] > 0
        left_out = report["in_validation"] + report["in_test"]
        assert sum(split.rows for split in manifest.splits.values()) == 300 - left_out


def test_texts_of_a_test_file_are_not_trained_on_and_counted(
    in_folder: Prepare, tmp_path: Path
) -> None:
    rows = reviews(300)
    write(tmp_path / "test.csv", [*rows[:40], *reviews(20, seed=1)])
    write(tmp_path / "val.csv", [*rows[30:60], *reviews(20, seed=2)])
    manifest = in_folder(rows, test="test.csv", validation="val.csv")
    assert {split: s.rows for split, s in manifest.splits.items()} == {
        "train": 240, "validation": 40, "test": 60,
    }  # fmt: skip
    assert manifest.report["in_test"] == 50  # 40 to train on, 10 in validation
    assert manifest.report["in_validation"] == 20


def test_the_tokenizer_learns_from_the_rows_to_train_on_only(
    in_folder: Prepare, tmp_path: Path
) -> None:
    rows = rows_with(400, author=lambda n: f"g{n % 20}")
    for number, row in enumerate(rows):
        row["text"] = f"{row['text']} only{number % 20}"
    manifest = in_folder(rows, group="author", level="word", validation=0.3)
    words = manifest.store.read_file("tokenizer.json").decode()
    held_out = {number % 20 for number in by_group(manifest)}
    assert len(held_out) == 6
    for group in range(20):
        assert (f'"only{group}"' in words) == (group not in held_out), group


def by_group(manifest: Manifest) -> set[int]:
    """Return the groups whose word the tokenizer does not know."""
    known = manifest.store.read_file("tokenizer.json").decode()
    return {group for group in range(20) if f'"only{group}"' not in known}


@pytest.mark.parametrize(
    "columns, keys, line",
    [
        ({"author": lambda n: ""}, {"group": "author"},
         ("corpus.input: none of 50 rows can be used: 50 with no value in the column corpus.group, "
         "first a.csv, line 2")),
        ({"author": lambda n: "ann"}, {"group": "author"},
         ("corpus.group=author: has 1 different value(s) in the usable rows, too few for train and "
         "validation; set another column, or remove it")),
        ({"when": lambda n: n % 2}, {"time": "when", "test": 0.2},
         ("corpus.time=when: has 2 different value(s) in the usable rows, too few for train and "
         "test and validation; set another column, or remove it")),
        ({"when": lambda n: "" if n else "x"}, {"time": "when"},
         ("50 with no number or date in the column corpus.time (for dates that are not written "
         "like 2024-05-31, set corpus.time_format), first a.csv, line 2")),
        ({"when": lambda n: n if n % 2 else "2024-05-31"}, {"time": "when"},
         ("corpus.time=when: has dates (first a.csv, line 2) and numbers (first a.csv, line 3), "
         "which cannot be compared; use one format for all rows, or set corpus.time_format")),
        ({}, {"group": "author"}, "a.csv: has no column 'author'"),
    ],
)  # fmt: skip
def test_flaws_of_a_column(
    columns: dict[str, Any], keys: dict[str, Any], line: str, in_folder: Prepare
) -> None:
    rows = [{**row, "text": f"text {n}"} for n, row in enumerate(rows_with(50, **columns))]
    with pytest.raises(InputError) as caught:
        in_folder(rows, **keys)
    assert line in str(caught.value)


@pytest.mark.parametrize("key, reason", [("group", "no_group"), ("time", "no_time")])
def test_rows_without_a_group_or_time_are_skipped_and_counted(
    key: str, reason: str, in_folder: Prepare
) -> None:
    missing = {3, 4, 77, 150, 199}
    rows = rows_with(200, column=lambda n: "" if n in missing else n // 2)
    keys = {key: "column", "max_skipped_ratio": 0.1, "chunk_mb": 0.001}
    manifest = in_folder(rows, validation=0.2, test=0.1, **keys)
    assert manifest.report[reason] == len(missing)
    members = [by_number(manifest, split) for split in SPLITS]
    assert set.union(*members) == {*range(200)} - missing
    assert sum(map(len, members)) == 200 - len(missing)
    halves = [{number // 2 for number in numbers} for numbers in members]
    assert sum(map(len, halves)) == len(set.union(*halves))


def test_a_file_of_two_splits_is_an_error(in_folder: Prepare, tmp_path: Path) -> None:
    write(tmp_path / "held.csv", reviews(20, seed=3))
    with pytest.raises(InputError, match=r"^corpus\.test: has held\.csv, which is also in "):
        in_folder(reviews(50), test="held.csv", validation="held.csv")


@pytest.mark.parametrize(
    "keys, line",
    [
        ({"group": "author"}, "  author: 20 groups, 16 in train, 4 in validation"),
        ({"time": "when"}, "  validation: held out the latest rows, from when 160 on"),
        ({}, "  held out for validation: the same share of each label"),
    ],
)
def test_the_summary_says_how_rows_were_held_out(
    keys: dict[str, Any], line: str, tmp_path: Path
) -> None:
    write(tmp_path / "a.csv", rows_with(200, author=lambda n: f"g{n % 20}", when=lambda n: n))
    settings = settings_in(tmp_path, input="a.csv", validation=0.2, **keys)
    _, summary = prepare_with_summary(settings, FIELDS)
    assert line in summary


def test_weights_are_stored_and_bad_ones_are_skipped(tmp_path: Path) -> None:
    values = {0: -1, 1: "heavy", 2: "", 3: "inf", 4: float("nan"), 5: 0, 6: 2.5}
    write(tmp_path / "a.csv", rows_with(60, w=lambda n: values.get(n, 1)))
    fields = (*FIELDS, FieldSpec("weight", "w", "weight"))
    settings = settings_in(tmp_path, input="a.csv", weight="w", max_skipped_ratio=0.2)
    manifest, summary = prepare_with_summary(settings, fields)
    assert manifest.report["bad_weight"] == 5
    assert any("5 with a weight in the column corpus.weight that is missing" in s for s in summary)
    found = Counter(row["weight"] for split in SPLITS[:2] for row in row_dicts(manifest, split))
    assert found == {0.0: 1, 2.5: 1, 1.0: 53}
