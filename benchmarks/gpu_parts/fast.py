"""Part *fast*: speed, memory and power of training on a GPU, and the kernels that run."""

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine as machines
from benchmarks import made, tasks
from benchmarks.gpu_parts import kernels, layers
from benchmarks.gpu_parts.power import Power
from benchmarks.gpu_parts.steps import Machine, Step
from benchmarks.gpu_parts.timing import median_time
from pipeline import config
from pipeline.config import Config
from pipeline.corpus.dataset.manifest import Manifest, open_dataset
from pipeline.models.layers.recurrent import Layer
from pipeline.run import checkpoint
from pipeline.tasks import get
from tests.helpers.processes import REPOSITORY


def product_rates(machine: Machine) -> dict[str, Any]:
    """Matmul rate in FLOP/s, the peak that all speeds are compared with."""
    rates = {}
    for name, dtype in machines.DTYPES.items():
        if machine.is_gpu or name != "fp16":
            rates[name] = machines.product_rate(dtype, on=machine.device)
    return {"FLOP/s": rates}


def layer_speeds(machine: Machine) -> dict[str, Any]:
    """Million tokens/s of two bidirectional layers, and their share of the matmul rate."""
    shapes = itertools.product(
        ("lstm", "gru", "goru"),
        machine.choose(("bf16", "fp16"), ("bf16",)),
        machine.choose((128, 256, 1024), (32,)),
        machine.choose((64, 256), (4,)),
    )
    tokens = machine.choose(200, 8)
    for cell, dtype, hidden, rows in shapes:
        rate = machines.product_rate(layers.DTYPES[dtype], 0.02, machine.device)
        operations = layers.operations_per_token(cell, hidden)
        ways = layers.build_implementations(cell, layers.DTYPES[dtype], hidden, tokens, rows)
        for way, run in ways.items():
            is_slow = way == "loop" or (way == "triton" and hidden == 1024)
            if (way == "triton" and not machine.is_gpu) or (is_slow and rows > 64):
                continue
            key = f"{cell} {dtype} H={hidden} B={rows} {way}"
            try:
                repeats = 3 if is_slow else 7
                speed = tokens * rows / median_time(run, machine.device, repeats)
                machine.keep(key, f"{speed / 1e6:.3g} ({operations * speed / rate:.1%})")
            except Exception as error:  # keep measuring the other implementations
                machine.keep(key, f"failed: {(str(error).splitlines() or [repr(error)])[0]}")
    return machine.kept


def default_model(machine: Machine) -> dict[str, Any]:
    """Default model, text lengths of IMDB (synthetic corpus)."""
    return _train(machine, "imdb", [], steps=machine.choose(100, 5))


def gnmt(machine: Machine) -> dict[str, Any]:
    """GNMT's shape (synthetic corpus); NVIDIA, one A100: 140,909 tokens/s."""
    small = ["model.hidden=16", "model.embedding=16", "corpus.vocab_size=600"]
    overrides = machine.choose(["stream.token_budget=65536"], [*small, "stream.token_budget=2048"])
    return _train(machine, "gnmt", overrides, steps=machine.choose(60, 5))


def wide_lstm(machine: Machine) -> dict[str, Any]:
    """LSTM of 4096 units over characters (synthetic corpus); eight V100s: 630,000 characters/s."""
    hidden = machine.choose(4096, 16)
    overrides = [
        "model.softmax=full", "model.layers=1", f"model.hidden={hidden}", "model.embedding=64",
        "stream.batch_rows=128", "stream.bptt_length=128", "corpus.vocab_size=300",
    ]  # fmt: skip
    if not machine.is_gpu:
        overrides += ["stream.batch_rows=4", "stream.bptt_length=16"]
    return _train(machine, "wikitext2", overrides, steps=machine.choose(60, 5))


def _train(machine: Machine, name: str, overrides: list[str], *, steps: int) -> dict[str, Any]:
    """Train a config on a made corpus; return speed, waiting time, memory and power."""
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        path = REPOSITORY / "configs" / f"{name}.yaml"
        changes = [
            "track.enabled=false",
            f"train.max_steps={steps}", f"train.log_every={max(steps // 5, 1)}",
            f"run.dir={folder}/run", "train.epochs=99", *overrides,
        ]  # fmt: skip
        settings = config.load(path, changes)
        rows = tasks.rows_needed(settings, tasks.PLANS[name].shape, steps)
        changes += made.write(settings, tasks.PLANS[name].shape, folder / "made", rows)
        arguments = ["--config", str(path), *changes]
        _run("launch/prepare.py", *arguments)  # not part of the power
        with Power(machine) as power:
            _run("launch/train.py", *arguments)
        lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
        values = [v for line in lines if "perf/tokens_per_s" in (v := json.loads(line))]
        settings = config.load(path, [*changes, "model.native=false"])
        precision = checkpoint.precision_of((folder / "run/checkpoints/latest").resolve())
        manifest = open_dataset(settings.corpus.shards)
        sample = tasks.sample_rows(manifest)
        operations = tasks.operations_per_token(settings, manifest, sample, machine.device)
        # runs count input tokens only: add the target tokens
        per_input = tasks.count_tokens(manifest, sample) / int(sample.lengths.sum())
        length = round(float(sample.lengths.mean()))
        alone = per_input * _cudnn_rate(machine, settings, manifest, length, precision)
    measured = values[1:5]  # the first fifth is start-up
    speed = per_input * statistics.harmonic_mean(v["perf/tokens_per_s"] for v in measured)
    rate = machines.product_rate(machines.DTYPES[precision], on=machine.device)

    def mean(metric: str) -> float:
        return statistics.mean(value[metric] for value in measured)

    return {
        "precision": precision,
        "tokens/s": speed,
        "share of the matmul rate": speed * operations / rate,
        "share of cuDNN alone": speed / alone,
        "share of waiting for data": mean("perf/data_wait_fraction"),
        "share of padding": mean("perf/padding_fraction"),
        "GPU memory, MB": max(v.get("perf/gpu_memory_mb", 0) for v in values),
        "power, W": power.median,
    }


def _run(script: str, *arguments: str) -> None:
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def _cudnn_rate(
    machine: Machine, settings: Config, manifest: Manifest, length: int, precision: str
) -> float:
    """Return input tokens per second of cuDNN's layers alone, forward and backward.

    The layers have the sizes of the model's recurrent layers. They run one after the other, each in
    one call over a batch of rows with `length` tokens and without padding.
    """
    stream, dtype = settings.stream, machines.DTYPES[precision]
    tokens = stream.token_budget // stream.accumulation_steps
    rows, length = (
        (stream.batch_rows, stream.bptt_length)
        if stream.batch_rows
        else (max(tokens // length, 1), length)
    )
    model = get(settings.task.name)(settings.task, settings.model, manifest).build()
    seconds = 0.0
    for layer in (module for module in model.modules() if isinstance(module, Layer)):
        _, inputs = layer.cells[0].input.shape
        kind = layers.TORCH_STACKS[settings.model.cell]
        alone = kind(inputs, layer.cells[0].units, bidirectional=len(layer.cells) == 2)
        alone = alone.to(machine.device, dtype)
        x = torch.randn(length, rows, inputs, device=machine.device, dtype=dtype)
        x.requires_grad_()

        def run(alone: torch.nn.RNNBase = alone, x: torch.Tensor = x) -> None:
            alone(x)[0].sum().backward()

        seconds += median_time(run, machine.device)
    return length * rows / seconds


TRAINING = "Training speed"
"""Table of the report."""

STEPS = (
    Step("product_rates", 30, product_rates),
    Step("default_model", 120, default_model, table=TRAINING),
    Step("gnmt", 150, gnmt, table=TRAINING),
    Step("wide_lstm", 180, wide_lstm, table=TRAINING),
    Step("cudnn_kernels", 120, kernels.cudnn_kernels),
    Step("layer_speeds", 180, layer_speeds),
    Step("update_kernels", 60, kernels.update_kernels),
    Step("graphs", 90, kernels.graphs),
    Step("compiled", 180, kernels.compiled),
)
