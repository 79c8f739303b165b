"""The settings that differ from defaults."""

import pytest

from pipeline import config
from pipeline.config import changed_settings


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["corpus.input=a.csv"], {"corpus.input": None}),
        (  # values that equal the default do not differ
            ["corpus.input=a.csv", "model.hidden=128", "train.lr=3e-3", "run.name=x", "run.dir=y",
             "track.enabled=false", "corpus.shards=z"],
            {"corpus.input": None, "train.lr": 1e-3},
        ),
        (  # the defaults of the task count
            ["corpus.input=a.txt", "task.name=language_modeling"],
            {"task.name": "classification", "corpus.input": None},
        ),
        (
            ["corpus.input=a.txt", "task.name=language_modeling", "stream.batch_rows=8"],
            {"task.name": "classification", "corpus.input": None, "stream.batch_rows": 32},
        ),
        (  # keys of components, and lists
            ["corpus.input=a.csv", "model.cell=lstm", "train.optimizer=sgd", "train.momentum=0.5",
             "task.metrics=[auroc]"],
            {"corpus.input": None, "train.optimizer": "adamw", "train.momentum": 0.9,
             "task.metrics": []},
        ),
    ],
)  # fmt: skip
def test_defaults_of_the_settings_that_differ(
    overrides: list[str], expected: dict[str, object]
) -> None:
    assert changed_settings(config.load(None, overrides)) == expected


def test_a_tokenizer_from_another_run_is_a_default(tmp_path) -> None:
    loaded = config.load(None, ["corpus.input=a.csv", f"model.init_from={tmp_path}"])
    assert changed_settings(loaded) == {"corpus.input": None, "model.init_from": ""}


def test_the_keys_are_in_the_order_of_the_params() -> None:
    loaded = config.load(None, [])
    changed = list(changed_settings(loaded))
    assert "train.epochs" in changed
    assert changed == [key for key in config.flatten(loaded) if key in changed]


def test_values_chosen_by_the_size_of_the_corpus_do_not_differ() -> None:
    chosen = {"train.lr": 3e-3, "train.epochs": 12}
    loaded = config.load(None, ["corpus.input=a.csv", "train.lr=3e-3", "train.epochs=7"])
    assert changed_settings(loaded, chosen) == {"corpus.input": None, "train.epochs": 12}
