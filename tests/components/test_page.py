"""The examples of docs/extending.md, exactly as the page prints them."""

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline import components
from pipeline.models.encoder import encoder
from pipeline.models.layers.recurrent import Layer
from pipeline.models.settings import ModelSettings
from pipeline.train.settings import train_settings
from tests.helpers.corpora import small_run_overrides
from tests.helpers.modules import modules_of_type
from tests.helpers.processes import (
    REPOSITORY,
    finish,
    metrics,
    run,
    start,
    was_killed,
    weights,
)
from tests.helpers.settings import model_settings

PAGE = (REPOSITORY / "docs" / "extending.md").read_text()
EXAMPLES = dict(re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.M | re.S))


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], str]:
    """A function that writes an example's file and returns the reference to its class."""

    def write(name: str) -> str:
        path = tmp_path / name
        path.write_text(EXAMPLES[name])
        pattern = r"^class (\w+)\((?:Dense|Schedule|Algorithm|Callback|Tracker)\)"
        (class_name,) = re.findall(pattern, EXAMPLES[name], re.M)
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
    torch.manual_seed(0)
    settings = model_settings(cell=example("mgu.py"), hidden=5, layers=1, gate_bias=1.0)
    net = encoder(3, settings).double()
    (layer,) = modules_of_type(net, Layer)
    forward, backward = layer.cells
    assert forward.bias[:5].tolist() == [1.0] * 5
    x, lengths = torch.randn(7, 2, 3, dtype=torch.float64), torch.tensor([7, 4])
    x[4:, 1] = 1e3  # padding
    y, _ = net(x, lengths, lengths)
    for row, length in enumerate(lengths):
        own = x[:length, row]
        expected = torch.cat([mgu(forward, own), mgu(backward, own.flip(0)).flip(0)], -1)
        assert torch.allclose(y[:length, row], expected, atol=1e-12)
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


CHECKS = {"target.py": check_target, "table.py": check_table}
"""What else holds after the runs of an example: the killed one, and the other."""


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(
    "name, key, overrides",
    [
        ("mgu.py", "model.cell", ["model.gate_bias=1"]),
        ("staircase.py", "train.schedule", ["train.stairs=3"]),
        ("lion.py", "train.optimizer", ["train.lr=1e-3"]),
        (
            "target.py",
            "train.callbacks",
            ["train.target=0", "train.target_times=3", "train.evaluate_every=4"],
        ),
        (
            "table.py",
            "track.trackers",
            ["track.enabled=true", "track.table_name=points.csv", "train.log_every=2"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_example_trains_resumes_evaluates_and_predicts(
    name: str,
    key: str,
    overrides: list[str],
    example: Callable[[str], str],
    corpus: Path,
    tmp_path: Path,
) -> None:
    chosen = f"[{example(name)}]" if key in ("train.callbacks", "track.trackers") else example(name)
    settings = [
        *small_run_overrides(corpus), f"{key}={chosen}",
        "train.checkpoint_every=5", "train.log_every=1", "train.max_steps=14", *overrides,
    ]  # fmt: skip
    status, _, err = run(*settings, f"run.dir={tmp_path}/whole", nproc=2)
    assert status == 0, err
    killed = [*settings, f"run.dir={tmp_path}/killed"]
    status, _, err = run(*killed, nproc=2, crash=("update", 8))
    assert was_killed(status, err), err
    status, _, err = run(*killed, nproc=2)
    assert status == 0, err
    assert "resuming from" in err
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    CHECKS.get(name, lambda *folders: None)(tmp_path / "killed", tmp_path / "whole")
    (tmp_path / name).unlink()  # the run has a copy
    command = [sys.executable, "-m", "pipeline.cli"]
    run_option = ["--run", str(tmp_path / "killed")]
    data = ["--input", str(corpus / "reviews.csv")]
    status, out, err = finish(start([*command, "evaluate", *run_option, *data]))
    assert status == 0, err
    assert json.loads(out.splitlines()[-1])["examples"] == 1000
    texts = tmp_path / "texts.txt"
    texts.write_text("a superb film\n")
    status, out, err = finish(start([*command, "predict", *run_option, "--input", str(texts)]))
    assert status == 0, err
    assert json.loads(out)["label"] in ("negative", "positive")
