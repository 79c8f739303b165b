"""The first screen of a run and its warnings, on exact text."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.training.overview import Facts, Labels, Lengths, Schedule, lines, warnings

FACTS = Facts(
    rows=273,
    tokens=5747,
    token_unit="tokens",
    lengths=Lengths(21, 33, 35),
    truncated=0.0,
    max_tokens=400,
    segments="",
    splits={"train": 273, "validation": 27},
    origins={"validation": "0.1 of the rows"},
    shards=0,
    labels=Labels("corpus.label=queue", ["billing", "shipping", "technical"], [100, 102, 98]),
    numbers=None,
    model="classification, lstm 2 x 128 bidirectional",
    parameters=713731,
    megabytes=2.85,
    device="1 x CPU core, fp32, PyTorch layers",
    schedule=Schedule(per_epoch=11, epochs=50, spanned_epochs=50, warmup=0.05),
    rate="0.003, cosine over 50 epochs; optimizer adamw",
    chosen={"stream.token_budget": 512, "train.epochs": 50, "train.lr": 0.003},
    folder="runs/tickets",
    budget=512,
)


def test_classification() -> None:
    assert lines(FACTS) == [
        "rows      train 273 (5,747 tokens), validation 27 (0.1 of the rows)",
        "lengths   21 tokens (median), 33 (95th percentile), 35 (longest)",
        "labels    3: shipping 102, billing 100, technical 98",
        "model     classification, lstm 2 x 128 bidirectional; 713,731 parameters, 2.9 MB",
        "device    1 x CPU core, fp32, PyTorch layers",
        "updates   11 per epoch, 550 in total (50 epochs), the first 28 for warm-up",
        "saving    a checkpoint after each of 50 evaluations and every 200 updates",
        "rate      0.003, cosine over 50 epochs; optimizer adamw",
        "defaults  stream.token_budget=512, train.epochs=50, train.lr=0.003: chosen for",
        "          5,747 tokens",
        "run       runs/tickets",
    ]
    assert not list(warnings(FACTS))


def test_language_modeling_has_segments_and_no_labels() -> None:
    facts = replace(
        FACTS, labels=None, lengths=None, chosen={}, segments="32 lanes of text, 70 tokens each"
    )
    shown = lines(facts)
    assert shown[1] == "segments  32 lanes of text, 70 tokens each"
    assert not any(line.startswith(("labels", "lengths", "defaults")) for line in shown)


def test_rows_of_an_epoch_that_repeats_or_mixes_datasets() -> None:
    assert lines(replace(FACTS, rows=819))[:2] == [
        "rows      train 273 (5,747 tokens), validation 27 (0.1 of the rows); 819 per",
        "          epoch",
    ]


def test_regression_has_numbers() -> None:
    shown = lines(replace(FACTS, labels=None, numbers=(53.72, 31.11)))
    assert "numbers   mean 53.72, standard deviation 31.11" in shown


def test_unprepared_rows_are_not_counted() -> None:
    facts = replace(
        FACTS, splits={}, origins={}, shards=3, rows=10_000, tokens=0, lengths=None, chosen={},
        labels=Labels("corpus.label=json", ["neg", "pos"]),
    )  # fmt: skip
    assert lines(facts)[:1] == [
        "rows      10,000 per epoch, from 3 unprepared files; the total number is unknown",
    ]
    assert lines(facts)[1] == "labels    2; the number of rows per label is unknown"


def test_truncated_rows_a_test_split_and_many_labels() -> None:
    names = [f"topic {n}" for n in range(90)]
    facts = replace(
        FACTS,
        truncated=0.034,
        rows=800,
        splits={"train": 800, "validation": 100, "test": 100},
        origins={"validation": "0.1 of the rows, by author", "test": "test.csv"},
        labels=Labels("corpus.label=topics", names, range(1, 91), kind="labels"),
    )
    shown = lines(facts)
    assert shown[0] == (
        "rows      train 800 (5,747 tokens), validation 100 (0.1 of the rows, by author),"
    )
    assert shown[1] == "          test 100 (test.csv)"
    assert shown[2].endswith("35 (longest); 3.4% truncated")
    assert shown[3] == "          at 400"
    assert shown[4] == "labels    90: largest topic 89 90, topic 88 89; smallest topic 0 1"


def test_names_that_look_like_numbers_have_quotes() -> None:
    facts = replace(FACTS, labels=Labels("corpus.label=stars", ["1", "5", "no"], [30, 50, 20]))
    assert "labels    3: '5' 50, '1' 30, no 20" in lines(facts)


def test_a_resumed_run_says_from_where_and_what_is_left() -> None:
    facts = replace(
        FACTS, step=52, checkpoint="runs/tickets/checkpoints/step-00000052",
        schedule=replace(FACTS.schedule, exact=False),
    )  # fmt: skip
    assert lines(facts)[-2:] == [
        "left      about 498 updates; 52 are done",
        "run       resuming from runs/tickets/checkpoints/step-00000052",
    ]


def test_every_line_fits_80_columns() -> None:
    labels = Labels("corpus.label=queue", [f"{n} " + "very long " * 20 for n in range(4)], [9] * 4)
    facts = replace(
        FACTS, labels=labels, truncated=0.5, model="translation, " + "lstm " * 20,
        schedule=replace(FACTS.schedule, max_steps=200, exact=False),
    )  # fmt: skip
    assert max(map(len, lines(facts))) <= 80


@pytest.mark.parametrize(
    "changes, total, evaluations, warmup_updates",
    [
        ({}, 550, 50, 28),
        ({"max_steps": 25}, 25, 3, 28),
        ({"max_steps": 22}, 22, 2, 28),
        ({"evaluate_every": 5, "epochs": 2}, 22, 6, 28),  # 5, 10, 11, 15, 20, 22
        ({"spanned_epochs": 10}, 550, 50, 6),
    ],
)
def test_numbers_of_updates_and_evaluations(
    changes: dict[str, Any], total: int, evaluations: int, warmup_updates: int
) -> None:
    schedule = replace(FACTS.schedule, **changes)
    found = schedule.total, schedule.evaluations, schedule.warmup_updates
    assert found == (total, evaluations, warmup_updates)


SMALL = replace(FACTS, schedule=replace(FACTS.schedule, epochs=2, spanned_epochs=2))
WARNINGS = {
    "few updates": (
        SMALL,
        ("train.epochs=2: only 22 updates to learn from (fewer than 200); raise "
        "train.epochs, or lower stream.token_budget"),
    ),
    "few updates by max_steps": (
        replace(FACTS, schedule=replace(FACTS.schedule, max_steps=100)),
        ("train.max_steps=100: only 100 updates to learn from (fewer than 200); raise "
        "train.max_steps"),
    ),
    "few updates of a language model": (
        replace(SMALL, budget=0, batch_rows=32),
        ("train.epochs=2: only 22 updates to learn from (fewer than 200); raise "
        "train.epochs, or lower stream.batch_rows"),
    ),
    "one update per epoch": (
        replace(
            FACTS, budget=16384,
            schedule=replace(FACTS.schedule, per_epoch=1, epochs=300, spanned_epochs=300),
        ),
        ("stream.token_budget=16384: is larger than an epoch, so each epoch is only one update; "
        "lower stream.token_budget"),
    ),
    "warm-up": (
        replace(FACTS, schedule=replace(FACTS.schedule, warmup=0.5, max_steps=250)),
        ("train.warmup=0.5: the warm-up of 275 updates is longer than the run of 250, which never "
        "reaches train.lr; lower train.warmup"),
    ),
    "one class": (
        replace(FACTS, labels=Labels("corpus.label=queue", ["a", "b"], [300, 0])),
        ("corpus.label=queue: all rows have the label 'a', so there is nothing to learn; name "
        "another column, or add rows with other labels"),
    ),
    "one tag": (
        replace(FACTS, labels=Labels("corpus.label=tag", ["O"], [300], kind="tags")),
        ("corpus.label=tag: all words have the label 'O', so there is nothing to learn; name "
        "another column, or add words with other labels"),
    ),
    "a majority": (
        replace(FACTS, labels=Labels("corpus.label=queue", ["a", "b"], [289, 11])),
        ("corpus.label=queue: 96.3% of the rows have the label 'a', so a model that always "
        "predicts it has this accuracy; compare checkpoints by macro_f1 "
        "(train.best_metric=macro_f1), and set task.class_weights=balanced"),
    ),
    "a majority, weighted": (
        replace(FACTS, labels=Labels("corpus.label=q", ["a", "b"], [289, 11], weighted=True)),
        ("corpus.label=q: 96.3% of the rows have the label 'a', so a model that always predicts "
        "it has this accuracy; compare checkpoints by macro_f1 (train.best_metric=macro_f1)"),
    ),
    "one number": (
        replace(FACTS, labels=None, numbers=(5.0, 0.0)),
        ("corpus.label: all rows have the number 5, so there is nothing to learn; name another "
        "column"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WARNINGS)
def test_each_warning_is_one_line_with_the_key_to_turn(name: str) -> None:
    facts, expected = WARNINGS[name]
    assert list(warnings(facts)) == [expected]


@pytest.mark.parametrize(
    "labels",
    [
        Labels("corpus.label=q", ["a", "b"], [95, 5]),
        Labels("corpus.label=q", ["a"], [95], kind="labels"),
        Labels("corpus.label=q", ["O", "B-PER"], [990, 10], kind="tags"),  # O is usually frequent
        Labels("corpus.label=q", ["a", "b"]),  # unknown counts
    ],
)
def test_no_warning_about_other_distributions(labels: Labels) -> None:
    assert not list(warnings(replace(FACTS, labels=labels)))


def test_a_number_and_its_unit_are_on_one_line() -> None:
    for width in range(1, 60):
        facts = replace(FACTS, model="x" * width)
        screen = lines(facts)
        assert any("2.9 MB" in line for line in screen), screen
        assert not any(line.strip() == "MB" for line in screen)
