"""Settings that are valid alone but do not work together: each conflict is one line, which has a
key, its value, what is wrong and what to do."""

import re
from pathlib import Path

import pytest

from pipeline import config
from pipeline.errors import ConfigError

LINE = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+=.*: [^;]+; [^;]+")
"""<key>=<value>: <what is wrong>; <what to do>"""

TASKS = {
    "classification": [],
    "multilabel": [],
    "tagging": [],
    "language_modeling": [
        "stream.batch_rows=32", "corpus.overflow=split", "corpus.drop_duplicates=false",
        "model.bidirectional=false",
    ],
    "translation": ["corpus.overflow=drop", "corpus.lowercase=false"],
    "captioning": ["corpus.features=8"],
    "images": ["corpus.image_size=[28, 28]"],
}  # fmt: skip
"""Settings of a config for each task, without a conflict."""
UNPREPARED = [
    "stream.unprepared_rows=99", "stream.batch_rows=8", "corpus.tokenizer=a",
    "corpus.label_names=[a, b]", "corpus.validation=a.tar",
]  # fmt: skip
PREPARE_FIRST = "or set stream.unprepared_rows=0 to prepare first"

CELLS = {
    "goru.hidden=100": "set model.hidden=64 or 128, or an even model.goru_capacity",
    "goru.hidden=1": "model.hidden=1: goru rotates pairs of units; set 2 or more",
    "goru.goru_capacity=3": "model.goru_capacity=3: must be even: rotation layers come in pairs",
    "lstm.goru_capacity=4": "only to model.cell=goru and would be ignored with model.cell=lstm",
    "lstm.grid_tied=true": "model.grid_tied=true: applies only to model.cell=grid_lstm and would",
    "gru.activation=relu": "model.activation=relu: applies only to model.cell=elman and would be",
    "gru.forget_bias=2.0": "applies only to model.cell=grid_lstm or lstm and would be ignored with",
    "grid_lstm.reverse=true": "model.reverse=true: does not apply to grid_lstm; remove it or",
    "elman.recurrent_init=identity": "with model.activation=tanh; set model.activation=relu",
    "grid_lstm.skip=residual": "model.skip=residual: grid_lstm already has a memory along depth",
}
OTHER_TASKS = {
    "model.permute=1": "task.name=images and would be ignored with task.name=classification",
    "model.crf=false": "model.crf=false: applies only to task.name=tagging and would be ignored",
    "task.seed=1": "remove it or change task.name",
    "corpus.format=captions": "corpus.format=captions: applies only to task.name=captioning",
}
CONFLICTS: dict[str, tuple[str, list[str], str]] = {
    "rows that do not divide": (
        "classification",
        ["stream.batch_rows=6", "stream.accumulation_steps=4"],
        "stream.batch_rows=6: is not a multiple of stream.accumulation_steps=4",
    ),
    "token budget below a row": (
        "classification",
        ["stream.token_budget=399"],
        "leaves 399 tokens per batch with stream.accumulation_steps=1, fewer than the longest row",
    ),
    "token budget shared by batches": (
        "classification",
        ["stream.accumulation_steps=128", "stream.token_budget=16384"],
        "stream.token_budget=16384: leaves 128 tokens per batch",
    ),
    "truncation side of split texts": (
        "classification",
        ["corpus.overflow=split", "corpus.truncation_side=both"],
        "applies only to truncated texts and would be ignored with corpus.overflow=split; set",
    ),
    "truncation side of dropped texts": (
        "classification",
        ["corpus.overflow=drop", "corpus.truncation_side=end"],
        "ignored with corpus.overflow=drop; set corpus.truncation_side=start or",
    ),
    "text is label": (
        "tagging",
        ["corpus.label=text"],
        "corpus.label=text: is the same column as corpus.text",
    ),
    "image is label": (
        "images",
        ["corpus.label=image"],
        "corpus.label=image: is the same column as corpus.image",
    ),
    "format of parallel files": (
        "classification",
        ["corpus.format=conll", "corpus.input={text: a, label: b}"],
        "corpus.format=conll: corpus.input lists parallel files",
    ),
    "repeated label": (
        "classification",
        ["corpus.label_names=[a, 'no', a]"],
        "corpus.label_names=[a, 'no', a]: has the same label more than once",
    ),
    "independent directions, but only one": (
        "classification",
        ["model.independent_directions=true", "model.bidirectional=false"],
        "model.independent_directions=true: needs two directions",
    ),
    "reverse, but both directions": (
        "classification",
        ["model.reverse=true"],
        "model.reverse=true: applies to a single direction",
    ),
    "grid without time": (
        "classification",
        ["model.cell=grid_lstm", "model.grid_dimensions=1", "model.zoneout=0.1"],
        "model.zoneout=0.1: applies to states along time",
    ),
    "grid of images for texts": (
        "classification",
        ["model.cell=grid_lstm", "model.grid_dimensions=3"],
        "model.grid_dimensions=3: applies only to images, but the task is classification",
    ),
    "layer decay of another task": (
        "translation",
        ["train.layer_decay=0.5"],
        "applies only to models of one embedding and one encoder, but the task is translation",
    ),
    "layers that share weights": (
        "classification",
        ["train.unfreeze=0.5", "model.cell=grid_lstm"],
        "train.unfreeze=0.5: treats each layer differently",
    ),
    "two embeddings": (
        "tagging",
        ["model.word_vectors=glove.txt", "model.init_from=runs/a"],
        "model.word_vectors=glove.txt: model.init_from already provides the embedding",
    ),
    "a time of which groups": (
        "classification",
        ["corpus.group=author", "corpus.time=date"],
        "corpus.time=date: cannot be combined with corpus.group: both decide",
    ),
    "labels of tags": (
        "tagging",
        ["corpus.stratify=true"],
        "corpus.stratify=true: needs one label per row, which task.name=tagging does not have",
    ),
    "weights of one text": (
        "language_modeling",
        ["corpus.weight=w"],
        "corpus.weight=w: task.name=language_modeling reads all rows as one text",
    ),
    "a test split of unprepared rows": (
        "classification",
        [*UNPREPARED, "corpus.test=b.tar"],
        "corpus.test=b.tar: unprepared rows are read as they are; remove it, or set stream.unprep",
    ),
    "lanes": (
        "language_modeling",
        ["stream.batch_rows=0"],
        "stream.batch_rows=0: language modeling divides the text into this number of parallel",
    ),
    "accumulation of segments": (
        "language_modeling",
        ["stream.accumulation_steps=2"],
        "stream.accumulation_steps=2: language modeling keeps the recurrent state",
    ),
    "mixed texts": (
        "language_modeling",
        ["stream.mix={a: 2}"],
        "stream.mix={a: 2.0}: language modeling reads one text after the other",
    ),
    "repeated text": (
        "language_modeling",
        ["stream.repeat=3"],
        "stream.repeat=3.0: an epoch of language modeling is a single pass",
    ),
    "truncated text": (
        "language_modeling",
        ["corpus.overflow=truncate"],
        "corpus.overflow=truncate: language modeling would lose text",
    ),
    "text without duplicates": (
        "language_modeling",
        ["corpus.drop_duplicates=true"],
        "corpus.drop_duplicates=true: would remove repeated rows",
    ),
    "no room for the end token": (
        "language_modeling",
        ["corpus.max_tokens=65535"],
        "corpus.max_tokens=65535: leaves no room for the end-of-text token",
    ),
    "model that sees the next token": (
        "language_modeling",
        ["model.bidirectional=true"],
        "model.bidirectional=true: would show the model the token that it predicts",
    ),
    "language model of a grid": (
        "language_modeling",
        ["model.cell=grid_lstm", "model.bidirectional=false"],
        "model.cell=grid_lstm: keeps no recurrent state between updates",
    ),
    "adaptive softmax over bytes": (
        "language_modeling",
        ["model.softmax=adaptive", "corpus.level=byte"],
        "model.softmax=adaptive: treats tokens with high ids as rare",
    ),
    "adaptive softmax of a narrow model": (
        "language_modeling",
        ["model.softmax=adaptive", "model.hidden=63"],
        "model.hidden=63: adaptive softmax scores rare tokens in a sixteenth",
    ),
    "adaptive softmax with tied embeddings": (
        "language_modeling",
        ["model.softmax=adaptive", "model.tie_embeddings=true"],
        "model.tie_embeddings=true: adaptive softmax has its own output weights",
    ),
    "target is text": (
        "translation",
        ["corpus.target=text"],
        "corpus.target=text: is the same column as corpus.text",
    ),
    "token budget below a target": (
        "translation",
        ["corpus.max_target_tokens=500", "stream.token_budget=499"],
        "corpus.max_target_tokens=500: is more than the 499 tokens per batch",
    ),
    "one vocabulary per language, but one tokenizer": (
        "translation",
        ["corpus.shared_vocab=false", "corpus.tokenizer=t.json"],
        "corpus.shared_vocab=false: means one vocabulary per language, but corpus.tokenizer=t.json",
    ),
    "convolutions of features": (
        "captioning",
        ["model.convolutions=[8]"],
        "model.convolutions=[8]: applies to pixels, but images are features (corpus.features=8)",
    ),
    "channels of features": (
        "captioning",
        ["corpus.channels=3"],
        "corpus.channels=3: applies to pixels, but images are features",
    ),
}


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    """A config file with nothing but an input."""
    path = tmp_path / "minimal.yaml"
    path.write_text("corpus: {input: a.csv}")
    return path


def conflict(path: Path, overrides: list[str]) -> str:
    """Return the only error of a config."""
    with pytest.raises(ConfigError) as caught:
        config.load(path, overrides)
    (line,) = caught.value.lines
    assert LINE.fullmatch(line), line
    return line


@pytest.mark.parametrize("task", TASKS)
def test_configs_of_each_task_have_no_conflict(task: str, minimal: Path) -> None:
    config.load(minimal, [f"task.name={task}", *TASKS[task]])


@pytest.mark.parametrize("task, overrides, expected", CONFLICTS.values(), ids=CONFLICTS)
def test_each_conflict_is_one_line(
    task: str, overrides: list[str], expected: str, minimal: Path
) -> None:
    assert expected in conflict(minimal, [f"task.name={task}", *TASKS[task], *overrides])


@pytest.mark.parametrize("setting, expected", CELLS.items(), ids=CELLS)
def test_settings_of_another_cell_are_one_line(setting: str, expected: str, minimal: Path) -> None:
    cell, _, override = setting.partition(".")
    overrides = [f"model.cell={cell}", f"model.{override}", "model.bidirectional=false"]
    assert expected in conflict(minimal, overrides)


@pytest.mark.parametrize("override, expected", OTHER_TASKS.items(), ids=OTHER_TASKS)
def test_settings_of_another_task_are_one_line(override: str, expected: str, minimal: Path) -> None:
    assert expected in conflict(minimal, [override])


def test_goru_also_limits_the_layer_over_characters(minimal: Path) -> None:
    goru = ["task.name=tagging", "model.cell=goru", "model.hidden=8"]
    line = conflict(minimal, [*goru, "model.characters=6"])
    assert re.search(r"characters=6: .* set model\.characters=4 or 8, or an", line)
    assert config.load(minimal, [*goru, "model.characters=0"]).model.model_dump()["characters"] == 0


@pytest.mark.parametrize("name", ["input", "validation"])
def test_parallel_files_must_be_prepared(name: str, minimal: Path) -> None:
    config.load(minimal, UNPREPARED)
    line = conflict(minimal, [*UNPREPARED, f"corpus.{name}={{text: a.gz}}"])
    assert line.startswith(f"corpus.{name}={{text: [a.gz]}}: parallel files cannot be read without")
    assert line.endswith(PREPARE_FIRST)


def test_only_text_classification_trains_on_unprepared_rows(minimal: Path) -> None:
    line = conflict(minimal, [*UNPREPARED, "task.name=multilabel"])
    assert line.startswith("stream.unprepared_rows=99: only text classification can train")
