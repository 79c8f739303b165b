"""The examples of docs/extending.md, exactly as the page prints them."""

import csv
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline import components
from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.models.encoder import encoder
from pipeline.models.layers.recurrent import Layer
from pipeline.models.settings import ModelSettings
from pipeline.training.settings import train_settings
from tests.helpers.campaign import cases
from tests.helpers.corpora import CASES, small_run_overrides
from tests.helpers.files import read, row_dicts
from tests.helpers.modules import modules_of_type
from tests.helpers.processes import (
    REPOSITORY,
    call,
    finish,
    metrics,
    run,
    start,
    weights,
)
from tests.helpers.settings import model_settings

PAGE = (REPOSITORY / "docs" / "extending.md").read_text()
EXAMPLES = dict(re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.M | re.S))

COMPONENTS = (
    "Dense", "Encoder", "Pooling", "Head", "Schedule", "Algorithm", "RowTask", "Classification",
    "Metric", "TextFormat", "Callback", "Tracker",
)  # fmt: skip
BASES = rf"^class (\w+)\((?:{'|'.join(COMPONENTS)})\)"
"""A component of an example; other classes of its file have other bases."""


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], str]:
    """A function that writes an example's file and returns the reference to its class."""

    def write(name: str) -> str:
        path = tmp_path / name
        path.write_text(EXAMPLES[name])
        (class_name,) = re.findall(BASES, EXAMPLES[name], re.M)
        return f"{path}:{class_name}"

    return write


def mgu(cell: Any, x: Tensor) -> Tensor:
    """Compute the states of one row x [T, I] by the equations on the page."""
    units = cell.units
    w_f, w_n = cell.input.split(units)
    u_f, u_n = cell.recurrent_weight().split(units)
    b_f, b_n = cell.bias.split(units)
    h, states = x.new_zeros(units), []
    for token in x:
        f = torch.sigmoid(w_f @ token + u_f @ h + b_f)
        n = torch.tanh(w_n @ token + f * (u_n @ h) + b_n)
        h = (1 - f) * h + f * n
        states.append(h)
    return torch.stack(states)


def test_example_cell_equals_its_equations(example: Callable[[str], str]) -> None:
    """Two bidirectional layers, rows of different lengths, garbage in the padding."""
    torch.manual_seed(0)
    settings = model_settings(cell=example("mgu.py"), hidden=5, layers=2, gate_bias=1.0)
    net = encoder(3, settings).double()
    layers = modules_of_type(net, Layer)
    assert layers[0].cells[0].bias[:5].tolist() == [1.0] * 5
    x, lengths = torch.randn(7, 2, 3, dtype=torch.float64), torch.tensor([7, 4])
    x[4:, 1] = 1e3  # padding
    y, _ = net(x, lengths, lengths)
    for row, length in enumerate(lengths):
        states = x[:length, row]
        for layer in layers:
            forward, backward = layer.cells
            both = [mgu(forward, states), mgu(backward, states.flip(0)).flip(0)]
            states = torch.cat(both, -1)
        assert torch.allclose(y[:length, row], states, atol=1e-12)
    assert (y[4:, 1] == 0).all()


def test_example_schedule_has_stairs(example: Callable[[str], str]) -> None:
    reference = example("staircase.py")
    settings = train_settings(schedule=reference, stairs=3, stair_factor=0.1)
    schedule = components.load("schedule", reference)(settings)
    factors = [schedule.factor(progress) for progress in (0, 0.3, 0.34, 0.99, 1.0)]
    assert factors == pytest.approx([1, 1, 0.1, 0.01, 0.01])


def test_keys_of_an_example_belong_to_its_section(example: Callable[[str], str]) -> None:
    values = {"model": {"cell": example("mgu.py")}}
    section = components.compose({"model": ModelSettings}, values)["model"]
    assert "gate_bias" in section.model_fields
    assert "forget_bias" not in section.model_fields


def write_fasttext(reviews: Path, path: Path) -> Path:
    """Write the reviews of a CSV file in fastText's format, and return the path."""
    with reviews.open(newline="") as file, path.open("w") as lines:
        for number, row in enumerate(csv.DictReader(file)):
            words = row["text"].split()
            words.insert(number % (len(words) + 1), f"__label__{row['label']}")
            lines.write(" ".join(words) + "\n")
    return path


def test_example_reader_agrees_with_the_built_in_one(
    example: Callable[[str], str], corpus: Path, tmp_path: Path
) -> None:
    path = write_fasttext(corpus / "reviews.csv", tmp_path / "reviews.txt")
    with (corpus / "reviews.csv").open(newline="") as file:
        expected = [{"text": row["text"], "label": row["label"]} for row in csv.DictReader(file)]
    for file_format in (example("fasttext_lines.py"), "fasttext"):
        rows = read(path, ["text", "label"], file_format=file_format)
        assert [row.values for row in rows] == expected


def check_target(killed: Path, whole: Path) -> None:
    """Assert that the third evaluation has ended both runs."""
    for folder in (killed, whole):
        reached = [line["target/reached"] for line in metrics(folder) if "target/reached" in line]
        assert reached == [1, 2, 3]
        assert json.loads((folder / "summary.json").read_text())["step"] == 12


def check_table(killed: Path, whole: Path) -> None:
    """Assert that the files have each point of metrics.jsonl once, and the runs the same losses."""
    losses = []
    for folder in (killed, whole):
        with (folder / "points.csv").open() as file:
            rows = [(int(step), name, float(value)) for step, name, value in csv.reader(file)]
        names = {(step, name) for step, name, _ in rows}
        lines = [dict(line) for line in metrics(folder)]
        assert len(names) == len(rows)
        assert names == {(line["step"], name) for line in lines for name in line} - {
            (line["step"], name) for line in lines for name in ("step", "time")
        }
        losses.append([row for row in rows if row[1] == "train/loss"])
    assert losses[0] == losses[1]


@dataclass(frozen=True)
class Campaign:
    """A run with several examples at once."""

    corpus: str
    """The small corpus, by its task."""
    examples: dict[str, str]
    """Keys of the config, and the file of the example that each chooses."""
    overrides: tuple[str, ...]
    line: str
    """Input to predict."""
    predicted: str
    """Key of the prediction."""
    replaces: tuple[str, ...] = ()
    """Starts of the corpus' overrides that are left out."""
    checks: tuple[Callable[[Path, Path], None], ...] = ()
    """What else holds of the killed run and of the other one."""


LISTS = ("task.metrics", "train.callbacks", "track.trackers")
"""Keys that choose several components."""


CAMPAIGNS = {
    "model and training": Campaign(
        "classification",
        {
            "model.cell": "mgu.py", "model.encoder": "convolution.py",
            "train.optimizer": "lion.py", "train.schedule": "staircase.py",
            "task.metrics": "top_two.py", "corpus.format": "fasttext_lines.py",
        },
        ("model.gate_bias=1", "train.stairs=3", "train.lr=1e-3", "train.best_metric=TopTwo",
            "corpus.workers=2", "corpus.chunk_mb=0.01"),
        "a superb film",
        "label",
    ),
    "regression": Campaign(
        "regression",
        {
            "task.name": "ratings.py", "train.callbacks": "target.py",
            "track.trackers": "table.py",
        },
        (
            "task.scale=100", "train.target_metric=pearson_corrcoef", "train.target=-2",
            "train.target_times=3", "train.evaluate_every=4", "track.enabled=true",
            "track.table_name=points.csv", "train.log_every=2",
        ),
        "a superb film",
        "rating",
        checks=(check_target, check_table),
    ),
    "two texts": Campaign(
        "entailment",
        {"task.name": "pairs.py", "model.pooling": "mixed.py", "model.head": "tempered.py"},
        ("model.temperature=2",),
        "a red film\tred",
        "label",
        ("corpus.text_pair",),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("name", cases(CAMPAIGNS, ["model and training"]))
def test_examples_prepare_train_resume_evaluate_and_predict(
    name: str, example: Callable[[str], str], tmp_path: Path
) -> None:
    campaign = CAMPAIGNS[name]
    case = CASES[campaign.corpus]
    data = tmp_path / case.file
    case.write(data, case.rows)
    if "corpus.format" in campaign.examples:
        data = write_fasttext(data, tmp_path / "reviews.txt")
    chosen = [
        f"{key}=[{example(file)}]" if key in LISTS else f"{key}={example(file)}"
        for key, file in campaign.examples.items()
    ]
    small = small_run_overrides(tmp_path, campaign.corpus)
    settings = [
        *(o for o in small if not o.startswith((*campaign.replaces, *campaign.examples))),
        *chosen, f"corpus.input={data}", "train.checkpoint_every=5", "train.log_every=1",
        "train.max_steps=14", *campaign.overrides,
    ]  # fmt: skip
    command = [sys.executable, "-m", "pipeline.cli"]
    status, _, err = call("prepare", *settings)
    assert status == 0, err
    status, _, err = run(*settings, f"run.dir={tmp_path}/whole", nproc=2)
    assert status == 0, err
    killed = [*settings, f"run.dir={tmp_path}/killed"]
    status, _, err = run(*killed, nproc=2, crash=("update", 8), restarts=1)
    assert status == 0, err
    assert "resuming from" in err
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    for check in campaign.checks:
        check(tmp_path / "killed", tmp_path / "whole")
    for file in campaign.examples.values():
        (tmp_path / file).unlink()  # the run has a copy
    run_option = ["--run", str(tmp_path / "killed")]
    status, out, err = call("evaluate", *run_option, "--input", str(data))
    assert status == 0, err
    assert json.loads(out.splitlines()[-1])["examples"] == case.rows
    texts = tmp_path / "texts.txt"
    texts.write_text(f"{campaign.line}\n")
    status, out, err = finish(start([*command, "predict", *run_option, "--input", str(texts)]))
    assert status == 0, err
    assert campaign.predicted in json.loads(out)


@pytest.mark.slow
def test_example_field_kind_is_stored_trained_on_and_predicted(
    example: Callable[[str], str], tmp_path: Path
) -> None:
    case, folder = CASES["classification"], tmp_path / "run"
    case.write(tmp_path / case.file, case.rows)
    status, _, err = call(
        "train", *small_run_overrides(tmp_path), f"task.name={example('sentences.py')}",
        "corpus.stops=ae", f"run.dir={folder}", "train.max_steps=3",
    )  # fmt: skip
    assert status == 0, err
    rows = row_dicts(open_dataset(tmp_path / "shards"), "validation")
    assert {row["sentences"] for row in rows} > {1, 2, 3}
    status, out, err = call("predict", "--run", str(folder), text="a superb film\n")
    assert status == 0, err
    assert json.loads(out)["label"] in ("negative", "positive")
